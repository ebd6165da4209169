package programs;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.nio.file.Files;
import java.nio.file.Path;

/** Asks its own JVM by jcmd; `hot` is compiled before the snapshot and not run any more. */
public class Attach implements RequestHandler<String, String> {
    static {
        long sum = 0;
        for (int index = 0; index < 50_000; index++) {
            sum += hot(index);
        }
        // The JDK notes the process's number when it is asked for the first time.
        System.out.println("warmed up " + sum + " in process " + ProcessHandle.current().pid());
    }

    static long hot(long value) {
        return value * 31 + (value >>> 3);
    }

    @Override
    public String handleRequest(String command, Context context) {
        try {
            String jcmd = System.getenv("JAVA_HOME") + "/bin/jcmd";
            String self = Long.toString(ProcessHandle.current().pid());
            // Not through a pipe: Java 25 answers holding a lock that a thread which reads the pipe may need.
            Path said = Files.createTempFile("jcmd", ".txt");
            ProcessBuilder asking = new ProcessBuilder(jcmd, self, command).redirectErrorStream(true);
            int status = asking.redirectOutput(said.toFile()).start().waitFor();
            return Files.readString(said) + "\nstatus " + status;
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }
}
