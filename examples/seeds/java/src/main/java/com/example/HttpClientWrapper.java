package com.example;

import java.io.IOException;
import org.apache.http.impl.client.CloseableHttpClient;
import org.apache.http.impl.client.HttpClients;
import org.apache.http.impl.conn.PoolingHttpClientConnectionManager;
import org.crac.Context;
import org.crac.Core;
import org.crac.Resource;

public class HttpClientWrapper implements Resource {

    private CloseableHttpClient httpClient;

    public HttpClientWrapper() {
        Core.getGlobalContext().register(this);
        createClient();
    }

    private void createClient() {
        httpClient = HttpClients.custom()
            .setConnectionManager(new PoolingHttpClientConnectionManager())
            .build();
    }

    @Override
    public void beforeCheckpoint(Context<? extends Resource> context) {
        try {
            httpClient.close();
        } catch (IOException e) {
            // Log error
        }
    }

    @Override
    public void afterRestore(Context<? extends Resource> context) {
        createClient(); // Fresh connection pool
    }

    // Not in the article, which ends here: who uses the client has to get it.
    public CloseableHttpClient getHttpClient() {
        return httpClient;
    }
}
