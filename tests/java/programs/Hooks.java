package programs;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.ArrayList;
import java.util.List;
import org.crac.Core;
import org.crac.Resource;

/** Three resources that note the order in which they are called; FAIL names calls that fail, as "before:one". */
public class Hooks implements RequestHandler<Object, List<String>> {
    private static final List<String> CALLED = new ArrayList<>();
    private static final List<Resource> KEPT = new ArrayList<>();

    static {
        for (String name : List.of("one", "two", "three")) {
            KEPT.add(new Noted(name));
        }
        KEPT.forEach(Core.getGlobalContext()::register);
    }

    @Override
    public List<String> handleRequest(Object event, Context context) {
        return CALLED;
    }

    private static final class Noted implements Resource {
        private final String name;

        private Noted(String name) {
            this.name = name;
        }

        @Override
        public void beforeCheckpoint(org.crac.Context<? extends Resource> context) throws Exception {
            note("before:" + name);
        }

        @Override
        public void afterRestore(org.crac.Context<? extends Resource> context) throws Exception {
            note("after:" + name);
        }

        private static void note(String call) {
            CALLED.add(call);
            System.out.println("called " + call);
            if (List.of(System.getenv().getOrDefault("FAIL", "").split(",")).contains(call)) {
                throw new IllegalStateException("no luck in " + call);
            }
        }
    }
}
