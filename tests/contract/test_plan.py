"""The restore plan's layout is said three times: native/plan.h, snapshot/plan.py and docs/formats.md. They agree."""

from __future__ import annotations

import re
import struct
import subprocess
from pathlib import Path

import pytest

from thaw import native
from thaw.snapshot import plan, program, tree
from thaw.snapshot.image import Extent
from thaw.snapshot.program import Variable

NATIVE = Path(native.__file__).parent
DOCUMENT = Path(__file__).parents[2] / "docs" / "formats.md"
FIELDS = {
    "plan_header": (
        "magic", "version", "header_size", "size", "descriptor_base", "special_count", "special", "thread_address",
        "thread_count", "tid_address", "parameters_address", "extent_address", "extent_count", "lazy_address",
        "lazy_count", "build", "settle", "enter", "surrender", "share", "relative_address", "relative_count",
        "go_between", "reserved", "kept_address", "kept_count",
    ),
    "step": ("number", "flags", "loads", "label", "result", "args"),
    "thread": ("tid", "reserved", "frame", "program"),
    "extent": ("address", "size", "offset"),
    "relative": ("pid", "parent", "exit_signal", "status", "group", "flags", "plan", "size"),
    "parameters": ("uid", "gid", "filter_count", "pid", "filter"),
}  # fmt: skip
CONSTANTS = (
    "PLAN_MAGIC", "PLAN_VERSION", "RESTORER_ADDRESS", "PLAN_ADDRESS", "RESERVED_END", "ADDRESS_END", "SPECIAL_LIMIT",
    "THREAD_LIMIT", "STEP_OPTIONAL", "STEP_RESULT_IS_ARG0", "STEP_RESULT_IS_ARG2", "KEPT_CONTROL", "KEPT_MEMORY",
    "KEPT_SANDBOX", "KEPT_CONNECTION", "KEPT_LOG", "KEPT_CGROUP", "KEPT_COUNT", "RELATIVE_LIMIT", "ADOPTER",
    "RELATIVE_HAS_ENDED", "RELATIVE_LEADS_SESSION", "RELATIVE_LEADS_GROUP", "RELATIVE_IS_LATE",
)  # fmt: skip
Layout = dict[str, dict[str, tuple[int, int]]]


def _source() -> str:
    lines = ['#include <stdio.h>\n#include <stddef.h>\n#include "plan.h"\nint main(void) {']
    for name, fields in FIELDS.items():
        lines.append(f'printf("struct {name} 0 %zu\\n", sizeof(struct {name}));')
        for field in fields:
            measure = f"offsetof(struct {name}, {field}), sizeof(((struct {name} *)0)->{field})"
            lines.append(f'printf("{name} {field} %zu %zu\\n", {measure});')
    lines += [f'printf("constant {name} %lu 0\\n", (u64){name});' for name in CONSTANTS]
    return "\n".join([*lines, "}"])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    """What the compiler makes of plan.h: for each struct its fields as (offset, size); "struct" and "constant" too."""
    folder = tmp_path_factory.mktemp("plan")
    (folder / "measure.c").write_text(_source())
    command = ["gcc", "-Wall", "-Werror", f"-I{NATIVE}", "-o", str(folder / "measure"), str(folder / "measure.c")]
    subprocess.run(command, check=True)
    layout: Layout = {}
    for line in subprocess.run([folder / "measure"], check=True, capture_output=True, text=True).stdout.splitlines():
        owner, name, first, second = line.split()
        layout.setdefault(owner, {})[name] = (int(first), int(second))
    return layout


def documented(heading: str) -> tuple[int, dict[str, tuple[int, int]]]:
    """Size in a heading of the document, and the table below it."""
    section = DOCUMENT.read_text().split("## Restore plan", 1)[1]
    found = re.search(rf"### {heading} \((\d+) bytes\)\n\n(.*?)\n\n", section + "\n\n", re.DOTALL)
    assert found, heading
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\w+) \|", found[2], re.MULTILINE)
    return int(found[1]), {name: (int(offset), int(size)) for offset, size, name in rows}


@pytest.mark.parametrize(
    ("heading", "name"),
    [
        ("Header", "plan_header"),
        ("Step", "step"),
        ("Thread", "thread"),
        ("Extent", "extent"),
        ("Relative", "relative"),
        ("Parameters", "parameters"),
    ],
)
def test_the_document_says_what_the_compiler_does(compiled: Layout, heading: str, name: str) -> None:
    size, fields = documented(heading)
    assert size == compiled["struct"][name][1]
    assert fields == compiled[name]


def test_the_document_names_the_constants() -> None:
    section = DOCUMENT.read_text().split("## Restore plan", 1)[1]
    assert f"{plan.MAGIC:#x}" in section
    assert f"| version | {plan.VERSION} |" in section
    for address in (plan.RESERVED.start, plan.RESERVED.stop, plan.PLAN_ADDRESS):
        assert f"{address:#x}" in section


