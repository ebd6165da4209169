package com.example.products;

import com.amazonaws.serverless.exceptions.ContainerInitializationException;
import com.amazonaws.serverless.proxy.model.AwsProxyRequest;
import com.amazonaws.serverless.proxy.model.AwsProxyResponse;
import com.amazonaws.serverless.proxy.spring.SpringBootLambdaContainerHandler;
import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestStreamHandler;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;

/** API Gateway's events (REST API, or HTTP API with payload format 1.0) for the application. */
public class LambdaHandler implements RequestStreamHandler {
    protected static final SpringBootLambdaContainerHandler<AwsProxyRequest, AwsProxyResponse> CONTAINER = start();

    private static SpringBootLambdaContainerHandler<AwsProxyRequest, AwsProxyResponse> start() {
        try {
            return SpringBootLambdaContainerHandler.getAwsProxyHandler(Application.class);
        } catch (ContainerInitializationException error) {
            throw new IllegalStateException("the application did not start", error);
        }
    }

    @Override
    public void handleRequest(InputStream event, OutputStream answer, Context context) throws IOException {
        CONTAINER.proxyStream(event, answer, context);
    }
}
