"""The phases of one execution environment: Init or Restore, then Invoke after Invoke, and its end."""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable
from enum import Enum
from typing import Self
from uuid import uuid4

from thaw.environment import control, extending, furnishing, log_format
from thaw.environment.cloning import CloneRequest, FillTmp, Thaw
from thaw.environment.failure import Exit, document
from thaw.environment.invocation import Invocation, InvocationResult
from thaw.environment.log_pipe import LogPipe
from thaw.environment.memory_use import MemoryUse
from thaw.environment.outcome import Answered, Failed, Outcome, TimedOut
from thaw.environment.runtime_api.conversation import State
from thaw.environment.runtime_api.extensions import LIMIT, Extensions, FrozenExtension, Metadata
from thaw.environment.runtime_api.http import RESTORED, Sink
from thaw.environment.sandbox import Sandbox
from thaw.environment.scarcity import scarce
from thaw.environment.settings import FunctionSettings, WaitsIn
from thaw.environment.streaming import ResponseStream, Source
from thaw.environment.users import FUNCTION_UID
from thaw.environment.variables import function_variables
from thaw.errors import InitFailed, InitTimedOut, RestoreFailed, RestoreHookFailed, RestoreTimedOut, SandboxError
from thaw.observe.log_stream import LogStream
from thaw.observe.platform_lines import Report

# A call that follows at once finds the processes still running; freezing and thawing them for nothing is saved.
_FREEZE_DELAY_S = 0.002
# What a process sent before it ended is read first; the news of its end may overtake it in the event loop. Where its
# connections stay open, because other processes hold them too, this many rounds of the loop without a word end it.
_QUIET_ROUNDS = 32
# After the answer; extensions that are quicker leave the environment free for the next call of the same caller.
_EXTENSIONS_GRACE_S = 0.01


# Called with the runtime's answer (document, error type or "") while extensions still work.
OnAnswer = Callable[[bytes, str], None]


class Phase(Enum):
    """Where an environment stands. Only an IDLE one takes an invocation."""

    INIT = "init"
    RESTORE = "restore"
    IDLE = "idle"
    INVOKE = "invoke"
    ENDED = "ended"
    CLOSED = "closed"


