"""`thaw lint`: what it finds and what it leaves alone, one small module at a time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from thaw.lint import RULES, check, check_paths
from thaw.lint.check import SYNTAX

HANDLER = "\ndef handler(event, context):\n    return event\n"


def codes(source: str) -> list[tuple[int, str]]:
    """(line, code) of every finding."""
    return [(one.line, one.code) for one in check(source, "app.py")]


FOUND = {
    "a random value": ("import random\nx = random.random()", (2, "TS101")),
    "an alias": ("from numpy import random as r\nx = r.rand(3)", (2, "TS101")),
    "a function by another name": ("import uuid\nnew = uuid.uuid4\nID = new()", (3, "TS111")),
    "a function as an argument": (
        "import uuid\ndef call(f):\n    return f()\nID = call(uuid.uuid4)",
        (4, "TS111"),
    ),
    "all names of a module": ("from uuid import *\nID = uuid4()", (2, "TS111")),
    "a name that may be missing": (
        "try:\n    from uuid import uuid7\nexcept ImportError:\n    uuid7 = None\nID = uuid7()",
        (5, "TS111"),
    ),
    "a decision by lot": ("import random\nCANARY = random.random() < 0.1", (2, "TS101")),
    "a name within a condition": ("import random\nif (n := random.randint(0, 5)) > 3:\n    pass", (2, "TS101")),
    "an id of a lambda": ("import uuid\nID = (lambda: uuid.uuid4())()", (2, "TS111")),
    "an id of a coroutine": (
        "import asyncio, uuid\nasync def load():\n    return uuid.uuid4()\nID = asyncio.run(load())",
        (4, "TS111"),
    ),
    "an id of a coroutine on a loop": (
        "import asyncio, uuid\nasync def load():\n    return uuid.uuid4()\n"
        "loop = asyncio.new_event_loop()\nID = loop.run_until_complete(load())",
        (5, "TS111"),
    ),
    "a key in a cache": (
        "import functools, os\n@functools.cache\ndef key():\n    return os.urandom(8)\nkey()",
        (5, "TS101"),
    ),
    "random order": ("import random\nhosts = ['a', 'b']\nrandom.shuffle(hosts)", (3, "TS101")),
    "a random token": ("import secrets\nKEY = secrets.token_hex(8)", (2, "TS101")),
    "a generator": ("import random\nrng = random.Random()", (2, "TS102")),
    "numpy's generator": ("import numpy as np\nrng = np.random.default_rng()", (2, "TS102")),
    "a seed of the moment": ("import random, time\nrandom.seed(time.time())", (2, "TS103")),
    "an id": ("from uuid import uuid4 as new\nID = str(new())", (2, "TS111")),
    "an id in a formatted string": ("import uuid\nNAME = f'worker-{uuid.uuid4().hex[:8]}'", (2, "TS111")),
    "an id in a container": ("import uuid\nstate = {}\nstate['id'] = uuid.uuid4()", (3, "TS111")),
    "an id in a list": ("import uuid\nids = []\nids.append(uuid.uuid4())", (3, "TS111")),
    "an id in the environment": ("import os, uuid\nos.environ['ID'] = str(uuid.uuid4())", (2, "TS111")),
    "an id in a class": ("import uuid\nclass Worker:\n    id = uuid.uuid4()", (3, "TS111")),
    "an id in an object": (
        "import uuid\nclass W:\n    def __init__(self):\n        self.id = uuid.uuid4()\nw = W()",
        (5, "TS111"),
    ),
    "an id through functions": (
        "import uuid\ndef a():\n    return b() + 'x'\ndef b():\n    return uuid.uuid4().hex\nid = a()",
        (6, "TS111"),
    ),
    "an id that a function sets": (
        "import uuid\nID = None\ndef init():\n    global ID\n    ID = uuid.uuid4()\ninit()",
        (6, "TS111"),
    ),
    "an id in a closure": (
        "import uuid\ndef make():\n    id = uuid.uuid4()\n    def get():\n        return id\n"
        "    return get\nget = make()",
        (7, "TS111"),
    ),
    "an id on a branch": (
        "import os, uuid\nID = os.environ.get('ID')\nif not ID:\n    ID = uuid.uuid4()",
        (4, "TS111"),
    ),
    "an id as a default": ("import uuid\ndef f(id=uuid.uuid4()):\n    return id", (2, "TS111")),
    "a process number": ("import os\nPID = os.getpid()", (2, "TS112")),
    "a time": (
        "import time\nBEGAN = time.time()\ndef handler(e, context):\n    return time.time() - BEGAN",
        (2, "TS121"),
    ),
    "a date in a class": ("from datetime import datetime\nclass T:\n    made = datetime.now()", (3, "TS121")),
    "a secret": ("import boto3\nS = boto3.client('secretsmanager').get_secret_value(SecretId='x')", (2, "TS131")),
    "a decrypted parameter": (
        "import boto3\nssm = boto3.client('ssm')\nP = ssm.get_parameter(Name='x', WithDecryption=True)['Parameter']",
        (3, "TS131"),
    ),
    "the platform's credentials": ("import os\nTOKEN = os.environ['AWS_SESSION_TOKEN']", (2, "TS131")),
    "a connection": ("import psycopg2\nc = psycopg2.connect('x')\ncursor = c.cursor()", (2, "TS141")),
    "a connection by a copied package": ("from vendor import pymysql\nc = pymysql.connect('x')", (2, "TS141")),
    "a connected socket": ("import socket\ns = socket.socket()\ns.connect(('db', 1))", (3, "TS141")),
    "a temporary file": ("import tempfile\nfd, path = tempfile.mkstemp()", (2, "TS151")),
    "a thread that nobody holds": ("from threading import Thread\nThread(target=print).start()", (2, "TS161")),
    "a class that is a thread": (
        "import threading\nclass T(threading.Thread):\n    pass\nt = T()\nt.start()",
        (5, "TS161"),
    ),
    "a pool at work": (
        "from concurrent.futures import ThreadPoolExecutor\np = ThreadPoolExecutor()\nf = p.submit(print)",
        (3, "TS161"),
    ),
    "a child process": ("import subprocess\np = subprocess.Popen(['x'])", (2, "TS171")),
}

LEFT_ALONE = {
    "what the handler makes": "import uuid\ndef handler(event, context):\n    return uuid.uuid4()",
    "a function that is not called": "import uuid\nf = lambda: uuid.uuid4()\ndef g():\n    return uuid.uuid4()",
    "a default factory": "import uuid\nfrom dataclasses import field\nid = field(default_factory=uuid.uuid4)",
    "a constant seed": "import random\nimport numpy as np\nr = random.Random(7)\n"
    "g = np.random.default_rng(0)\nrandom.seed(1)",
    "the system's generator": "import random\nr = random.SystemRandom()",
    "an id made of a name": "import uuid\nN = uuid.uuid5(uuid.NAMESPACE_DNS, 'x')",
    "how long Init took": "import time\nbegan = time.time()\nimport json\nprint(time.time() - began)",
    "a client": "import boto3\ns3 = boto3.client('s3')\nt = boto3.resource('dynamodb').Table('x')",
    "credentials that renew themselves": "import boto3\ncredentials = boto3.Session().get_credentials()",
    "a plain parameter": "import boto3\nP = boto3.client('ssm').get_parameter(Name='x')",
    "a lazy connection": "import redis, requests\nr = redis.Redis()\ns = requests.Session()",
    "a closed connection": "import psycopg2\nc = psycopg2.connect('x')\nrows = 1\nc.close()",
    "a connection for a block": "import psycopg2\nwith psycopg2.connect('x') as c:\n    pass",
    "a temporary folder for a block": "import tempfile\nwith tempfile.TemporaryDirectory() as d:\n    n = 3",
    "a thread that has ended": "import threading\nt = threading.Thread(target=print)\nt.join()",
    "a thread that is not started": "import threading\nt = threading.Thread(target=print)",
    "an idle pool": "from concurrent.futures import ThreadPoolExecutor\np = ThreadPoolExecutor(4)",
    "a finished process": "import subprocess\nout = subprocess.run(['x'])\np = subprocess.Popen(['y'])\np.wait()",
    "a script": "import uuid\nif __name__ == '__main__':\n    ID = uuid.uuid4()",
    "a value that was replaced": "import uuid\nID = uuid.uuid4()\nID = None",
    "a value that was deleted": "import uuid\nID = uuid.uuid4()\ndel ID",
    "another module's name": "from mine import uuid4\nID = uuid4()",
    "a comparison": "import time\nLATE = time.time() > 5\ndef f():\n    return LATE",
    "recursion": "def f(x):\n    return f(x)\ny = f(1)\nclass A:\n    def __init__(self):\n"
    "        self.a = A()\na = A()",
}

HOOKED = {
    "a value set again": "import uuid\nID = uuid.uuid4()\n@register_after_restore\ndef renew():\n"
    "    global ID\n    ID = 1",
    "an attribute set again": "import uuid\nclass S: pass\ns = S()\ns.id = uuid.uuid4()\n"
    "@register_after_restore\ndef renew():\n    s.id = uuid.uuid4()",
    "a generator seeded again": "import random\nr = random.Random()\nregister_after_restore(lambda: r.seed())",
    "a method of the object": "import random\nclass P:\n    def __init__(self):\n        self.r = random.Random()\n"
    "    def reset(self):\n        self.r.seed()\npool = P()\nregister_after_restore(pool.reset)",
    "a function that the hook calls": "import psycopg2\nc = None\ndef connect():\n    global c\n"
    "    c = psycopg2.connect('x')\n"
    "connect()\n@register_after_restore\ndef again():\n    connect()",
    "a connection closed before": "import psycopg2\nc = psycopg2.connect('x')\n"
    "@register_before_snapshot\ndef end():\n    c.close()",
    "global seeds": "import random\nrandom.seed()\n@register_after_restore\ndef seed():\n    random.seed()",
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
def test_found(case: str) -> None:
    source, expected = FOUND[case]
    assert codes(source + HANDLER) == [expected]


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_left_alone(case: str) -> None:
    assert codes(LEFT_ALONE[case] + HANDLER) == []


@pytest.mark.parametrize("case", HOOKED)
def test_what_hooks_make_anew_is_no_finding(case: str) -> None:
    hooks = "from snapshot_restore_py import register_after_restore, register_before_snapshot\n"
    assert codes(hooks + HOOKED[case]) == []
    without = HOOKED[case].replace("@register_after_restore", "@print").replace("@register_before_snapshot", "@print")
    without = without.replace("register_after_restore(", "print(")
    assert codes(without), "it is the hook that makes the difference"


def test_every_rule_is_tried() -> None:
    assert {code for _, (_, code) in FOUND.values()} == set(RULES)


def test_a_finding_is_one_sentence_with_place_keeper_reason_and_remedy() -> None:
    source = "import uuid\ndef new():\n    return uuid.uuid4()\nID = new()\n"
    (finding,) = check(source, "src/app.py")
    assert str(finding) == (
        "src/app.py:4:6: TS111 uuid.uuid4() (line 3) is called during Init and kept in ID: every clone has "
        "the same id: "
        "make it in the handler, or again in an after-restore hook."
    )


@pytest.mark.parametrize(
    ("comment", "silent"),
    [("# noqa", True), ("# noqa: TS111", True), ("# noqa:E501,TS111", True), ("# NOQA : ts111", True),
     ("# noqa: E501", False), ("# noqa: TS101", False), ("# about noqa", False)],
)  # fmt: skip
def test_noqa(comment: str, silent: bool) -> None:
    assert (codes(f"import uuid\nID = uuid.uuid4()  {comment}\n") == []) is silent
    assert (codes(f"import uuid\nID = (\n    uuid.uuid4(\n    )  {comment}\n)\n") == []) is silent


def test_a_file_that_is_no_python_is_one_finding() -> None:
    (finding,) = check("print 'x'\n", "old.py")
    assert (finding.line, finding.code) == (1, SYNTAX)
    assert finding.sentence.startswith("The file cannot be read as Python (")


def tree(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        file = folder / name.replace("__", "/").replace("_py", ".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def test_a_folder_is_checked_as_its_handlers_import_it(tmp_path: Path) -> None:
    tree(
        tmp_path,
        app_py="from lib.ids import new\nfrom config import ID\nNAME = new()\n"
        "def handler(event, context):\n    return ID",
        config_py="import uuid\nID = uuid.uuid4()\n",
        lib__ids_py="import uuid\ndef new():\n    return uuid.uuid4()\n",
        tool_py="import uuid\nID = uuid.uuid4()\n",
        tests__test_app_py="import uuid\nID = uuid.uuid4()\ndef handler(event, context): pass\n",
    )
    found = [(Path(one.path).name, one.line, one.code) for one in check_paths([tmp_path])]
    assert found == [("app.py", 3, "TS111"), ("config.py", 2, "TS111")]
    every = [Path(one.path).name for one in check_paths([tmp_path], every=True)]
    assert every == ["app.py", "config.py", "tool.py"]
    assert len(check_paths([tmp_path / "tool.py"])) == 1, "a file that is named is checked"


def test_installed_packages_in_the_folder_are_not_the_functions_own(tmp_path: Path) -> None:
    tree(
        tmp_path,
        app_py="import package.first, single\ndef handler(event, context): pass",
        package__first_py="import uuid\nID = uuid.uuid4()\n",
        single_py="import uuid\nID = uuid.uuid4()\n",
    )
    assert len(check_paths([tmp_path])) == 2
    (tmp_path / "package-1.0.dist-info").mkdir()
    (tmp_path / "package-1.0.dist-info" / "RECORD").write_text("package/first.py,,\nsingle.py,sha256=x,3\n")
    assert check_paths([tmp_path]) == []


def run(*arguments: str, status: int) -> str:
    done = subprocess.run([sys.executable, "-m", "thaw.cli", "lint", *arguments], capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_the_command(tmp_path: Path) -> None:
    file = tmp_path / "app.py"
    file.write_text("import uuid\nID = uuid.uuid4()\n")
    said = run(str(file), status=1)
    assert f"{file}:2:6: TS111 uuid.uuid4() is called during Init and kept in ID" in said
    assert "1 finding in 1 file; `thaw lint --rules` explains the codes." in said
    (one,) = json.loads(run(str(file), "--format", "json", status=1))
    assert (one["path"], one["line"], one["column"], one["code"]) == (str(file), 2, 6, "TS111")
    document = json.loads(run(str(file), "--format", "sarif", status=1))
    (result,) = document["runs"][0]["results"]
    assert result["ruleId"] == "TS111"
    assert result["locations"][0]["physicalLocation"]["region"] == {"startLine": 2, "startColumn": 6}
    file.write_text("")
    assert "Nothing was found in 1 file that clones of a snapshot would share." in run(str(file), status=0)
    file.write_text("print 'x'")
    assert "TS001" in run(str(file), status=2)
    missing = tmp_path / "none.py"
    assert run(str(missing), status=1) == (
        f"thaw: {missing} cannot be checked, because it is not there: name a file or a folder.\n"
    )
    (empty := tmp_path / "empty").mkdir()
    assert run(str(empty), status=1) == (
        f"thaw: There is no Python file in {empty}, so nothing was checked: name the folder of a function's code, or a "
        "file.\n"
    )
    assert "TS161" in run("--rules", status=0)


def test_what_cannot_be_read_is_one_finding_and_the_rest_is_checked(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import uuid\nID = uuid.uuid4()\n")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.py")
    assert [(Path(one.path).name, one.code, one.sentence[:40]) for one in check_paths([tmp_path])] == [
        ("app.py", "TS111", "uuid.uuid4() is called during Init and k"),
        ("gone.py", SYNTAX, "The file cannot be read (No such file or"),
        ("pipe.py", SYNTAX, "The file cannot be read (it is no regula"),
    ]
