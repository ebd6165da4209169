package thaw.runtime;

import com.amazonaws.services.lambda.crac.Context;
import com.amazonaws.services.lambda.crac.Resource;
import java.lang.reflect.Field;
import java.lang.reflect.Method;

/**
 * Tells ProcessHandle.current() the clone's own process number: the JDK asks the kernel once per process, and whoever
 * starts or signals a process by the number of the one that was frozen would reach another, or none.
 */
final class ProcessNumber implements Resource {
    private ProcessHandle current;
    private Field number;
    private Field startTime;
    private Method ask;
    private Method askStartTime;

    /** Finds everything beforehand, so that a clone only sets numbers. */
    @Override
    public void beforeCheckpoint(Context<? extends Resource> context) throws ReflectiveOperationException {
        current = ProcessHandle.current();
        Class<?> type = current.getClass();
        number = type.getDeclaredField("pid");
        startTime = type.getDeclaredField("startTime");
        ask = type.getDeclaredMethod("getCurrentPid0");
        askStartTime = type.getDeclaredMethod("isAlive0", long.class);
        number.setAccessible(true);
        startTime.setAccessible(true);
        ask.setAccessible(true);
        askStartTime.setAccessible(true);
        renew(); // and everything that this takes is loaded
    }

    @Override
    public void afterRestore(Context<? extends Resource> context) throws ReflectiveOperationException {
        renew();
    }

    private void renew() throws ReflectiveOperationException {
        Object own = ask.invoke(null);
        number.set(current, own);
        startTime.set(current, askStartTime.invoke(null, own));
    }
}
