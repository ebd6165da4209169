"""Whether sandboxes can have user namespaces here: one is made, and ended."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from thaw.environment.launch import Launched, launch
from thaw.environment.users import FUNCTION_UID, Users
from thaw.errors import SandboxError


def without_users(reason: SandboxError) -> str:
    """What it costs that there are none, and what to do."""
    return (
        f"Functions have no user namespaces, so that all of them are user {FUNCTION_UID} of this machine and PID 1 of "
        f"their sandboxes is its root, because one could not be made ({str(reason).rstrip('.')}): permit them "
        "(user.max_user_namespaces, and every user number where Thaw runs in a container)."
    )


async def try_out(binary: Path, file_tree: int, users: Users) -> None:
    """Make one sandbox from `file_tree` with an identity of `users`, and end it. Raises SandboxError."""
    identity = users.take()
    try:
        launched = await launch(binary, file_tree, None, identity.arguments)
        await asyncio.get_running_loop().run_in_executor(None, _end, launched)
    finally:
        users.give_back(identity)


def _end(launched: Launched) -> None:
    signal.pidfd_send_signal(launched.pidfd, signal.SIGKILL)
    os.waitid(os.P_PIDFD, launched.pidfd, os.WEXITED)
    launched.control.close()
    received = (launched.listener, launched.server_end, launched.function_end, launched.routing)
    for descriptor in (launched.pidfd, *received):
        os.close(descriptor)
