package thaw.runtime;

import com.amazonaws.services.lambda.crac.Core;
import com.amazonaws.services.lambda.crac.Resource;
import com.amazonaws.services.lambda.runtime.api.client.AWSLambda;
import java.util.ArrayList;
import java.util.List;

/**
 * What runs first in a Java function's process: the AWS runtime interface client, with {@link Priming} and
 * {@link Compilers} before the snapshot, {@link Reseeding} and {@link ProcessNumber} after restore.
 */
public final class Start {
    // The client's context holds its resources weakly, so somebody else has to hold these.
    private static final List<Resource> RESOURCES = new ArrayList<>();

    private Start() {}

    public static void main(String[] arguments) throws Throwable {
        if ("snap-start".equals(System.getenv("AWS_LAMBDA_INITIALIZATION_TYPE"))) {
            register(new Compilers());
            if (!"0".equals(System.getenv("THAW_RESEED"))) {
                register(new Reseeding());
            }
            register(new ProcessNumber());
            if (!"0".equals(System.getenv("THAW_PRIME"))) {
                register(new Priming());
            }
        }
        AWSLambda.main(arguments);
    }

    /**
     * Registered before all of the function's: called last before the snapshot, and first after restore, so that the
     * function's own hooks find the client primed and draw fresh numbers.
     */
    private static void register(Resource resource) {
        RESOURCES.add(resource);
        Core.getGlobalContext().register(resource);
    }
}
