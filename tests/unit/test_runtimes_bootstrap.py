"""The bootstrap and the real runtime interface client, run against a small Runtime API, without a sandbox."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from thaw.runtimes.installation import remove_abandoned
from unit.small_runtime_api import Installed, RuntimeApi, Start, call

pytestmark = pytest.mark.package_index

HANDLER = """
import os, random, sys
from snapshot_restore import register_after_restore
import snapshot_restore_py

random.seed(7)
order = ["init"]
for number in (1, 2):
    snapshot_restore_py.register_before_snapshot(order.append, "before %d" % number)
    snapshot_restore_py.register_after_restore(order.append, "after %d" % number)

@register_after_restore
def draw():
    order.append(random.random())

def handler(event, context):
    print("handling", event["name"])
    return {"order": order, "path": sys.path, "flag": os.environ.get("THAW_RESEED"), "id": context.aws_request_id,
            "random": random.random(), "exit": repr(exit), "hooks": snapshot_restore_py.__file__}
"""


def test_hooks_run_around_restore_next_in_lambdas_order(start: Start, api: RuntimeApi) -> None:
    start(HANDLER)
    assert api.in_restore_next.wait(30)
    assert api.asked == ["restore/next"]
    api.release.set()
    answer = call(api)
    order = answer["order"]
    assert isinstance(order, list)
    assert order[:5] == ["init", "before 2", "before 1", "after 1", "after 2"]
    assert answer["id"] == "request-1"
    assert answer["flag"] is None


def test_after_restore_hooks_draw_from_a_fresh_stream(start: Start, api: RuntimeApi) -> None:
    start(HANDLER)
    api.release.set()
    order = call(api)["order"]
    assert isinstance(order, list)
    assert order[-1] != random.Random(7).random()


def test_reseeding_can_be_switched_off(start: Start, api: RuntimeApi) -> None:
    start(HANDLER, THAW_RESEED="0")
    api.release.set()
    answer = call(api)
    assert isinstance(answer["order"], list)
    assert answer["order"][-1] == random.Random(7).random()
    assert answer["flag"] is None


def test_search_path_is_lambdas(start: Start, api: RuntimeApi) -> None:
    start(HANDLER)
    api.release.set()
    answer = call(api)
    path = answer["path"]
    assert isinstance(path, list)
    packages = f"/opt/python/lib/{start.installed.name}/site-packages"
    assert path[:4] == [str(start.task), packages, "/opt/python", str(start.installed.client)]
    assert len(path) == len(set(path))
    assert not [entry for entry in path[4:] if "site-packages" in entry or "dist-packages" in entry]
    assert answer["exit"] == repr(exit)


def test_the_functions_own_copy_of_the_hooks_module_does_not_split_the_registry(start: Start, api: RuntimeApi) -> None:
    (start.task / "snapshot_restore_py.py").write_text("raise ImportError('the shadow was imported')")
    start(HANDLER)
    api.release.set()
    assert call(api)["hooks"] == str(start.installed.client / "snapshot_restore_py.py")


def test_without_snapstart_no_hook_runs(start: Start, api: RuntimeApi) -> None:
    start(HANDLER, kind="on-demand")
    answer = call(api)
    assert answer["order"] == ["init"]
    assert api.asked[0] == "invocation/next"
    assert answer["random"] == random.Random(7).random()


def test_output_of_the_handler_reaches_the_log_at_once(start: Start, api: RuntimeApi) -> None:
    process = start(HANDLER, kind="on-demand")
    call(api)
    assert process.stdout is not None
    assert process.stdout.readline() == "handling Vega\n"


@pytest.mark.parametrize(
    ("code", "error_type", "status"),
    [
        ("import does_not_exist", "Runtime.ImportModuleError", 1),
        ("handler = ", "Runtime.UserCodeSyntaxError", 1),
        ("other = 1", "Runtime.HandlerNotFound", 1),
        ("raise ValueError('bad')", "ValueError", 1),
    ],
)
def test_a_failing_init_is_posted(start: Start, api: RuntimeApi, code: str, error_type: str, status: int) -> None:
    process = start(code)
    path, header, body = api.next_posted()
    assert (path, header, body["errorType"]) == ("init/error", error_type, error_type)
    assert process.wait(30) == status


@pytest.mark.parametrize(
    ("hook", "path", "header", "status"),
    [
        ("register_before_snapshot", "init/error", "Runtime.BeforeSnapshotError", 64),
        ("register_after_restore", "restore/error", "Runtime.AfterRestoreError", 65),
    ],
)
def test_a_failing_hook_is_posted(
    start: Start, api: RuntimeApi, hook: str, path: str, header: str, status: int
) -> None:
    hooked = f"import snapshot_restore\n@snapshot_restore.{hook}\ndef fail(): raise RuntimeError('no database')\n"
    process = start(hooked + HANDLER)
    api.release.set()
    assert api.next_posted()[:2] == (path, header)
    assert process.wait(30) == status


def test_client_folder_is_compiled_for_the_path_that_the_sandbox_sees(installed: Installed) -> None:
    sources = [file for file in installed.client.rglob("*.py") if "awslambdaric" in file.parts]
    assert sources
    program = "import marshal,sys; print(marshal.loads(open(sys.argv[1],'rb').read()[16:]).co_filename)"
    for source in [*sources, installed.client / "bootstrap.py"]:
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.cpython-*.pyc")
        assert compiled.read_bytes()[4:8] == b"\x01\0\0\0", "compiled against a hash that nobody checks"
    said = subprocess.run([installed.executable, "-c", program, compiled], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "/var/runtime/bootstrap.py"


def test_client_folder_can_be_read_by_the_functions_user(installed: Installed) -> None:
    for file in [installed.client, *installed.client.rglob("*")]:
        assert file.stat().st_mode & 0o444 == 0o444, file
        assert not file.is_dir() or file.stat().st_mode & 0o555 == 0o555, file


def test_half_installed_folders_of_dead_servers_are_removed(tmp_path: Path, installed: Installed) -> None:
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    (tmp_path / f".part-{dead.stdout.strip()}-x" / "boto3").mkdir(parents=True)
    (tmp_path / f".part-{os.getpid()}-y").mkdir()
    (tmp_path / installed.client.name).mkdir()
    remove_abandoned(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {f".part-{os.getpid()}-y", installed.client.name}
