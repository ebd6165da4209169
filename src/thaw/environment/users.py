"""Whose the processes of a sandbox are on this machine: a user namespace, with numbers that nobody else has.

Inside, every function is FUNCTION_UID; outside, each environment is a user of its own, and so is PID 1 of its sandbox.
The sandbox's root, who no process is for long, is one who may do nothing outside. What the machine's root owns is shown
as root's, where the file system can do so (`mounts.read_only_tree`).
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thaw import native
from thaw.environment import control
from thaw.environment.launch import Packet, failure, receive
from thaw.environment.system_call import CLONE_NEWPID, unshare
from thaw.errors import SandboxError

# Outside every range that distributions hand out to people, services or containers.
FUNCTION_UID: Final = 200993
_INIT_UID: Final = 200992
FIRST_NUMBER: Final = 0x7000_0000
"""systemd's "Users, Groups, UIDs and GIDs" leaves 1879048192 to 2147352575 to nobody; no other tool uses them."""
BLOCK: Final = 0x1_0000
"""Numbers of one server: the first is every sandbox's root, then come two for each environment: function and PID 1."""
BLOCKS: Final = 4000
_READY_LIMIT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Identity:
    """What root, PID 1 and the function of one sandbox are outside of its user namespace; users and groups alike."""

    root: int
    user: int

    @property
    def init(self) -> int:
        """PID 1, which is not root: that is the same in all sandboxes."""
        return self.user + 1

    @property
    def map(self) -> str:
        """The text of /proc/PID/uid_map and gid_map (user_namespaces(7))."""
        return f"0 {self.root} 1\n{_INIT_UID} {self.init} 1\n{FUNCTION_UID} {self.user} 1\n"

    @property
    def arguments(self) -> tuple[str, str, str]:
        """What `launch` takes: the map, as whom the user namespace is made, and whom PID 1 becomes in it."""
        return self.map, str(self.user), str(_INIT_UID)

    @property
    def outside(self) -> Mapping[int, int]:
        """Numbers of this machine by numbers of the sandbox."""
        return {0: self.root, FUNCTION_UID: self.user}


class Users:
    """The numbers of one server, which it claims for as long as it runs."""

    def __init__(self) -> None:
        """Claim them, and make the user namespace that shows the machine's root as the sandboxes'.

        Raises SandboxError where the kernel permits no user namespaces, or not these numbers.
        """
        self._claim, number = _claim_block()
        self.root = FIRST_NUMBER + number * BLOCK
        self._free = deque(range(self.root + 2, self.root + BLOCK, 2))
        self.namespace = -1
        """Descriptor of a user namespace in which 0 is `root`, for mounts."""
        self.process_files = -1
        """A detached /proc of no process, for the file tree of sandboxes."""
        try:
            with ThreadPoolExecutor(1, "thaw-users") as thread:
                thread.submit(self._make).result()
        except OSError as error:
            self.close()
            raise SandboxError(f"A user namespace cannot be made ({error}).", step="users") from error
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        """Only this thread's children are in the new pid namespace, so the thread has to end afterwards."""
        unshare(CLONE_NEWPID)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                owner = native.spawn(native.binary(), "owner", {control.CONTROL_FD: theirs.fileno()})
            try:
                self.process_files = _said_ready(ours)
                for name in ("uid_map", "gid_map"):
                    Path(f"/proc/{owner}/{name}").write_text(f"0 {self.root} 1\n")
                self.namespace = os.open(f"/proc/{owner}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
            finally:
                ours.close()
                os.waitpid(owner, 0)

    def take(self) -> Identity:
        """An identity that no other environment has, until it is given back."""
        return Identity(self.root, self._free.popleft())

    def give_back(self, identity: Identity) -> None:
        """Let another environment have it, after all others that are free."""
        self._free.append(identity.user)

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        self._claim.close()
        for descriptor in (self.namespace, self.process_files):
            if descriptor >= 0:
                os.close(descriptor)
        self.namespace = self.process_files = -1


def _claim_block() -> tuple[socket.socket, int]:
    """An abstract socket says that a block is taken; it vanishes with the server."""
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    for number in range(BLOCKS):
        try:
            claim.bind(f"\0thaw-users-{number}")
        except OSError:
            continue
        return claim, number
    claim.close()
    raise SandboxError(f"All {BLOCKS} blocks of user numbers are taken by other servers.", step="users")


def _said_ready(ours: socket.socket) -> int:
    ours.settimeout(_READY_LIMIT_S)
    packet: Packet | None = receive(ours)
    if packet is None or packet.message.kind is not control.Kind.OWNER:
        raise failure(packet.message if packet else control.Message(control.Kind.FAILED, step="start of an owner"))
    return packet.descriptors[0]
