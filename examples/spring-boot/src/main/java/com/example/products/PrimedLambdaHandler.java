package com.example.products;

import com.amazonaws.services.lambda.runtime.Context;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import org.crac.Core;
import org.crac.Resource;

/**
 * The same, primed: requests that change nothing are served before the snapshot, so that the classes they need are loaded
 * and their code is compiled in every clone.
 *
 * <p>The hook is registered after Spring's own, so it runs before Spring closes the database connections.
 */
public class PrimedLambdaHandler extends LambdaHandler implements Resource {
    private static final int ROUNDS = Integer.parseInt(System.getenv().getOrDefault("PRIMING_ROUNDS", "500"));
    private static final String REQUEST = "{\"httpMethod\":\"%s\",\"path\":\"%s\",\"resource\":\"/{proxy+}\","
            + "\"headers\":{\"Accept\":\"application/json\",\"Content-Type\":\"application/json\"},"
            + "\"multiValueHeaders\":{\"Accept\":[\"application/json\"],\"Content-Type\":[\"application/json\"]},"
            + "\"requestContext\":{\"identity\":{},\"httpMethod\":\"%1$s\"},\"body\":%s,\"isBase64Encoded\":false}";

    public PrimedLambdaHandler() {
        Core.getGlobalContext().register(this);
    }

    @Override
    public void beforeCheckpoint(org.crac.Context<? extends Resource> context) throws IOException {
        for (int round = 0; round < ROUNDS; round++) {
            serve("GET", "/products/0", "null");
            serve("GET", "/products", "null");
            // Refused by validation, after all that reading a body takes.
            serve("POST", "/products", "\"{\\\"name\\\":\\\"\\\",\\\"price\\\":0}\"");
        }
    }

    private void serve(String method, String path, String body) throws IOException {
        byte[] event = String.format(REQUEST, method, path, body).getBytes(StandardCharsets.UTF_8);
        CONTAINER.proxyStream(new ByteArrayInputStream(event), new ByteArrayOutputStream(), new NoContext());
    }

    @Override
    public void afterRestore(org.crac.Context<? extends Resource> context) {}

    /** Before the snapshot no call has begun that could have one. */
    private static final class NoContext implements Context {
        @Override
        public String getAwsRequestId() {
            return "priming";
        }

        @Override
        public String getLogGroupName() {
            return "";
        }

        @Override
        public String getLogStreamName() {
            return "";
        }

        @Override
        public String getFunctionName() {
            return System.getenv("AWS_LAMBDA_FUNCTION_NAME");
        }

        @Override
        public String getFunctionVersion() {
            return System.getenv("AWS_LAMBDA_FUNCTION_VERSION");
        }

        @Override
        public String getInvokedFunctionArn() {
            return "";
        }

        @Override
        public com.amazonaws.services.lambda.runtime.CognitoIdentity getIdentity() {
            return null;
        }

        @Override
        public com.amazonaws.services.lambda.runtime.ClientContext getClientContext() {
            return null;
        }

        @Override
        public int getRemainingTimeInMillis() {
            return 60_000;
        }

        @Override
        public int getMemoryLimitInMB() {
            return 0;
        }

        @Override
        public com.amazonaws.services.lambda.runtime.LambdaLogger getLogger() {
            return null;
        }
    }
}
