package com.example;

import org.crac.Context;
import org.crac.Core;
import org.crac.Resource;
import java.sql.Connection;
import java.sql.DriverManager;

public class DatabaseClient implements Resource {

    private Connection connection;

    public DatabaseClient() {
        // Register this object for CRaC callbacks
        Core.getGlobalContext().register(this);
        initializeConnection();
    }

    private void initializeConnection() {
        // Create database connection
        // This runs during init AND after restore
        try {
            connection = DriverManager.getConnection(
                System.getenv("DB_URL"),
                System.getenv("DB_USER"),
                System.getenv("DB_PASSWORD")
            );
        } catch (Exception e) {
            throw new RuntimeException("Failed to connect to database", e);
        }
    }

    @Override
    public void beforeCheckpoint(Context<? extends Resource> context) {
        // Called before snapshot is taken
        // Close connections that should not be frozen
        try {
            if (connection != null && !connection.isClosed()) {
                connection.close();
                connection = null;
            }
        } catch (Exception e) {
            // Log but do not fail the checkpoint
            System.err.println("Error closing connection: " + e.getMessage());
        }
    }

    @Override
    public void afterRestore(Context<? extends Resource> context) {
        // Called after snapshot is restored
        // Recreate connections and refresh state
        initializeConnection();

        // Reseed random number generators
        // Refresh cached credentials
        // Restart background tasks
    }

    public Connection getConnection() {
        return connection;
    }
}
