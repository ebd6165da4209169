"""What runs first in the function's process, as /var/runtime/bootstrap.py: prepares the process, then hands over
to the real runtime interface client (awslambdaric).

It runs in the function's own interpreter, which may be as old as Python 3.9, and started with -S: host packages
stay out of sight, and `sys.path` becomes the one that Lambda documents: the function's code, its layers, the
runtime, the standard library.
"""

from __future__ import annotations

import gc
import os
import site
import sys
import threading
from typing import Any

TASK = os.environ.get("LAMBDA_TASK_ROOT", "/var/task")
RUNTIME = os.environ.get("LAMBDA_RUNTIME_DIR", os.path.dirname(os.path.abspath(__file__)))
LAYERS = "/opt/python"


def search_path(standard: list[str]) -> list[str]:
    """Lambda's order of `sys.path`; `standard` is the interpreter's own: this folder, PYTHONPATH, standard library."""
    version = "python%d.%d" % sys.version_info[:2]
    first = [TASK, LAYERS + "/lib/" + version + "/site-packages", LAYERS, RUNTIME]
    return first + [entry for entry in standard if entry not in first and entry != os.path.dirname(__file__)]


def install_builtins() -> None:
    """Does what -S left out and programs expect: exit(), help(), and a sitecustomize of a layer or PYTHONPATH."""
    site.setquit()
    site.setcopyright()
    site.sethelper()
    site.execsitecustomize()


def note_thread_id() -> None:
    """Tells `threading` the main thread's number in this clone, as CPython does after a fork."""
    main_thread = threading.main_thread()
    if hasattr(main_thread, "_set_native_id"):
        main_thread._set_native_id()


def stir_openssl(frozen: int) -> None:
    """Gives OpenSSL's generators fresh entropy where the clone has the number of the process that was frozen, as in a
    process tree: by its change OpenSSL notices a fork. All its generators follow the one that this reseeds."""
    openssl = sys.modules.get("_ssl")
    if openssl is not None and os.getpid() == frozen:
        openssl.RAND_add(os.urandom(48), 48.0)


def reseed() -> None:
    """Gives a clone its own random streams: those that CPython reseeds after a fork, and numpy's legacy generator.

    Generators that the function made itself are its own to reseed, in an after-restore hook.
    """
    if "random" in sys.modules:
        sys.modules["random"].seed()
    legacy = sys.modules.get("numpy.random.mtrand")
    if legacy is not None:
        legacy.seed()
    renew_node(sys.modules.get("uuid"))


def renew_node(uuid: Any) -> None:
    """Gives `uuid.uuid1` of a clone a node of its own, as RFC 4122 (4.5) has it where there is no network card.

    It would go on with the node and the sequence number of the snapshot, kept inside libuuid, and two clones
    that ask at the same tenth of a microsecond would get equal ids.
    """
    if hasattr(uuid, "_generate_time_safe") and hasattr(uuid, "_node"):
        uuid._generate_time_safe = None
        uuid._node = int.from_bytes(os.urandom(6), "big") | (1 << 40)


class EventLoops:
    """Event loops that run in other threads, and go on running in every clone.

    asyncio notes the process number with a thread's running loop (up to CPython 3.13), so that a fork without threads
    finds none; in a clone, which has another number and all threads, the note is made again.
    """

    def __init__(self) -> None:
        self._running: list[Any] = []

    def note(self) -> None:
        """Before the snapshot, when the function's own hooks are through: which loops run."""
        asyncio = sys.modules.get("asyncio")
        if asyncio is not None:
            loops = (each for each in gc.get_objects() if isinstance(each, asyncio.AbstractEventLoop))
            self._running = [loop for loop in loops if loop.is_running()]

    def renew(self) -> None:
        """After restore: each loop's own thread makes the note."""
        for loop in self._running:
            loop.call_soon_threadsafe(sys.modules["asyncio"]._set_running_loop, loop)


def main() -> None:
    """Loads the client from /var/runtime before the function's folder can shadow it, then runs it."""
    standard = list(sys.path)
    install_builtins()
    if RUNTIME not in sys.path:
        sys.path.insert(0, RUNTIME)
    import awslambdaric.__main__ as client
    import snapshot_restore_py

    if os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start":
        import thaw_report

        # Hooks before the snapshot run last to first, so this one runs when the function's are through.
        snapshot_restore_py.register_before_snapshot(thaw_report.Reporter().send)
    sys.path[:] = search_path(standard)
    # As the first hooks, so that the function's own after-restore hooks already draw fresh numbers.
    snapshot_restore_py.register_after_restore(note_thread_id)
    snapshot_restore_py.register_after_restore(stir_openssl, os.getpid())
    loops = EventLoops()
    snapshot_restore_py.register_before_snapshot(loops.note)
    snapshot_restore_py.register_after_restore(loops.renew)
    if os.environ.pop("THAW_RESEED", "1") != "0":
        snapshot_restore_py.register_after_restore(reseed)
    client.main([sys.argv[0], os.environ["_HANDLER"]])


if __name__ == "__main__":
    main()
