package thaw.runtime;

import com.amazonaws.services.lambda.crac.Core;
import com.amazonaws.services.lambda.runtime.api.client.AWSLambda;

/**
 * What runs first in a Java function's process: the AWS runtime interface client, with {@link Priming} before the
 * snapshot.
 */
public final class Start {
    // The client's context holds its resources weakly, so somebody else has to hold this one.
    private static final Priming PRIMING = new Priming();

    private Start() {}

    public static void main(String[] arguments) throws Throwable {
        if ("snap-start".equals(System.getenv("AWS_LAMBDA_INITIALIZATION_TYPE"))
                && !"0".equals(System.getenv("THAW_PRIME"))) {
            // Registered first, so it is called last before the snapshot: the function's own hooks are through by then.
            Core.getGlobalContext().register(PRIMING);
        }
        AWSLambda.main(arguments);
    }
}
