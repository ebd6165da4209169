package com.example.products;

import com.zaxxer.hikari.HikariDataSource;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.math.BigDecimal;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import org.crac.Context;
import org.crac.Core;
import org.crac.Resource;
import org.springframework.context.ApplicationContext;
import org.springframework.transaction.PlatformTransactionManager;
import org.springframework.transaction.support.TransactionTemplate;
import org.springframework.web.context.support.WebApplicationContextUtils;

/**
 * The same, primed: every kind of request is served many times before the snapshot, and the database logged in to, so
 * that the classes they need are loaded and their code is compiled in every clone.
 *
 * <p>The container serves a request in the thread that asks it to, so those that change something run in a transaction of
 * this class's, which is rolled back. The hook is registered after Spring's own, so it runs before Spring closes the connections.
 */
public class PrimedLambdaHandler extends LambdaHandler implements Resource {
    private static final int ROUNDS = Integer.parseInt(System.getenv().getOrDefault("PRIMING_ROUNDS", "300"));
    private static final String REQUEST = "{\"httpMethod\":\"%s\",\"path\":\"%s\",\"resource\":\"/{proxy+}\","
            + "\"headers\":{\"Accept\":\"application/json\",\"Content-Type\":\"application/json\"},"
            + "\"multiValueHeaders\":{\"Accept\":[\"application/json\"],\"Content-Type\":[\"application/json\"]},"
            + "\"requestContext\":{\"identity\":{},\"httpMethod\":\"%1$s\"},\"body\":%s,\"isBase64Encoded\":false}";
    private static final String PRODUCT = "\"{\\\"name\\\":\\\"priming\\\",\\\"price\\\":1}\"";
    private static final String REFUSED = "\"{\\\"name\\\":\\\"\\\",\\\"price\\\":0}\"";

    private final ApplicationContext application =
            WebApplicationContextUtils.getRequiredWebApplicationContext(CONTAINER.getServletContext());

    public PrimedLambdaHandler() {
        Core.getGlobalContext().register(this);
    }

    @Override
    public void beforeCheckpoint(Context<? extends Resource> context) throws SQLException {
        for (int round = 0; round < ROUNDS; round++) {
            logIn();
            serve("GET", "/products", null);
            new TransactionTemplate(application.getBean(PlatformTransactionManager.class))
                    .executeWithoutResult(transaction -> {
                        transaction.setRollbackOnly();
                        serveAll();
                    });
        }
    }

    @Override
    public void afterRestore(Context<? extends Resource> context) {}

    /** Replaces the pool's connection by a new one. */
    private void logIn() throws SQLException {
        HikariDataSource database = application.getBean(HikariDataSource.class);
        database.getHikariPoolMXBean().softEvictConnections();
        database.getConnection().close();
    }

    private void serveAll() {
        Product product = new Product(null, "priming", BigDecimal.ONE);
        String path = "/products/" + application.getBean(ProductRepository.class).save(product).id();
        serve("POST", "/products", PRODUCT);
        serve("POST", "/products", REFUSED);
        serve("GET", path, null);
        serve("PUT", path, PRODUCT);
        serve("DELETE", path, null);
        serve("GET", path, null);
    }

    private void serve(String method, String path, String body) {
        byte[] event = String.format(REQUEST, method, path, body).getBytes(StandardCharsets.UTF_8);
        try {
            CONTAINER.proxyStream(new ByteArrayInputStream(event), new ByteArrayOutputStream(), new PrimingContext());
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
