#!/bin/sh
# Starts the function's JVM with the AWS runtime interface client, as /var/runtime/bootstrap:
#   bootstrap <java> <major version>
# HotSpot reads JAVA_TOOL_OPTIONS before its arguments, so a flag here would overrule what a function sets there, and two
# collectors are an error: what functions do choose (collector, tiers, heap) is left out here where they name it.
set -eu
java=$1
major=$2
shift 2
options=" ${JAVA_TOOL_OPTIONS:-} ${JDK_JAVA_OPTIONS:-} "

# 85 % of the function's memory, as on Lambda; the rest is for classes, code, stacks and buffers.
case $options in
*" -Xmx"* | *MaxHeapSize* | *MaxRAM*) ;;
*) set -- "$@" "-XX:MaxHeapSize=$((AWS_LAMBDA_FUNCTION_MEMORY_SIZE * 870))k" ;;
esac

# One thread, a compact heap, no large tables beside it: least to store, and least for a clone to write.
case $options in
*"GC "*) ;;
*) set -- "$@" -XX:+UseSerialGC ;;
esac

# The first compiler only, as on Lambda: a short life never pays the second. In clones of a snapshot that goes for every
# version: the second compiler of each would set to work on its first call, on the same code in all of them.
case $options in
*Tiered*) ;;
*)
    case $major:$AWS_LAMBDA_INITIALIZATION_TYPE in
    11:on-demand | 11:provisioned-concurrency | 25:provisioned-concurrency) ;;
    *) set -- "$@" -XX:TieredStopAtLevel=1 ;;
    esac
    ;;
esac

runtime=${LAMBDA_RUNTIME_DIR:-/var/runtime}
classes=
for jar in "$runtime"/*.jar; do
    classes="$classes${classes:+:}$jar"
done
main=com.amazonaws.services.lambda.runtime.api.client.AWSLambda
if [ -f "$runtime/thaw-start.jar" ]; then
    main=thaw.runtime.Start
    # Where the generators are that it reseeds.
    for package in java.lang java.util java.util.concurrent; do
        set -- "$@" "--add-opens=java.base/$package=ALL-UNNAMED"
    done
fi

# Performance counters (UsePerfData) would be a shared mapping of a file in /tmp, of which each clone needs a copy.
# shellcheck disable=SC2086 # a wrapper may have arguments
exec ${AWS_LAMBDA_EXEC_WRAPPER:-} "$java" \
    -XX:-UsePerfData -Xshare:auto "$@" \
    --add-opens=java.base/java.io=ALL-UNNAMED \
    -Dorg.crac.Core.Compat=com.amazonaws.services.lambda.crac \
    "-Dcom.amazonaws.services.lambda.runtime.api.client.runtimeapi.NativeClient.JNI=$runtime/libaws-lambda-jni.so" \
    -classpath "$classes" "$main" "$_HANDLER"
