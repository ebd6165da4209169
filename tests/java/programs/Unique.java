package programs;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.security.KeyPairGenerator;
import java.security.SecureRandom;
import java.util.Base64;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;
import javax.crypto.KeyGenerator;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import java.nio.ByteBuffer;

/** Every source of randomness of the standard library, each used once in Init and once in the handler. */
public class Unique implements RequestHandler<Object, Map<String, String>> {
    private static final SecureRandom SECURE = new SecureRandom();
    private static final Random OWN = new Random();
    private static final SplittableRandom SPLITTABLE = new SplittableRandom();
    private static final KeyGenerator KEYS = keys();

    static {
        draw();
    }

    private static KeyGenerator keys() {
        try {
            KeyGenerator keys = KeyGenerator.getInstance("AES");
            keys.init(128);
            return keys;
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    @Override
    public Map<String, String> handleRequest(Object event, Context context) {
        return draw();
    }

    private static Map<String, String> draw() {
        Map<String, String> drawn = new LinkedHashMap<>();
        byte[] bytes = new byte[16];
        SECURE.nextBytes(bytes);
        drawn.put("SecureRandom", Base64.getEncoder().encodeToString(bytes));
        new SecureRandom().nextBytes(bytes);
        drawn.put("new SecureRandom", Base64.getEncoder().encodeToString(bytes));
        drawn.put("UUID.randomUUID", UUID.randomUUID().toString());
        drawn.put("Math.random", Double.toString(Math.random()));
        drawn.put("ThreadLocalRandom", Long.toString(ThreadLocalRandom.current().nextLong()));
        drawn.put("Random of Init", Long.toString(OWN.nextLong()));
        drawn.put("new Random", Long.toString(new Random().nextLong()));
        drawn.put("SplittableRandom of Init", Long.toString(SPLITTABLE.nextLong()));
        drawn.put("AES key", Base64.getEncoder().encodeToString(KEYS.generateKey().getEncoded()));
        drawn.put("EC key", key());
        drawn.put("TLS client random", clientRandom());
        drawn.put("Object.hashCode", Integer.toString(new Object().hashCode()));
        drawn.put("Set.of order", String.join("", Set.of("a", "b", "c", "d", "e", "f", "g")));
        drawn.put("HashMap order", String.join("", new HashMap<>(Map.of("a", 1, "b", 2, "c", 3)).keySet()));
        return drawn;
    }

    private static String key() {
        try {
            KeyPairGenerator pairs = KeyPairGenerator.getInstance("EC");
            pairs.initialize(256);
            return Base64.getEncoder().encodeToString(pairs.generateKeyPair().getPublic().getEncoded());
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    /** The 32 random bytes of a ClientHello, after record header, handshake header and version (RFC 8446, 4.1.2). */
    private static String clientRandom() {
        try {
            SSLEngine engine = SSLContext.getDefault().createSSLEngine("example.com", 443);
            engine.setUseClientMode(true);
            engine.beginHandshake();
            ByteBuffer hello = ByteBuffer.allocate(engine.getSession().getPacketBufferSize());
            engine.wrap(ByteBuffer.allocate(0), hello);
            byte[] random = new byte[32];
            hello.flip().position(5 + 4 + 2);
            hello.get(random);
            return Base64.getEncoder().encodeToString(random);
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }
}
