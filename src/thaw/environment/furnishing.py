"""What turns an empty sandbox into the home of one function: its mounts, and what its process may do."""

from __future__ import annotations

import os
import resource
from functools import cache

from thaw.environment import mounts
from thaw.environment.cgroup import MIB_PER_CPU
from thaw.environment.control import Confinement, ResourceLimit
from thaw.environment.rootless import is_rootless
from thaw.environment.seccomp import function_filter
from thaw.environment.settings import FunctionSettings
from thaw.environment.users import FUNCTION_UID, Users
from thaw.errors import SandboxError

__all__ = ["MIB_PER_CPU", "confinement", "make_mounts"]

# Lambda's quotas: 1024 file descriptors. No core dumps: they would fill /tmp.
_LIMITS = (
    ResourceLimit(resource.RLIMIT_NOFILE, 1024, 1024),
    ResourceLimit(resource.RLIMIT_CORE, 0, 0),
    ResourceLimit(resource.RLIMIT_MEMLOCK, 65536, 65536),
)
_PROCESSES = 4096


@cache
def confinement() -> Confinement:
    """The same for every function."""
    if is_rootless():  # nothing but the resource limit bounds the processes, of all sandboxes together
        limits = (*_LIMITS, ResourceLimit(resource.RLIMIT_NPROC, _PROCESSES, _PROCESSES))
        return Confinement(0, 0, function_filter(), limits)
    return Confinement(FUNCTION_UID, FUNCTION_UID, function_filter(), _LIMITS)


def make_mounts(settings: FunctionSettings, users: Users | None = None) -> list[tuple[str, int]]:
    """Detached mounts with their paths, /tmp first, for a sandbox with a user namespace where there are `users`; the
    descriptors are the caller's. Raises SandboxError."""
    root, owners = (users.root, users.namespace) if users else (0, -1)
    shown = [(mount.target, mount.source) for mount in settings.runtime.mounts]
    shown.append(("/var/task", settings.task))
    if settings.layers is not None:
        shown.append(("/opt", settings.layers))
    places: list[tuple[str, int]] = []
    path = "/tmp"
    try:
        places.append((path, mounts.memory_filesystem(settings.ephemeral_mib, 0o1777, owner=root)))
        for path, source in shown:
            places.append((path, mounts.read_only_tree(source, owners)))
    except OSError as error:
        for _, descriptor in places:
            os.close(descriptor)
        raise SandboxError(f"{path} of a sandbox cannot be made ({error}).", step=path) from error
    return places
