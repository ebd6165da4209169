"""environment/control.py and native/control.h describe the same packets."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from thaw import native
from thaw.environment import control

HEADER = Path(native.__file__).with_name("control.h")

PROGRAM = """
#include "control.h"
#include <stddef.h>
#include <stdio.h>
#define SIZE(name) printf(#name " %zu\\n", sizeof(struct name))
#define PLACE(name, member) printf(#name "." #member " %zu\\n", offsetof(struct name, member))
int main(void)
{
	SIZE(control_header); SIZE(attachment); SIZE(process); SIZE(resource_limit); SIZE(failure);
	PLACE(control_header, kind); PLACE(control_header, size);
	PLACE(attachment, path); PLACE(attachment, flags);
	PLACE(process, uid); PLACE(process, gid); PLACE(process, pid); PLACE(process, flags);
	PLACE(process, filter_count); PLACE(process, rlimit_count); PLACE(process, argc); PLACE(process, envc);
	PLACE(resource_limit, resource); PLACE(resource_limit, soft); PLACE(resource_limit, hard);
	PLACE(failure, error); PLACE(failure, ticket); PLACE(failure, step);
	return 0;
}
"""


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the C compiler makes of control.h: sizes by struct, offsets by struct.member."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    folder = tmp_path_factory.mktemp("control")
    (folder / "print.c").write_text(PROGRAM)
    binary = folder / "print"
    subprocess.run(["gcc", "-I", str(HEADER.parent), str(folder / "print.c"), "-o", str(binary)], check=True)
    printed = subprocess.run([binary], check=True, capture_output=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in printed.splitlines())}


def test_sizes(layout: dict[str, int]) -> None:
    structs = {
        "control_header": control.HEADER,
        "attachment": control.ATTACHMENT,
        "process": control.PROCESS,
        "resource_limit": control.RESOURCE_LIMIT,
        "failure": control.FAILURE,
    }
    assert {name: each.size for name, each in structs.items()} == {name: layout[name] for name in structs}


def test_members_lie_where_they_are_packed(layout: dict[str, int]) -> None:
    confinement = control.Confinement(11, 12, bytes(8) * 3, [control.ResourceLimit(13, 14, 15)])
    packet = control.start(confinement, "/", ["a", "b"], {"c": "d"})
    process, limit = packet[8:], packet[8 + layout["process"] + 24 :]
    found = {name: word(process, layout[f"process.{name}"]) for name in ("uid", "gid", "pid", "flags")}
    assert found == {"uid": 11, "gid": 12, "pid": 0, "flags": 0}
    counts = [word(process, layout[f"process.{name}"]) for name in ("filter_count", "rlimit_count", "argc", "envc")]
    assert counts == [3, 1, 2, 1]
    assert [word(limit, layout[f"resource_limit.{name}"]) for name in ("resource", "soft", "hard")] == [13, 14, 15]
    assert limit[layout["resource_limit"] :] == b"/\0a\0b\0c=d\0"
    assert word(packet, layout["control_header.size"]) == len(packet)


def test_attachments(layout: dict[str, int]) -> None:
    packet = control.attach(["/tmp", "/var/task"])
    assert len(packet) == layout["control_header"] + 2 * layout["attachment"]
    second = packet[layout["control_header"] + layout["attachment"] :]
    assert second[layout["attachment.path"] :].startswith(b"/var/task\0")
    assert word(second, layout["attachment.flags"]) == 0


def test_failures_are_read(layout: dict[str, int]) -> None:
    body = bytearray(layout["failure"])
    body[layout["failure.error"]] = 13
    body[layout["failure.step"] : layout["failure.step"] + 5] = b"mount"
    packet = control.HEADER.pack(control.Kind.FAILED, 8 + len(body)) + body
    assert control.parse(packet) == control.Message(control.Kind.FAILED, 13, "mount")


def test_kinds_and_limits_have_the_same_numbers() -> None:
    text = HEADER.read_text()
    kinds = {name: int(value) for name, value in re.findall(r"CONTROL_([A-Z]+) = (\d+)", text)}
    assert {kind.name: kind.value for kind in control.Kind}.items() <= kinds.items()
    numbers = {name: int(value) for name, value in re.findall(r"#define ([A-Z_]+)\s+(\d+)", text)}
    ours = ("CONTROL_FD", "FILE_TREE_FD", "CGROUP_FD", "CONTROL_LIMIT", "DESCRIPTOR_LIMIT")
    assert {name: getattr(control, name) for name in ours} == {name: numbers[name] for name in ours}


def word(data: bytes, offset: int) -> int:
    return int.from_bytes(data[offset : offset + 4], "little")