class Environment:
    """One sandboxed process tree that serves one invocation at a time; frozen in between.

    All methods belong to the event loop's thread. After a failure of any phase only `close` is left.
    """

    def __init__(self, sandbox: Sandbox, settings: FunctionSettings, log: LogStream, phase: Phase) -> None:
        self.id = sandbox.id
        self.settings = settings
        self.phase = phase
        self.log = log
        self.on_first_answer: Callable[[], None] | None = None
        """Called when the first invocation is over and the function lives on."""
        self.invocations = 0
        self.never_ran: Callable[[], RestoreFailed | None] = lambda: None
        """Why a clone that has ended never became the function; None where it did."""
        self.runtime_connection_port = 0
        self.waits_in: WaitsIn = "restore/next"
        self.credentials_token = settings.credentials_token or str(uuid4())
        self._sandbox = sandbox
        self._group = sandbox.group
        self._loop = asyncio.get_running_loop()
        self._lines = log_format.platform_lines(settings)
        self._pipe = LogPipe(log, sandbox.worker.log_limit, log_format.application_filter(settings))
        self._memory = MemoryUse()
        self._began = time.perf_counter()
        self._released = self._began
        self._outcome: asyncio.Future[Outcome] = self._loop.create_future()
        self._answer: Answered | None = None
        self._on_answer: OnAnswer | None = None
        self._answering: asyncio.TimerHandle | None = None
        self._runtime_done = 0.0
        self._stream: ResponseStream | None = None
        self._exit: Exit | None = None
        self._freezing: asyncio.TimerHandle | None = None
        self._first_report: dict[str, float | int] = {}
        self._cpu_limited = False
        self._host_pid = 0
        self._end_reason = "spindown"
        self._awaits_extensions = False
        self._starting: asyncio.Task[None] | None = None
        metadata = Metadata(settings.function_name, settings.version, settings.handler, settings.account_id)
        self._extensions = Extensions(metadata)
        self._converse()

    # -- beginnings --

    @classmethod
    async def _over(cls, sandbox: Sandbox, settings: FunctionSettings, log: LogStream, phase: Phase) -> Self:
        """Takes `sandbox` over, or destroys it."""
        try:
            return cls(sandbox, settings, log, phase)
        except OSError as error:
            await sandbox.close()
            raise scarce("The log's pipe of an environment", error, step="pipe2") from error

    @classmethod
    async def launch(cls, sandbox: Sandbox, settings: FunctionSettings, log: LogStream) -> Self:
        """Start the runtime afresh in `sandbox`, which is the environment's from now on.

        Await `initialised` next. Raises SandboxError; the sandbox is then destroyed.
        """
        self = await cls._over(sandbox, settings, log, Phase.INIT)
        try:
            log.append(self._lines.init_start())
            self._furnish(None)
            names = extending.extension_names(settings)
            if len(names) > LIMIT:
                kind = "Extension.TooManyExtensions"
                message = f"Extension limit ({LIMIT}) reached: /opt/extensions holds {len(names)} files"
                self._settle(Failed(kind, document(kind, message, "")))
            elif names:
                self._awaits_extensions = True
                given = (self.credentials_token, log.name)
                await extending.start_extensions(sandbox, settings, names, self._pipe.write_end, given)
                self.extension_registered()
            else:
                await self._start_runtime()
        except BaseException:
            await self.close()
            raise
        return self

    async def _start_runtime(self) -> None:
        sandbox, settings = self._sandbox, self.settings
        variables = function_variables(settings, self.credentials_token, self.log.name)
        packet = control.start(furnishing.confinement(), "/var/task", settings.runtime.argv, variables)
        started = sandbox.start(packet, self._pipe.write_end)
        self._pipe.close_write_end()
        number = await started
        self._host_pid = sandbox.function_pid(number)
        self._memory.watch(self._host_pid)

    @classmethod
    async def restore(
        cls, sandbox: Sandbox, settings: FunctionSettings, log: LogStream, thaw: Thaw, tmp: FillTmp | None = None
    ) -> Self:
        """Let `thaw` put a clone into `sandbox`, which is the environment's from now on.

        `tmp` fills the clone's /tmp first. Await `restored` next. Raises SandboxError and what `thaw` raises; the
        sandbox is then destroyed.
        """
        self = await cls._over(sandbox, settings, log, Phase.RESTORE)
        try:
            try:
                await self._clone(thaw, tmp, at_once=True)
            finally:
                log.append(self._lines.restore_start())
        except BaseException:
            await self.close()
            raise
        return self

    @classmethod
    async def fork_ahead(
        cls, sandbox: Sandbox, settings: FunctionSettings, thaw: Thaw, tmp: FillTmp | None = None
    ) -> Self:
        """As `restore`, before there is a call: the clone that `thaw` makes waits for `begin`."""
        silent = LogStream(None, settings.log_group, settings.version)
        self = await cls._over(sandbox, settings, silent, Phase.RESTORE)
        try:
            await self._clone(thaw, tmp, at_once=False)
        except BaseException:
            await self.close()
            raise
        return self

    @property
    def waiting(self) -> bool:
        """Whether it was forked ahead, and can `begin`."""
        return self.phase is Phase.RESTORE and self._exit is None and self._sandbox.alive

    @property
    def ended_waiting(self) -> bool:
        """Whether its clone ended before it took one step as the function, although it seemed to wait for its call."""
        return self._sandbox.clone_ended_waiting

    def begin(self, log: LogStream) -> None:
        """The call has come: the clone goes on, and `log` is its log. Await `restored` next.

        Raises SandboxError, or OSError where the clone has ended meanwhile.
        """
        self.log = self._pipe.log = log
        self._began = self._released = time.perf_counter()
        self._let_go()
        log.append(self._lines.restore_start())

    async def _clone(self, thaw: Thaw, tmp: FillTmp | None, *, at_once: bool) -> None:
        """The hot path: whatever can wait until the clone runs waits until then, the first line of the log too."""
        sandbox = self._sandbox
        attached = self._furnish(tmp)
        if at_once:
            self._let_go()
        await attached
        self._released = time.perf_counter()
        cloned = await thaw(self._clone_request())
        sandbox.watch_clone(cloned.pidfd)
        self._pipe.close_write_end()
        self._host_pid = cloned.pid
        self._memory.watch(cloned.pid)
        if numbers := [each.number for each in self.settings.extensions if each.number]:
            sandbox.watch(numbers)

    def _let_go(self) -> None:
        if self.settings.waits_in == "restore/next":
            self._sandbox.answer_ahead(RESTORED)
        else:
            self._settle(Answered(b""))  # it has nothing to say before there is an invocation

    def _converse(self) -> None:
        """Take over the sandbox's Runtime API."""
        conversation = self._sandbox.conversation
        conversation.state = State.RESTORING if self.phase is Phase.RESTORE else State.STARTED
        conversation.snap_start = self.settings.initialization_type == "snap-start"
        conversation.credentials = self.settings.credentials
        conversation.token = self.credentials_token
        conversation.observer = self
        conversation.extensions = self._extensions
        self._extensions.recall(self.settings.extensions if self.phase is Phase.RESTORE else ())
        self._extensions.open = self.phase is Phase.INIT
        self._sandbox.on_extension_exit = self._extension_exited
        if self.phase is Phase.RESTORE and self.settings.waits_in == "invocation/next":
            conversation.state, conversation.waiter = State.READY, self._sandbox.prepared
        self._sandbox.on_exit = self._exited

    def _furnish(self, tmp: FillTmp | None) -> asyncio.Future[None]:
        """Limits and mounts."""
        self._group.limit_memory((self.settings.memory_mib + self.settings.ephemeral_mib) << 20)
        places = furnishing.make_mounts(self.settings, self._sandbox.users)
        if tmp is not None:
            tmp(places[0][1], self._sandbox.identity.outside if self._sandbox.identity else {})
        return self._sandbox.attach(places)

    def _clone_request(self) -> CloneRequest:
        confinement = furnishing.confinement()
        return CloneRequest(
            sandbox_pidfd=self._sandbox.init_pidfd,
            connection_fd=self._sandbox.function_end,
            log_fd=self._pipe.write_end,
            cgroup_fd=self._group.folder,
            uid=FUNCTION_UID,
            gid=FUNCTION_UID,
            seccomp_filter=confinement.seccomp,
            host_id=self._sandbox.identity.user if self._sandbox.identity else None,
        )

    # -- Init and Restore --

    async def initialised(self, limit_s: float, request_id: str = "") -> None:
        """Wait until the runtime asks for an invocation (with SnapStart: for its restore).

        `request_id` is of the call whose time a second try of Init takes, if any; it goes into the error.
        Raises InitFailed or InitTimedOut, with the document for the caller.
        """
        outcome = await self._finish(limit_s)
        duration_ms = (time.perf_counter() - self._began) * 1000
        self._extensions.open = False
        for each in self._extensions:
            self.log.append(self._lines.extension(each.name, each.state, each.events, each.error_type))
        if isinstance(outcome, Answered):
            self.phase = Phase.IDLE
            if self.settings.initialization_type == "on-demand":
                self._first_report = {"init_ms": duration_ms}
            self.log.append(self._lines.init_report(duration_ms))
            return
        self.phase = Phase.ENDED
        self._log_exit(outcome, request_id)
        self.log.append(self._lines.init_report(duration_ms, outcome.ending, again=bool(request_id)))
        payload = outcome.payload(request_id, limit_s)
        if isinstance(outcome, TimedOut):
            message = f"The Init phase did not end within {limit_s:g} seconds; raise the timeout or do less in it."
            raise InitTimedOut(message, error_type=outcome.error_type, payload=payload)
        raise InitFailed(f"The Init phase failed: {outcome.summary}.", error_type=outcome.error_type, payload=payload)

    async def restored(self, limit_s: float, request_id: str = "") -> None:
        """Wait until the clone's runtime asks for an invocation. Raises RestoreHookFailed or RestoreTimedOut."""
        outcome = await self._finish(limit_s)
        now = time.perf_counter()
        duration_ms = (now - self._began) * 1000
        if isinstance(outcome, Answered):
            self.phase = Phase.IDLE
            billed = math.ceil((now - self._released) * 1000)
            self._first_report = {"restore_ms": duration_ms, "billed_restore_ms": billed}
            self.log.append(self._lines.restore_report(duration_ms))
            self._join_groups()
            return
        self.phase = Phase.ENDED
        self._log_exit(outcome, request_id)
        self.log.append(self._lines.restore_report(duration_ms, outcome.ending))
        payload = outcome.payload(request_id, limit_s)
        if isinstance(outcome, TimedOut):
            message = f"The Restore phase did not end within {limit_s:g} seconds; do less in after-restore hooks."
            raise RestoreTimedOut(message, error_type=outcome.error_type, payload=payload)
        message = f"The Restore phase failed: {outcome.summary}."
        raise RestoreHookFailed(message, error_type=outcome.error_type, payload=payload)

    def _join_groups(self) -> None:
        """A clone is born in its version 2 group only; the others are joined where waiting for the kernel harms
        nobody."""
        if not self._group.files.limits2:
            self._loop.run_in_executor(self._sandbox.thread, self._join_all)

    def _join_all(self) -> None:
        """Who was forked by a process before it was moved is found the next time that all are looked for."""
        joined: set[int] = set()
        waiting = {self._host_pid}
        while waiting:
            for pid in waiting:
                self._join(pid)
            joined |= waiting
            waiting = self._sandbox.processes(self._host_pid) - joined if self.settings.is_tree else set()

    def _join(self, pid: int) -> None:
        if self.phase is not Phase.CLOSED:
            try:
                self._group.add(pid)
            except (ProcessLookupError, FileNotFoundError):
                return  # it has ended, or its environment has; that is reported elsewhere

    # -- Invoke --

    @property
    def has_extensions(self) -> bool:
        """Whether an invocation may last longer than its answer takes."""
        return bool(self._extensions)

    async def invoke(
        self, invocation: Invocation, stream: ResponseStream | None = None, on_answer: OnAnswer | None = None
    ) -> InvocationResult:
        """Serve one invocation; what goes wrong in the function is in the result. A response that the function
        streams goes to `stream`, where there is one. The answer goes to `on_answer` where extensions work on after it.

        Raises:
            SandboxError: the environment is not idle; the function has not seen the event.
            RestoreFailed: the clone never became the function, so it has not seen the event either.
        """
        if self.phase is not Phase.IDLE:
            self._refuse_if_it_never_ran()
            raise SandboxError(f"Environment {self.id} is not idle but {self.phase.value}.", step="invoke")
        self.phase = Phase.INVOKE
        self._stream, self._on_answer = stream, on_answer
        self._begin(invocation)
        began = time.perf_counter()
        outcome = await self._finish(self.settings.timeout_s)
        duration_ms = (time.perf_counter() - began) * 1000
        if isinstance(outcome, Failed) and outcome.exit is not None:
            self._refuse_if_it_never_ran()
        if isinstance(outcome, TimedOut):
            duration_ms = max(duration_ms, self.settings.timeout_s * 1000)
            if self._extensions:
                self._end_reason = "timeout"  # they are told so before they are ended
            else:
                self._sandbox.kill()
        if stream is not None:
            stream.end()
            self._stream = None
        return self._conclude(invocation, outcome, duration_ms)

    def _refuse_if_it_never_ran(self) -> None:
        failure = self.never_ran()
        if failure is not None:
            self.phase = Phase.ENDED
            raise failure

    def _begin(self, invocation: Invocation) -> None:
        """Thaw, and hand the invocation to the runtime."""
        self.invocations += 1
        self._wake()
        self.log.begin_invocation()
        self._pipe.begin()
        self.log.append(self._lines.start(invocation.request_id))
        self._answer, self._runtime_done = None, 0.0
        self._outcome = self._loop.create_future()
        if self._exit is not None:
            self._outcome.set_result(self._exit_outcome(self._exit))
            return
        deadline_ms = int((time.time() + self.settings.timeout_s) * 1000)
        self._sandbox.conversation.dispatch(invocation, deadline_ms)
        if self._extensions:
            self._extensions.invoke(invocation, deadline_ms)
        if self._sandbox.worker.cpu_limit and not self._cpu_limited:
            self._cpu_limited = True
            self._loop.call_soon(self._limit_cpu)

    def _limit_cpu(self) -> None:
        if self.phase is not Phase.CLOSED:
            self._group.limit_cpu(self.settings.memory_mib / furnishing.MIB_PER_CPU)

    def _conclude(self, invocation: Invocation, outcome: Outcome, duration_ms: float) -> InvocationResult:
        """The end of an invocation: its log lines, its result, and the environment idle or ended."""
        self._answered_late()
        used = self._memory_used(outcome)
        request_id = invocation.request_id
        self._log_exit(outcome, request_id)
        report = Report(
            request_id=request_id,
            duration_ms=duration_ms,
            memory_mib=self.settings.memory_mib,
            max_memory_mib=used,
            ending=outcome.ending,
            **self._first_report,  # type: ignore[arg-type]  # its keys and types are those of Report
        )
        self._first_report = {}
        answer = self._answer or outcome
        payload = answer.payload(request_id, self.settings.timeout_s)
        self.log.append(self._lines.finished(report, len(payload)))
        self._rest(usable=isinstance(outcome, Answered))
        return InvocationResult(
            request_id=request_id,
            payload=payload,
            error_type=answer.error_type or None,
            duration_ms=duration_ms,
            billed_ms=report.billed_ms,
            max_memory_mib=used,
            log_tail=self.log.tail(),
            usable=self.phase is Phase.IDLE,
            init_ms=report.init_ms,
            restore_ms=report.restore_ms,
            extensions_ms=(time.perf_counter() - self._runtime_done) * 1000 if self._runtime_done else None,
        )

    def _memory_used(self, outcome: Outcome) -> int:
        if isinstance(outcome, Failed) and outcome.exit and outcome.exit.out_of_memory:
            return self.settings.memory_mib
        return self._memory.measure(self._group.processes(), self._sandbox.init_pid)

    def _log_exit(self, outcome: Outcome, request_id: str) -> None:
        """Everything that the function printed, then what the platform has to say about its end."""
        self._pipe.drain()
        if isinstance(outcome, TimedOut) and self.phase is Phase.INVOKE:
            self.log.append(self._lines.timed_out(request_id, self.settings.timeout_s))
        if isinstance(outcome, Failed) and outcome.exit is not None:
            self.log.append(self._lines.exited(request_id, outcome.exit.reason, outcome.exit.error_type))

    def _rest(self, *, usable: bool) -> None:
        if not usable or self._exit is not None:
            self.phase = Phase.ENDED
            return
        self.phase = Phase.IDLE
        self._freezing = self._loop.call_later(_FREEZE_DELAY_S, self.freeze)
        if self.on_first_answer is not None:
            self.on_first_answer()
            self.on_first_answer = None

    # -- between invocations --

    def freeze(self) -> None:
        """Stop every process of an idle environment; the next invocation lets them go on."""
        self._freezing = None
        if self.phase is Phase.IDLE and not self._group.frozen:
            self._group.freeze()

    def _wake(self) -> None:
        if self._freezing is not None:
            self._freezing.cancel()
            self._freezing = None
        if self._group.frozen:
            self._group.thaw()

    @property
    def frozen(self) -> bool:
        """Whether every process of the environment is stopped."""
        return self._group.frozen and self._group.is_stopped()

    @property
    def host_pid(self) -> int:
        """The function's process, as this process numbers it; 0 where it has ended before it was looked for."""
        return self._host_pid

    @property
    def report(self) -> bytes:
        """What the runtime reported of its process before the snapshot (`runtime_api.report`); empty where nothing."""
        return self._sandbox.conversation.report

    @property
    def log_pipe(self) -> tuple[int, int]:
        """Device and inode of the pipe that the function has as stdout and stderr; a clone gets another one."""
        return self._pipe.identity

    @property
    def init_pid(self) -> int:
        """PID 1 of the sandbox, as this process numbers it."""
        return self._sandbox.init_pid

    @property
    def frozen_extensions(self) -> list[FrozenExtension]:
        """What a clone's environment has to know of the extensions that wait here."""
        return self._extensions.frozen()

    @property
    def repeated_requests(self) -> dict[str, str]:
        """The requests in which extensions wait, by the local port of the connection: a clone makes them again."""
        return self._extensions.waiting_requests()

    def processes(self) -> list[int]:
        """Every process in the sandbox's group, as this process numbers them."""
        return self._group.processes()

    # -- the end --

    async def close(self) -> None:
        """End every process and remove every trace; idempotent. Extensions are told first."""
        self.phase = Phase.CLOSED
        if self._freezing is not None:
            self._freezing.cancel()
            self._freezing = None
        if self._starting is not None:
            self._starting.cancel()
        self._sandbox.on_exit = None
        if not self._extensions:
            self._sandbox.conversation.observer = None
        self._settle(TimedOut())
        await self._sandbox.close(self._shut_down if self._extensions else None)
        self._sandbox.conversation.observer = None
        self._pipe.close()
        self._memory.close()
        self.log.close()

    async def _shut_down(self) -> None:
        """The Shutdown phase, which only environments with extensions have."""
        self._sandbox.on_extension_exit = None
        if self._group.frozen:
            self._group.thaw()
        runtime = 0 if self._exit is not None else self._host_pid
        reason = self._end_reason if self._exit is None else "failure"
        await extending.shut_down(self._sandbox, self._extensions, runtime, reason)

    # -- what the runtime says (runtime_api.conversation.Observer) --

    def runtime_ready(self) -> None:
        """It asked for an invocation. A runtime that knows no restore/next can be frozen here, the first time."""
        if self.phase is Phase.INIT:
            self._waits("invocation/next")
        elif self.phase is Phase.INVOKE and self._extensions:
            self._runtime_done = time.perf_counter()
        self._settle_when_idle()

    def restore_ready(self) -> None:
        """It asked for its restore; here the process can be frozen into a snapshot."""
        self._waits("restore/next")
        self._settle_when_idle()

    def _settle_when_idle(self) -> None:
        """A phase has ended well when the runtime and all extensions that it concerned wait for what comes next."""
        waits = self._sandbox.conversation.state in (State.READY, State.RESTORE_READY)
        if waits and (self._extensions.idle or self.phase is Phase.RESTORE):
            self._settle(Answered(b""))

    def extension_registered(self) -> None:
        """The runtime starts when all external extensions have registered."""
        if self._awaits_extensions and self._extensions.registered:
            self._awaits_extensions = False
            self._starting = self._loop.create_task(self._start_runtime())
            self._starting.add_done_callback(self._runtime_started)

    def _runtime_started(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None and not self._outcome.done():
            self._outcome.set_exception(error)

    def extension_waits(self) -> None:
        """An extension asked for its next event."""
        self._settle_when_idle()

    def extension_failed(self, kind: str, name: str, error_type: str) -> None:
        """An extension says that it cannot go on: `kind` is Extension.InitError or Extension.ExitError."""
        message = f"Extension {name} failed: {error_type}"
        self._settle(Failed(kind, document(kind, message, "")))

    def _extension_exited(self, number: int, status: int) -> None:
        """No environment goes on without one of its extensions."""
        found = next((each for each in self._extensions.external() if each.number in (number, 0)), None)
        if found is None:
            return
        failed = found.state in ("InitError", "ExitError")
        found.error_type = found.error_type or "Extension.Crash"
        found.state = found.state if failed else "Exited"
        ended = Exit(status, entry_error=self._sandbox.entry_error, of_extension=True)
        self._exit = self._exit or ended
        self._hear_out(self._exit_outcome(ended))
        if self.phase is Phase.IDLE:
            self.phase = Phase.ENDED

    def _waits(self, where: WaitsIn) -> None:
        waiter = self._sandbox.conversation.waiter
        self.runtime_connection_port = waiter.port if waiter else 0
        self.waits_in = where

    def response_begins(self, content_type: str, source: Source) -> Sink | None:
        """It streams its response: on to the caller, if that one wants a stream."""
        if self._stream is None or self._stream.began:
            return None
        self._stream.begin(content_type, source)
        return self._stream.write

    def runtime_responded(self, payload: bytes) -> None:
        """It returned something; the invocation ends when it asks for the next."""
        self._answered(Answered(payload))

    def runtime_failed(self, error_type: str, payload: bytes) -> None:
        """The function raised, or its response was too large."""
        self._answered(Answered(payload, error_type))

    def _answered(self, answer: Answered) -> None:
        self._answer = answer
        if self._on_answer is not None:
            self._answering = self._loop.call_later(_EXTENSIONS_GRACE_S, self._answer_early, answer)

    def _answer_early(self, answer: Answered) -> None:
        """Extensions work on; the caller need not wait for them."""
        if self._on_answer is not None:
            if self._stream is not None:
                self._stream.end()
            self._on_answer(answer.body, answer.error_type)

    def _answered_late(self) -> None:
        """The invocation is over, and its result has the answer."""
        if self._answering is not None:
            self._answering.cancel()
        self._answering = self._on_answer = None

    def init_failed(self, error_type: str, payload: bytes) -> None:
        """The function could not be loaded."""
        self._settle(Failed(error_type, payload))

    def restore_failed(self, error_type: str, payload: bytes) -> None:
        """An after-restore hook failed."""
        self._settle(Failed(error_type, payload))

    def _exited(self, status: int) -> None:
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == 9
        out_of_memory = killed and self._group.oom_kills() > 0
        self._exit = Exit(status, out_of_memory=out_of_memory, entry_error=self._sandbox.entry_error)
        self._hear_out(self._exit_outcome(self._exit))
        if self.phase is Phase.IDLE:
            self.phase = Phase.ENDED

    def _hear_out(self, outcome: Failed, quiet: int = 0) -> None:
        """Settle when everything is read that was sent before a process ended: all of it is in our sockets by then."""
        if self._outcome.done():
            return
        quiet = 0 if self._sandbox.unread else quiet + 1
        if quiet and (not self._sandbox.connected or quiet > _QUIET_ROUNDS):
            self._settle(outcome)
        else:
            self._loop.call_soon(self._hear_out, outcome, quiet)

    def _exit_outcome(self, ended: Exit) -> Failed:
        return Failed(ended.error_type, None, ended)

    def _settle(self, outcome: Outcome) -> None:
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    async def _finish(self, limit_s: float) -> Outcome:
        """How the phase at hand ends, at the latest after `limit_s`."""
        limit = self._loop.call_later(limit_s, self._settle, TimedOut())
        try:
            return await self._outcome
        finally:
            limit.cancel()
