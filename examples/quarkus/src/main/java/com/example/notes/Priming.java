package com.example.notes;

import io.quarkus.amazon.lambda.runtime.QuarkusStreamHandler;
import io.quarkus.runtime.Startup;
import jakarta.annotation.PostConstruct;
import jakarta.enterprise.context.ApplicationScoped;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.crac.Context;
import org.crac.Core;
import org.crac.Resource;

/**
 * Requests that change nothing are served before the snapshot, so that the classes they need are loaded and their code is
 * compiled in every clone.
 *
 * <p>The bean starts after {@link Database}, so its hook runs before the connection is closed.
 */
@Startup(2)
@ApplicationScoped
public class Priming implements Resource {
    private static final int ROUNDS = 50;
    private static final String REQUEST = "{\"httpMethod\":\"%s\",\"path\":\"%s\",\"multiValueHeaders\":{\"Accept\":"
            + "[\"application/json\"],\"Content-Type\":[\"application/json\"]},\"body\":%s,\"isBase64Encoded\":false}";

    @PostConstruct
    void start() {
        Core.getGlobalContext().register(this);
    }

    @Override
    public void beforeCheckpoint(Context<? extends Resource> context) throws IOException {
        for (int round = 0; round < ROUNDS; round++) {
            serve("GET", "/notes", "null", 200);
            serve("GET", "/notes/0", "null", 404);
            // Refused, after all that reading a body takes.
            serve("POST", "/notes", "\"{\\\"text\\\":\\\"\\\"}\"", 400);
        }
    }

    private static void serve(String method, String path, String body, int expected) throws IOException {
        byte[] event = String.format(REQUEST, method, path, body).getBytes(StandardCharsets.UTF_8);
        ByteArrayOutputStream answer = new ByteArrayOutputStream();
        // Before the snapshot no call has begun that could have a context.
        new QuarkusStreamHandler().handleRequest(new ByteArrayInputStream(event), answer, null);
        String said = answer.toString(StandardCharsets.UTF_8);
        if (!said.contains("\"statusCode\":" + expected)) {
            throw new IllegalStateException(method + " " + path + " was answered with " + said);
        }
    }

    @Override
    public void afterRestore(Context<? extends Resource> context) {}
}
