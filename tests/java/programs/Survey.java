package programs;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.LockSupport;
import java.util.stream.Collectors;

/** Threads in every kind of wait, a heap with contents and compiled code, all made in Init; the handler looks at them. */
public class Survey implements RequestHandler<Map<String, Object>, Map<String, Object>> {
    private static final int WAITERS = 8;
    private static final int BLOCKS = 200;
    private static final AtomicInteger TICKS = new AtomicInteger();
    private static final AtomicInteger NAPS = new AtomicInteger();
    private static final AtomicInteger WOKEN = new AtomicInteger();
    private static final CountDownLatch LATCH = new CountDownLatch(1);
    private static final Object MONITOR = new Object();
    private static final LinkedBlockingQueue<String> QUEUE = new LinkedBlockingQueue<>();
    private static final List<Thread> WAITING = new ArrayList<>();
    private static final List<byte[]> HEAP = new ArrayList<>();
    private static volatile boolean open;

    static {
        ScheduledExecutorService timer = Executors.newScheduledThreadPool(4, Survey::daemon);
        timer.scheduleWithFixedDelay(TICKS::incrementAndGet, 5, 5, TimeUnit.MILLISECONDS);
        start("sleeper", () -> {
            while (true) {
                Thread.sleep(20);
                NAPS.incrementAndGet();
            }
        });
        for (int index = 0; index < WAITERS; index++) {
            wait("latch", LATCH::await);
            wait("monitor", Survey::awaitMonitor);
            wait("queue", QUEUE::take);
            wait("parked", () -> {
                while (!open) {
                    LockSupport.park();
                }
            });
        }
        for (int index = 0; index < BLOCKS; index++) {
            byte[] block = new byte[20_000];
            Arrays.fill(block, (byte) index);
            HEAP.add(block);
        }
        long sum = 0;
        for (int index = 0; index < 50_000; index++) {
            sum += hot(index);
        }
        System.out.println("warmed up " + sum);
    }

    private interface Body {
        void run() throws Exception;
    }

    private static Thread daemon(Runnable task) {
        Thread thread = new Thread(task);
        thread.setDaemon(true);
        return thread;
    }

    private static Thread start(String name, Body body) {
        Thread thread = daemon(() -> {
            try {
                body.run();
            } catch (Exception error) {
                error.printStackTrace();
            }
        });
        thread.setName(name);
        thread.start();
        return thread;
    }

    private static void wait(String name, Body body) {
        WAITING.add(start(name, () -> {
            body.run();
            WOKEN.incrementAndGet();
        }));
    }

    private static void awaitMonitor() throws InterruptedException {
        synchronized (MONITOR) {
            while (!open) {
                MONITOR.wait();
            }
        }
    }

    static long hot(long value) {
        return value * 31 + (value >>> 3);
    }

    @Override
    public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
        try {
            return look();
        } catch (Exception error) {
            throw new IllegalStateException(error);
        }
    }

    private static Map<String, Object> look() throws Exception {
        Map<String, Object> found = new LinkedHashMap<>();
        found.put("threads", Thread.getAllStackTraces().size());
        found.put("ticks", advances(TICKS));
        found.put("naps", advances(NAPS));
        found.put("woken before", WOKEN.get());
        release();
        found.put("woken after", WOKEN.get());
        System.gc();
        found.put("heap", checksum());
        churn();
        found.put("heap after churn", checksum());
        // Nothing of these was ever used before: classes, lambdas and code are made in the clone.
        found.put("loaded", new Later().text());
        return found;
    }

    private static boolean advances(AtomicInteger counter) throws InterruptedException {
        int before = counter.get();
        for (int round = 0; round < 2_000 && counter.get() == before; round++) {
            Thread.sleep(5);
        }
        return counter.get() > before;
    }

    private static void release() throws InterruptedException {
        open = true;
        LATCH.countDown();
        synchronized (MONITOR) {
            MONITOR.notifyAll();
        }
        for (Thread thread : WAITING) {
            QUEUE.add("go");
            LockSupport.unpark(thread);
        }
        for (Thread thread : WAITING) {
            thread.join(20_000);
        }
    }

    private static long checksum() {
        long sum = 0;
        for (byte[] block : HEAP) {
            for (byte each : block) {
                sum += each & 0xff;
            }
        }
        return sum;
    }

    /** Garbage many times the size of the young generation. */
    private static void churn() {
        long kept = 0;
        for (int index = 0; index < 30_000; index++) {
            kept += new byte[10_000].length;
        }
        if (kept != 300_000_000L) {
            throw new IllegalStateException("lost " + kept);
        }
    }

    /** Loaded by the first call only. */
    static final class Later {
        String text() {
            return List.of("b", "a").stream().sorted().map(String::toUpperCase).collect(Collectors.joining("-"));
        }
    }
}
