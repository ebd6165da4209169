package programs;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.nio.file.Files;
import java.nio.file.Path;
import javax.crypto.SecretKeyFactory;
import javax.crypto.spec.PBEKeySpec;

/** Asks its own JVM by jcmd; `hot`, and what derives keys, is compiled before the snapshot and not run any more. */
public class Attach implements RequestHandler<String, String> {
    static {
        long sum = 0;
        for (int index = 0; index < 50_000; index++) {
            sum += hot(index);
        }
        for (int round = 0; round < 20; round++) {
            sum += derive();
        }
        // The JDK notes the process's number when it is asked for the first time.
        System.out.println("warmed up " + sum + " in process " + ProcessHandle.current().pid());
    }

    static long hot(long value) {
        return value * 31 + (value >>> 3);
    }

    /** As a login to PostgreSQL does. */
    private static int derive() {
        try {
            PBEKeySpec secret = new PBEKeySpec("password".toCharArray(), new byte[16], 4096, 256);
            return SecretKeyFactory.getInstance("PBKDF2WithHmacSHA256").generateSecret(secret).getEncoded()[0];
        } catch (java.security.GeneralSecurityException error) {
            throw new IllegalStateException(error);
        }
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
