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

# The JVM would collect garbage in full when its classes reach 21 MiB, which most functions do in Init: it takes time, and
# with it goes a hook that the function registered without keeping it, which the context holds weakly.
case $options in
*MetaspaceSize*) ;;
*) set -- "$@" -XX:MetaspaceSize=256m ;;
esac

runtime=${LAMBDA_RUNTIME_DIR:-/var/runtime}

# The first compiler only, as on Lambda: a short life never pays the second. In clones of a snapshot that goes for every
# version: the second compiler of each would set to work on its first call, on the same code in all of them. But logging
# in to a database or a TLS handshake, which is what clones begin with, takes six times as long in code of the first
# compiler, which does not know the processor's instructions for it: for cryptography alone (compilers.json) there is the
# second one. Code that it must not compile is profiled for a moment and then compiled by the first one without
# profiling, as if there were no second; these thresholds make the moment short. What is not compiled would be listed in
# the function's log; DisplayVMOutput keeps it out.
case $options in
*Tiered* | *CompilerDirectives*) ;;
*)
    case $major:$AWS_LAMBDA_INITIALIZATION_TYPE in
    *:snap-start)
        set -- "$@" -XX:+UnlockDiagnosticVMOptions "-XX:CompilerDirectivesFile=$runtime/compilers.json" \
            -XX:CompileCommand=quiet -XX:TieredStopAtLevel=4 -XX:Tier3InvokeNotifyFreqLog=3 \
            -XX:Tier3BackedgeNotifyFreqLog=10 -XX:Tier4InvocationThreshold=16 -XX:Tier4MinInvocationThreshold=8 \
            -XX:Tier4CompileThreshold=64 -XX:Tier4BackEdgeThreshold=4000
        case $options in
        *DisplayVMOutput*) ;;
        *) set -- "$@" -XX:-DisplayVMOutput ;;
        esac
        ;;
    11:on-demand | 11:provisioned-concurrency | 25:provisioned-concurrency) ;;
    *) set -- "$@" -XX:TieredStopAtLevel=1 ;;
    esac
    ;;
esac

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