def test_python_has_the_constants_of_the_header(compiled: Layout) -> None:
    kept = plan.Kept(0)
    assert {name: value for name, (value, _) in compiled["constant"].items()} == {
        "PLAN_MAGIC": plan.MAGIC, "PLAN_VERSION": plan.VERSION, "RESTORER_ADDRESS": plan.RESERVED.start,
        "PLAN_ADDRESS": plan.PLAN_ADDRESS, "RESERVED_END": plan.RESERVED.stop, "ADDRESS_END": plan.ADDRESS_END,
        "SPECIAL_LIMIT": plan.SPECIAL_LIMIT, "THREAD_LIMIT": plan.THREAD_LIMIT, "STEP_OPTIONAL": program.OPTIONAL,
        "STEP_RESULT_IS_ARG0": program.RESULT_IS_ARG0, "STEP_RESULT_IS_ARG2": program.RESULT_IS_ARG2,
        "KEPT_CONTROL": kept.control, "KEPT_MEMORY": kept.memory, "KEPT_SANDBOX": 2, "KEPT_CONNECTION": kept.connection,
        "KEPT_LOG": kept.log, "KEPT_CGROUP": 5, "KEPT_COUNT": kept.scratch(),
        "RELATIVE_LIMIT": plan.RELATIVE_LIMIT, "ADOPTER": tree.ADOPTER, "RELATIVE_HAS_ENDED": tree.HAS_ENDED,
        "RELATIVE_LEADS_SESSION": tree.LEADS_SESSION, "RELATIVE_LEADS_GROUP": tree.LEADS_GROUP,
        "RELATIVE_IS_LATE": tree.IS_LATE,
    }  # fmt: skip
    assert compiled["struct"]["plan_header"][1] == plan.HEADER_SIZE
    assert compiled["struct"]["step"][1] == program.STEP_SIZE


def test_a_written_plan_reads_as_the_header_says(compiled: Layout) -> None:
    data, writer, steps = _written()

    def number(owner: str, name: str, base: int = 0) -> int:
        offset, size = compiled[owner][name]
        return int.from_bytes(data[base + offset : base + offset + size], "little")

    header = {name: number("plan_header", name) for name in FIELDS["plan_header"][:6]}
    assert header == {
        "magic": plan.MAGIC, "version": 3, "header_size": plan.HEADER_SIZE, "size": len(data), "descriptor_base": 70,
        "special_count": 2,
    }  # fmt: skip
    assert struct.unpack_from("=4Q", data, compiled["plan_header"]["special"][0]) == (0x1000, 0x2000, 0x3000, 0x4000)
    assert number("plan_header", "tid_address") == 0xABC0
    assert number("plan_header", "parameters_address") == writer.parameters
    for index, name in enumerate(("build", "settle", "enter", "surrender")):
        address, count = struct.unpack_from("=QQ", data, compiled["plan_header"][name][0])
        assert count == 1
        assert number("step", "number", address - plan.PLAN_ADDRESS) == steps[index]
    thread = number("plan_header", "thread_address") - plan.PLAN_ADDRESS
    assert [number("thread", name, thread) for name in ("tid", "reserved", "frame")] == [0, 0, 0x5550]
    assert plan.memory_of(data) == ([Extent(0x7000, 4096, 8192)], [(0x7000, 4096)])


def _written() -> tuple[bytes, plan.PlanWriter, list[int]]:
    writer = plan.PlanWriter()
    programs = [writer.program() for _ in range(5)]
    for each, name in zip(programs, ("munmap", "mprotect", "chdir", "seccomp", "prctl"), strict=True):
        each.call(name, 1)
    build, settle, enter, surrender, own = programs
    content = plan.PlanContent(
        kept=plan.Kept(70), special=[(0x1000, 0x2000), (0x3000, 0x4000)],
        threads=[plan.PlannedThread(0, 0x5550, own)], tid_address=0xABC0, extents=[Extent(0x7000, 4096, 8192)],
        lazy=[(0x7000, 4096)], image_base=0, build=build, settle=settle, enter=enter, surrender=surrender,
    )  # fmt: skip
    return writer.finish(content), writer, [program.SYSTEM_CALLS[n] for n in ("munmap", "mprotect", "chdir", "seccomp")]


def test_a_step_says_which_arguments_are_read_from_where(compiled: Layout) -> None:
    step = program.Step(9, (Variable(0x5100_0000_0040), -1, 5), program.RESULT_IS_ARG0, 77, Variable(0x5100_0000_0044))
    data = step.encode(0)
    found = {
        name: int.from_bytes(data[offset : offset + size], "little")
        for name, (offset, size) in compiled["step"].items()
    }
    arguments = found.pop("args").to_bytes(48, "little")
    assert found == {"number": 9, "flags": 2, "loads": 0b001, "label": 77, "result": 0x5100_0000_0044}
    assert struct.unpack("=6Q", arguments) == (0x5100_0000_0040, (1 << 64) - 1, 5, 0, 0, 0)


def test_parameters_begin_where_the_program_variables_say(compiled: Layout) -> None:
    writer = plan.PlanWriter()
    for name in ("uid", "gid", "pid"):
        assert writer.parameter(name).address == writer.parameters + compiled["parameters"][name][0]
    assert writer.filter_program == writer.parameters + compiled["parameters"]["filter_count"][0]
