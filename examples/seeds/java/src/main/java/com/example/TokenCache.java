package com.example;

import org.crac.Context;
import org.crac.Core;
import org.crac.Resource;

public class TokenCache implements Resource {
    private String token;

    public TokenCache() {
        Core.getGlobalContext().register(this);
        refreshToken();
    }

    @Override
    public void afterRestore(Context<? extends Resource> context) {
        refreshToken(); // Get fresh token
    }

    private void refreshToken() {
        token = fetchToken();
    }

    // Not in the article: the interface's other method, what a token is, and who gets it.
    @Override
    public void beforeCheckpoint(Context<? extends Resource> context) {}

    private static String fetchToken() {
        return java.util.UUID.randomUUID().toString();
    }

    public String getToken() {
        return token;
    }
}
