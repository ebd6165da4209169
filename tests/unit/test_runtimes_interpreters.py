"""Finding interpreters: what counts as one, and which is preferred."""

import os
import sys
from pathlib import Path

import pytest

from thaw.errors import RuntimeNotFound
from thaw.runtimes import Runtimes
from thaw.runtimes.interpreters import Interpreter, candidates, discover, probe
from thaw.runtimes.python import _digest, describe

HERE = "python{}.{}".format(*sys.version_info[:2])


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


async def test_a_real_interpreter_tells_where_it_lies() -> None:
    found = await probe(Path(sys.executable))
    assert found is not None
    assert (found.name, found.version) == (HERE, "{}.{}.{}".format(*sys.version_info[:3]))
    assert found.prefix == Path(sys.base_prefix).resolve()
    assert (found.standard_library / "os.py").is_file()
    assert found.executable.is_relative_to(found.prefix)


@pytest.mark.parametrize(
    "text",
    ["#!/bin/sh\necho 'command not found' >&2\nexit 127\n", "not a program", "#!/nonexistent/loader\n"],
    ids=["a shim that refuses", "no executable format", "a missing loader"],
)
async def test_what_does_not_run_is_no_interpreter(tmp_path: Path, text: str) -> None:
    assert await probe(executable(tmp_path / HERE, text)) is None


async def test_a_shim_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thaw.runtimes.probing.PROBE_LIMIT_S", 0.2)
    shim = executable(tmp_path / HERE, f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    assert await probe(shim) is None
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


@pytest.mark.parametrize("change", [{"free_threaded": True}, {"final": False}, {"implementation": "pypy"}])
async def test_only_released_ordinary_cpython_counts(tmp_path: Path, change: dict[str, object]) -> None:
    source = f"""#!{sys.executable}
import io, contextlib, json, sys
said = io.StringIO()
with contextlib.redirect_stdout(said):
    exec(sys.argv[-1])
print(json.dumps(json.loads(said.getvalue()) | {change!r}))
"""
    assert await probe(executable(tmp_path / HERE, source)) is None


def test_names_of_candidates(tmp_path: Path) -> None:
    for name in ("python3", "python3.8", "python3.9", "python3.13", "python3.13t", "python3.13-config", "pip3.13"):
        executable(tmp_path / name, "")
    (tmp_path / "python3.12").write_text("not executable")
    assert [file.name for file in candidates([tmp_path, tmp_path / "absent"])] == ["python3.13", "python3.9"]
    assert [file.name for file in candidates([tmp_path], "python3.9")] == ["python3.9"]


async def test_one_interpreter_under_two_names_is_found_once(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / HERE).symlink_to(sys.executable)
    assert len(await discover(folders=[tmp_path / "a", tmp_path / "b"])) == 1


def interpreter_in(folder: Path) -> Interpreter:
    standard_library = folder / "lib" / "python3.13"
    (standard_library / "lib-dynload").mkdir(parents=True)
    return Interpreter(
        version="3.13.2",
        prefix=folder,
        executable=executable(folder / "bin" / "python3.13", "x"),
        standard_library=standard_library,
        library=executable(folder / "lib" / "libpython3.13.so.1.0", "y"),
    )


def client_in(folder: Path) -> Path:
    folder.mkdir()
    (folder / "client.txt").write_text("awslambdaric-4.2.2\n")
    return folder


def test_an_interpreter_elsewhere_is_mounted_where_lambda_has_its_own(tmp_path: Path) -> None:
    interpreter, client = interpreter_in(tmp_path / "python"), client_in(tmp_path / "client")
    runtime = describe(interpreter, client, "eu-west-1")
    assert [(mount.source, mount.target) for mount in runtime.mounts] == [
        (tmp_path / "python", "/var/lang"),
        (client, "/var/runtime"),
    ]
    assert runtime.argv == ("/var/lang/bin/python3.13", "-S", "/var/runtime/bootstrap.py")
    assert runtime.variables["LD_LIBRARY_PATH"].split(":")[0] == "/var/lang/lib"
    assert runtime.version_arn == f"arn:aws:lambda:eu-west-1::runtime:{runtime.digest}"
    assert runtime.label == "python:3.13.v2"


def test_an_interpreter_of_the_system_needs_no_mount(tmp_path: Path) -> None:
    inside = interpreter_in(tmp_path / "python")
    system = Interpreter(
        version="3.13.2",
        prefix=Path("/usr"),
        executable=Path("/usr/bin/env"),
        standard_library=inside.standard_library,
        library=None,
    )
    runtime = describe(system, client_in(tmp_path / "client"), "us-east-1")
    assert [mount.target for mount in runtime.mounts] == ["/var/runtime"]
    assert runtime.argv[0] == "/usr/bin/env"


@pytest.mark.parametrize("part", ["bin/python3.13", "lib/libpython3.13.so.1.0", "lib/python3.13/lib-dynload"])
def test_digest_changes_when_a_part_of_the_interpreter_is_replaced(tmp_path: Path, part: str) -> None:
    interpreter, client = interpreter_in(tmp_path / "python"), client_in(tmp_path / "client")
    before = _digest(interpreter, client)
    assert _digest(interpreter, client) == before
    os.utime(tmp_path / "python" / part, (1, 1))
    assert _digest(interpreter, client) != before


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (
            "ruby3.3",
            "Thaw has no client for it: use python3.9 or later, java11 or later, nodejs18.x or later, or "
            "provided.al2023.",
        ),
        (
            "python3.8",
            "Thaw has no client for it: use python3.9 or later, java11 or later, nodejs18.x or later, or "
            "provided.al2023.",
        ),
        ("python3.99", "(it has: none): install one, or use a runtime that is here."),
    ],
)
async def test_a_runtime_that_is_not_here_is_named(tmp_path: Path, name: str, sentence: str) -> None:
    with pytest.raises(RuntimeNotFound) as caught:
        await Runtimes(tmp_path, folders=[tmp_path]).find(name)
    assert str(caught.value).startswith(f"The runtime {name} cannot be served, because ")
    assert str(caught.value).endswith(sentence)


async def test_no_package_index_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PIP_RETRIES": "0", "PIP_NO_INDEX": "0", "PIP_FIND_LINKS": ""}.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / HERE).symlink_to(sys.executable)
    runtimes = Runtimes(tmp_path / "state", folders=[folder], index_url="http://127.0.0.1:9/simple")
    with pytest.raises(RuntimeNotFound) as caught:
        await runtimes.find(HERE)
    assert str(caught.value).startswith(f"The runtime interface client for {HERE} could not be installed, because pip")
    assert "THAW_PYTHON_INDEX_URL" in str(caught.value)
    assert list((tmp_path / "state" / "runtimes").iterdir()) == []
