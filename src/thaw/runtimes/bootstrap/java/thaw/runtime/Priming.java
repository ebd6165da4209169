package thaw.runtime;

import com.amazonaws.services.lambda.crac.Context;
import com.amazonaws.services.lambda.crac.Core;
import com.amazonaws.services.lambda.crac.Resource;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import com.amazonaws.services.lambda.runtime.api.client.EventHandlerLoader;
import com.amazonaws.services.lambda.runtime.api.client.HandlerInfo;
import com.amazonaws.services.lambda.runtime.api.client.LambdaRequestHandler;
import com.amazonaws.services.lambda.runtime.api.client.runtimeapi.dto.InvocationRequest;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import software.amazon.awssdk.utilslite.SdkInternalThreadLocal;

/**
 * Runs the client's own way from an event to an answer a few times before the snapshot.
 *
 * <p>Without it each clone loads and initialises some hundred classes of the client on its first call. Nothing of the
 * function is run: the calls go to handlers of this class. Of the function only the types of its handler's event and
 * answer are looked at, so that the client has their serializers ready.
 */
final class Priming implements Resource {
    private static final int ROUNDS = 30;
    private static final String EVENT =
            "{\"text\":\"a\\u00e4\",\"number\":1,\"real\":1.5,\"truth\":true,\"nothing\":null,\"list\":[1,\"b\"],"
                    + "\"map\":{\"key\":\"value\"}}";

    private static final String MANAGEMENT = "org.crac.management.CRaCMXBean";

    /** What the client and the JDK load between restore and the first answer besides; some only in some versions. */
    private static final List<String> CLASSES = List.of(
            "com.amazonaws.services.lambda.runtime.api.client.util.ConcurrencyConfig",
            "jdk.internal.event.ThreadSleepEvent",
            "sun.net.www.http.KeepAliveCache$1",
            "sun.net.www.http.KeepAliveCache$ClientVector",
            "sun.net.www.http.ClientVector",
            "sun.net.www.http.KeepAliveEntry",
            "sun.net.www.http.KeepAliveStream",
            "sun.net.www.protocol.http.EmptyInputStream",
            "sun.net.www.protocol.http.HttpURLConnection$HttpInputStream");

    @Override
    public void beforeCheckpoint(Context<? extends Resource> context) throws Exception {
        primeRestore();
        for (Class<?> handler : List.of(OfMaps.class, OfText.class)) {
            LambdaRequestHandler loaded = EventHandlerLoader.loadEventHandler(new HandlerInfo(handler, null));
            String event = handler == OfText.class ? "\"text\"" : EVENT;
            for (int round = 0; round < ROUNDS; round++) {
                loaded.call(request(event));
            }
        }
        primeTypes();
    }

    @Override
    public void afterRestore(Context<? extends Resource> context) {}

    /** Loads what the way from restore/next to the first call needs. */
    private static void primeRestore() throws ReflectiveOperationException {
        for (String name : CLASSES) {
            try {
                Class.forName(name);
            } catch (ClassNotFoundException error) {
                continue; // this JDK has it under another name, and then loads it when it is needed
            }
        }
        primeManagement();
        // Links the lambdas that sort the hooks for afterRestore; beforeCheckpoint has others.
        Object hooks = Core.getGlobalContext();
        Method sorted = hooks.getClass().getDeclaredMethod("getCheckpointQueueForwardOrderOfRegistration");
        sorted.setAccessible(true);
        sorted.invoke(hooks);
        SdkInternalThreadLocal.put("thaw", "priming");
        SdkInternalThreadLocal.remove("thaw");
    }

    /** Frameworks ask how long ago the restore was, to log it; the library that tells is the function's. */
    private static void primeManagement() throws ReflectiveOperationException {
        Class<?> bean;
        try {
            bean = Class.forName(MANAGEMENT, true, Thread.currentThread().getContextClassLoader());
        } catch (ClassNotFoundException error) {
            return; // it uses no org.crac, or one without this part
        }
        bean.getMethod("getUptimeSinceRestore").invoke(bean.getMethod("getCRaCMXBean").invoke(null));
    }

    private static InvocationRequest request(String event) {
        InvocationRequest request = new InvocationRequest();
        request.setId("00000000-0000-0000-0000-000000000000");
        request.setInvokedFunctionArn("arn:aws:lambda:us-east-1:000000000000:function:priming");
        request.setDeadlineTimeInMs(System.currentTimeMillis() + 1000);
        request.setContent(event.getBytes(StandardCharsets.UTF_8));
        return request;
    }

    /** Makes the serializers of the function's event and answer, as the first call would. */
    private static void primeTypes() throws ReflectiveOperationException {
        Class<?> platforms = Class.forName(EventHandlerLoader.class.getName() + "$Platform");
        Object unknown = Arrays.stream(platforms.getEnumConstants())
                .filter(each -> each.toString().equals("UNKNOWN"))
                .findFirst()
                .orElseThrow();
        Method cached = EventHandlerLoader.class.getDeclaredMethod("getSerializerCached", platforms, Type.class);
        cached.setAccessible(true);
        for (Type type : handledTypes()) {
            try {
                cached.invoke(null, unknown, type);
            } catch (ReflectiveOperationException error) {
                // A type without a serializer: the first call fails with the client's own words, as it does on Lambda.
                return;
            }
        }
    }

    private static List<Type> handledTypes() throws ReflectiveOperationException {
        String[] handler = System.getenv("_HANDLER").split("::", 2);
        ClassLoader loader = Thread.currentThread().getContextClassLoader();
        Class<?> type;
        try {
            type = Class.forName(handler[0], false, loader);
        } catch (ClassNotFoundException | LinkageError error) {
            return List.of(); // what the client says of it, at the first call, is what Lambda says
        }
        if (RequestHandler.class.isAssignableFrom(type)) {
            for (Type each : type.getGenericInterfaces()) {
                if (each instanceof ParameterizedType
                        && ((ParameterizedType) each).getRawType() == RequestHandler.class) {
                    return List.of(((ParameterizedType) each).getActualTypeArguments());
                }
            }
            return List.of();
        }
        if (handler.length == 2) {
            for (Method method : type.getMethods()) {
                boolean one = method.getName().equals(handler[1]) && method.getParameterCount() > 0;
                if (one && !method.isBridge() && Modifier.isPublic(method.getModifiers())) {
                    return List.of(method.getGenericParameterTypes()[0], method.getGenericReturnType());
                }
            }
        }
        return List.of();
    }

    /** Answers an object with that object. */
    public static final class OfMaps implements RequestHandler<Map<String, Object>, Map<String, Object>> {
        @Override
        public Map<String, Object> handleRequest(
                Map<String, Object> event, com.amazonaws.services.lambda.runtime.Context context) {
            return event;
        }
    }

    /** Answers text with text put together in the usual ways: each way is linked by classes made on first use. */
    public static final class OfText implements RequestHandler<String, String> {
        @Override
        public String handleRequest(String event, com.amazonaws.services.lambda.runtime.Context context) {
            Object object = event;
            int number = event.length();
            long large = number;
            String text = "before " + object;
            text = event + " after " + object;
            text = "before " + event + " between " + text + " after";
            text = "before " + large + " between " + text;
            text = "before " + large + " after";
            return "before " + number + " between " + object + " and " + text;
        }
    }
}
