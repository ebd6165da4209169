package com.example.notes;

import io.quarkus.logging.Log;
import io.quarkus.runtime.Startup;
import jakarta.annotation.PostConstruct;
import jakarta.enterprise.context.ApplicationScoped;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.sql.Statement;
import org.crac.Context;
import org.crac.Core;
import org.crac.Resource;
import org.eclipse.microprofile.config.inject.ConfigProperty;

/**
 * The one connection that an environment needs, which serves one call at a time.
 *
 * <p>It is closed before the snapshot, and each clone opens its own before its first call.
 */
@Startup(1)
@ApplicationScoped
public class Database implements Resource {
    @ConfigProperty(name = "db.url")
    String url;

    @ConfigProperty(name = "db.user")
    String user;

    @ConfigProperty(name = "db.password")
    String password;

    private Connection connection;

    @PostConstruct
    void start() {
        try {
            open();
            try (Statement statement = connection.createStatement()) {
                statement.execute("CREATE TABLE IF NOT EXISTS note"
                        + " (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, text TEXT NOT NULL)");
            }
        } catch (SQLException error) {
            throw new IllegalStateException("the database cannot be used", error);
        }
        Core.getGlobalContext().register(this);
    }

    public Connection connection() {
        return connection;
    }

    @Override
    public void beforeCheckpoint(Context<? extends Resource> context) throws SQLException {
        connection.close();
        Log.info("connection closed");
    }

    @Override
    public void afterRestore(Context<? extends Resource> context) throws SQLException {
        open();
    }

    private void open() throws SQLException {
        connection = DriverManager.getConnection(url, user, password);
        Log.info("connection opened");
    }
}
