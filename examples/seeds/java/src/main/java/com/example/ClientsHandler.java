package com.example;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.LinkedHashMap;
import java.util.Map;
import org.apache.http.client.methods.CloseableHttpResponse;
import org.apache.http.client.methods.HttpGet;
import org.apache.http.util.EntityUtils;
import org.crac.Core;
import org.crac.Resource;

/**
 * Uses the articles' three clients; each is made in Init, and works again after restore. With PRIME_URL the HTTP client
 * is primed: a request before the snapshot, as the article on Java advises.
 */
public class ClientsHandler implements RequestHandler<Map<String, String>, Map<String, String>>, Resource {

    private static final DatabaseClient DATABASE = new DatabaseClient();
    private static final TokenCache TOKENS = new TokenCache();
    private static final HttpClientWrapper HTTP = new HttpClientWrapper();

    public ClientsHandler() {
        Core.getGlobalContext().register(this);
    }

    @Override
    public Map<String, String> handleRequest(Map<String, String> event, Context context) {
        Map<String, String> answer = new LinkedHashMap<>();
        answer.put("token", TOKENS.getToken());
        answer.put("database", query(event.getOrDefault("sql", "SELECT 42")));
        if (event.containsKey("url")) {
            answer.put("http", get(event.get("url")));
        }
        return answer;
    }

    @Override
    public void beforeCheckpoint(org.crac.Context<? extends Resource> context) {
        if (System.getenv("PRIME_URL") != null) {
            System.out.println("primed with " + get(System.getenv("PRIME_URL")) + " and " + query("SELECT 42"));
        }
    }

    @Override
    public void afterRestore(org.crac.Context<? extends Resource> context) {}

    private static String query(String sql) {
        try (Statement statement = DATABASE.getConnection().createStatement();
                ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getString(1);
        } catch (Exception error) {
            throw new IllegalStateException(sql, error);
        }
    }

    private static String get(String url) {
        try (CloseableHttpResponse response = HTTP.getHttpClient().execute(new HttpGet(url))) {
            return EntityUtils.toString(response.getEntity());
        } catch (Exception error) {
            throw new IllegalStateException(url, error);
        }
    }
}
