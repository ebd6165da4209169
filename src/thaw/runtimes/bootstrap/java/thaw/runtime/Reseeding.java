package thaw.runtime;

import com.amazonaws.services.lambda.crac.Context;
import com.amazonaws.services.lambda.crac.Resource;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.lang.ref.WeakReference;
import java.lang.reflect.Field;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.Random;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Gives a clone its own streams where the standard library seeds once per process and every clone would go on alike:
 * Math.random, ThreadLocalRandom of each thread, and what new Random() derives its seeds from.
 *
 * <p>SecureRandom and all that rests on it ask the kernel. Generators that the function made itself are its own to
 * reseed, in an afterRestore hook.
 */
final class Reseeding implements Resource {
    private final List<WeakReference<Thread>> threads = new ArrayList<>();
    private Field threadSeed;
    private AtomicLong threadSeeder;
    private AtomicLong uniquifier;
    private Random ofMath;

    /** Finds everything beforehand, so that a clone only sets numbers. */
    @Override
    public void beforeCheckpoint(Context<? extends Resource> context) throws ReflectiveOperationException, IOException {
        threads.clear();
        for (Thread thread : Thread.getAllStackTraces().keySet()) {
            threads.add(new WeakReference<>(thread));
        }
        threadSeed = field(Thread.class, "threadLocalRandomSeed");
        threadSeeder = (AtomicLong) field(ThreadLocalRandom.class, "seeder").get(null);
        uniquifier = (AtomicLong) field(Random.class, "seedUniquifier").get(null);
        // This makes the generator if nobody has used it yet; its first seed is no secret of the snapshot.
        ofMath = (Random) field(Class.forName("java.lang.Math$RandomNumberGeneratorHolder"), "randomNumberGenerator")
                .get(null);
        reseed(); // and everything that this takes is loaded
    }

    @Override
    public void afterRestore(Context<? extends Resource> context) throws IOException, IllegalAccessException {
        reseed();
    }

    private void reseed() throws IOException, IllegalAccessException {
        ByteBuffer seeds = fresh(3 + threads.size());
        ofMath.setSeed(seeds.getLong());
        uniquifier.set(seeds.getLong());
        threadSeeder.set(seeds.getLong());
        for (WeakReference<Thread> reference : threads) {
            Thread thread = reference.get();
            if (thread != null) {
                threadSeed.setLong(thread, seeds.getLong());
            }
        }
    }

    private static Field field(Class<?> owner, String name) throws NoSuchFieldException {
        Field field = owner.getDeclaredField(name);
        field.setAccessible(true);
        return field;
    }

    /** Numbers of the kernel's; SecureRandom might have to be loaded first, with all its providers. */
    private static ByteBuffer fresh(int numbers) throws IOException {
        try (InputStream kernel = new FileInputStream("/dev/urandom")) {
            return ByteBuffer.wrap(kernel.readNBytes(numbers * Long.BYTES));
        }
    }
}
