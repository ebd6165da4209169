"""Java installations: which are found, how a sandbox starts them, and how their client is fetched."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from thaw.errors import RuntimeNotFound
from thaw.runtimes import java, java_client
from thaw.runtimes.java_client import BOOTSTRAP, COMPILERS, JARS, JNI_LIBRARY, Jar, client_digest, client_folder
from thaw.runtimes.java_homes import JavaHome, discover, read_home


def home(folder: Path, version: str) -> Path:
    for name in ("bin/java", "lib/server/libjvm.so", "lib/modules"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("#!/bin/sh\n")
    (folder / "bin" / "java").chmod(0o755)
    (folder / "release").write_text(f'IMPLEMENTOR="Somebody"\nJAVA_VERSION="{version}"\n')
    return folder


def installed(tmp_path: Path, version: str = "17.0.15") -> JavaHome:
    found = read_home(home(tmp_path / f"jdk-{version}", version))
    assert found is not None
    return found


def client(folder: Path) -> Path:
    folder.mkdir()
    (folder / "client.txt").write_text("aws-lambda-java-core-1.4.0\n")
    return folder


def test_an_installation_is_read_from_its_release_file(tmp_path: Path) -> None:
    found = installed(tmp_path)
    assert (found.name, found.version, found.major, found.implementor) == ("java17", "17.0.15", 17, "Somebody")


@pytest.mark.parametrize("version", ["1.8.0_402", "9.0.4", "22", "", "early"])
def test_versions_that_lambda_does_not_have_are_passed_over(tmp_path: Path, version: str) -> None:
    assert read_home(home(tmp_path / "jdk", version)) is None


@pytest.mark.parametrize("part", ["bin/java", "lib/server/libjvm.so", "lib/modules", "release"])
def test_an_installation_without_one_of_its_parts_is_none(tmp_path: Path, part: str) -> None:
    folder = home(tmp_path / "jdk", "21.0.2")
    (folder / part).unlink()
    assert read_home(folder) is None


def test_installations_come_newest_first_and_once(tmp_path: Path) -> None:
    homes = [home(tmp_path / name, version) for name, version in (("a", "17.0.9"), ("b", "25"), ("c", "17.0.15"))]
    (tmp_path / "link").symlink_to(homes[0])
    found = discover([tmp_path / "absent", tmp_path / "link", *homes])
    assert [one.version for one in found] == ["25", "17.0.15", "17.0.9"]


def test_an_installation_elsewhere_is_mounted_where_lambda_has_its_own(tmp_path: Path) -> None:
    folder = client(tmp_path / "client")
    runtime = java.describe(installed(tmp_path), folder, "eu-west-1")
    assert [(mount.source, mount.target) for mount in runtime.mounts] == [
        (tmp_path / "jdk-17.0.15", "/var/lang"),
        (folder, "/var/runtime"),
    ]
    assert runtime.argv == ("/bin/sh", "/var/runtime/bootstrap", "/var/lang/bin/java", "17")
    assert runtime.variables["JAVA_HOME"] == "/var/lang"
    assert runtime.label == "java:17.v15"
    assert runtime.version_arn == f"arn:aws:lambda:eu-west-1::runtime:{runtime.digest}"


@pytest.mark.parametrize("part", ["bin/java", "lib/server/libjvm.so", "lib/modules"])
def test_the_digest_changes_when_a_part_is_replaced(tmp_path: Path, part: str) -> None:
    found, folder = installed(tmp_path), client(tmp_path / "client")
    before = java.runtime_digest(found, folder)
    assert java.runtime_digest(found, folder) == before
    os.utime(found.folder / part, (1, 1))
    assert java.runtime_digest(found, folder) != before


async def test_a_java_that_is_not_here_is_named(tmp_path: Path) -> None:
    runtimes = java.JavaRuntimes(
        tmp_path, region="us-east-1", homes=[home(tmp_path / "jdk", "25.0.1")], progress=lambda line: None
    )
    assert await runtimes.names() == ("java25",)
    assert [runtimes.serves(name) for name in ("java11", "java21", "java8", "java22")] == [True, True, False, False]
    with pytest.raises(RuntimeNotFound) as caught:
        await runtimes.find("java21")
    assert str(caught.value) == (
        "The runtime java21 cannot be served, because this machine has no such Java in JAVA_HOME, on PATH or in the "
        "usual places (it has: java25): install one, or name its folder with `thaw runtime add`."
    )


# --- the client -------------------------------------------------------------------------------------------------------


def jar_file(file: Path) -> str:
    """A file that looks like the client's jar; its SHA-256."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("jni/libaws-lambda-jni.linux-x86_64.so", "native")
    return hashlib.sha256(file.read_bytes()).hexdigest()


async def test_the_client_is_fetched_from_a_repository_and_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = JARS[0]
    digest = jar_file(tmp_path / "repository" / first.path)
    monkeypatch.setattr(java_client, "JARS", (Jar(first.group, first.artifact, first.version, digest),))
    said: list[str] = []
    url = f"file://{tmp_path}/repository"
    folder = await client_folder(tmp_path / "state", None, repository_url=url, progress=said.append)
    assert sorted(file.name for file in folder.iterdir()) == sorted(
        [first.file_name, JNI_LIBRARY, BOOTSTRAP, COMPILERS, "client.txt"]
    )
    assert (folder / JNI_LIBRARY).read_text() == "native"
    assert said[-1].endswith("for Java, without priming, because this machine has no JDK with javac.")
    assert await client_folder(tmp_path / "state", None, progress=said.append) == folder


async def test_a_jar_with_other_bytes_is_refused_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = JARS[0]
    digest = jar_file(tmp_path / "repository" / first.path)
    monkeypatch.setattr(java_client, "JARS", (first,))
    with pytest.raises(RuntimeNotFound) as caught:
        await client_folder(
            tmp_path / "state", None, repository_url=f"file://{tmp_path}/repository", progress=lambda line: None
        )
    assert str(caught.value) == (
        f"The runtime interface client for Java was refused, because {first.file_name} has the SHA-256 {digest} and "
        f"not {first.sha256}: look for what replaces files in the repository or in Maven's local copy of it."
    )
    assert list((tmp_path / "state").iterdir()) == []


async def test_no_repository_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RuntimeNotFound) as caught:
        await client_folder(tmp_path, None, repository_url="http://127.0.0.1:9/", progress=lambda line: None)
    assert str(caught.value).startswith(
        f"The runtime interface client for Java could not be fetched, because http://127.0.0.1:9/{JARS[0].path} answers"
    )
    assert str(caught.value).endswith(
        "set THAW_MAVEN_REPOSITORY_URL to a repository that has Maven Central's files, and try again."
    )


async def test_no_maven_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeNotFound) as caught:
        await client_folder(tmp_path / "state", None, progress=lambda line: None)
    assert str(caught.value) == (
        "The runtime interface client for Java cannot be fetched, because this machine has no Maven (mvn) on PATH: "
        "install Maven, or set THAW_MAVEN_REPOSITORY_URL to the address of a Maven repository."
    )


def test_a_machine_with_a_compiler_gets_a_folder_of_its_own() -> None:
    assert client_digest(None) != client_digest(Path("/usr/bin/javac"))
