package thaw.runtime;

import com.amazonaws.services.lambda.crac.Context;
import com.amazonaws.services.lambda.crac.Resource;
import java.io.File;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;

/**
 * Waits before the snapshot until the JVM's compilers have nothing left to do: every clone would go on with it, all with
 * the same, while its first call needs the processor.
 */
final class Compilers implements Resource {
    private static final long QUIET_MS = 40;
    private static final int ROUNDS = 125; // 5 s at most
    private static final File THREADS = new File("/proc/self/task");

    @Override
    public void beforeCheckpoint(Context<? extends Resource> context) throws InterruptedException {
        long before = -1;
        for (int round = 0; round < ROUNDS; round++) {
            long used = processorTime();
            if (used == before) {
                return;
            }
            before = used;
            Thread.sleep(QUIET_MS);
        }
    }

    @Override
    public void afterRestore(Context<? extends Resource> context) {}

    /** What the compilers' threads have used so far, in nanoseconds (schedstat: Documentation/scheduler/sched-stats). */
    private static long processorTime() {
        long sum = 0;
        String[] threads = THREADS.list();
        for (String thread : threads == null ? new String[0] : threads) {
            if (read(thread, "comm").matches("C[12] Compiler.*")) {
                String used = read(thread, "schedstat").split(" ")[0];
                sum += used.isEmpty() ? 0 : Long.parseLong(used);
            }
        }
        return sum;
    }

    /** Empty for a thread that has ended, or a kernel that does not tell. */
    private static String read(String thread, String file) {
        try {
            byte[] content = Files.readAllBytes(new File(THREADS, thread + "/" + file).toPath());
            return new String(content, StandardCharsets.US_ASCII).trim();
        } catch (IOException error) {
            return "";
        }
    }
}
