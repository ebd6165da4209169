package programs;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.io.IOException;
import java.net.Socket;

/** Keeps a connection from Init that no hook closes; a clone finds it closed, and can make another. */
public class OpenSocket implements RequestHandler<String, String> {
    private static Socket socket = connect();

    private static Socket connect() {
        try {
            return new Socket(System.getenv("HOST"), Integer.parseInt(System.getenv("PORT")));
        } catch (IOException error) {
            throw new IllegalStateException(error);
        }
    }

    @Override
    public String handleRequest(String event, Context context) {
        try {
            socket.getOutputStream().write(1);
            return socket.getInputStream().read() < 0 ? "end" : "open";
        } catch (IOException error) {
            socket = connect();
            try {
                socket.getOutputStream().write(7);
                return error.getClass().getSimpleName() + ", then " + socket.getInputStream().read();
            } catch (IOException again) {
                throw new IllegalStateException(again);
            }
        }
    }
}
