package com.example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import org.crac.Resource;
import org.crac.Core;

public class HelloHandler implements RequestHandler<String, String>, Resource {

    public HelloHandler() {
        // The article's text lost this line and the closing braces.
        Core.getGlobalContext().register(this);
    }

    public String handleRequest(String name, Context context) {
        System.out.println("Handler execution");
        return "Hello " + name;
    }

    public void beforeCheckpoint(org.crac.Context<? extends Resource> context) throws Exception {
        System.out.println("Before Checkpoint");
    }

    public void afterRestore(org.crac.Context<? extends Resource> context) throws Exception {
        System.out.println("After Restore");
    }
}
