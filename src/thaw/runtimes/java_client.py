"""The folder that a Java function's sandbox has as /var/runtime: the AWS runtime interface client and our bootstrap.

Maven fetches the client's jars once, from Maven Central or the mirror in Maven's settings.xml; with
THAW_MAVEN_REPOSITORY_URL they are fetched directly, and no Maven is needed. Either way only the bytes whose SHA-256 is
written here are taken.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from thaw.errors import RuntimeNotFound
from thaw.runtimes.installation import COMPLETE, Progress, complete_folder, run
from thaw.runtimes.java_homes import SERVED

MOUNTED_AT = "/var/runtime"
BOOTSTRAP = "bootstrap"
JNI_LIBRARY = "libaws-lambda-jni.so"
START_JAR = "thaw-start.jar"
COMPILERS = "compilers.json"
_SOURCE = "java.sh"
_JNI_ENTRY = "jni/libaws-lambda-jni.linux-x86_64.so"
# Pinned, so that a Maven that is older than the newest plugin gets the same one.
_COPY_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_FETCH_LIMIT_S = 120.0


@dataclass(frozen=True, slots=True)
class Jar:
    """One artifact of the client, by Maven's coordinates."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """As in a repository: artifact-version.jar."""
        return f"{self.artifact}-{self.version}.jar"

    @property
    def path(self) -> str:
        """Below a repository's address (Maven's default layout)."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.file_name}"


CLIENT = Jar(
    "com.amazonaws",
    "aws-lambda-java-runtime-interface-client",
    "2.9.0",
    "26568a5f63bf9e921567e77661be425650abc8972bae2aa0b7e99bab4e4239d9",
)
JARS = (
    CLIENT,
    Jar(
        "com.amazonaws",
        "aws-lambda-java-core",
        "1.4.0",
        "575c24393cc1ad645e83e618956eabd89ffe8cc09efae2cb62bc6589154d68ed",
    ),
    Jar(
        "com.amazonaws",
        "aws-lambda-java-serialization",
        "1.2.0",
        "1513c1f945a3213f916a4b2de1760c97b51d84d110f82bbbcf9cfac53d5651e7",
    ),
    Jar(
        "software.amazon.awssdk",
        "utils-lite",
        "2.34.0",
        "efaf784f07ae526f0b5c89d71ef21cf16636131c47d44616e3df9bedc3f4f89a",
    ),
    Jar(
        "software.amazon.awssdk",
        "annotations",
        "2.34.0",
        "fafdcb55f4e5af603f5219f4a2b080aa0decb562a7c0944f7a7eca82dd47e487",
    ),
)


def client_digest(compiler: Path | None) -> str:
    """Hex name of what would be installed: another jar or bootstrap, another folder."""
    digest = hashlib.sha256(_bootstrap() + b"\0" + _compilers())
    for jar in JARS:
        digest.update(b"\0" + jar.sha256.encode())
    if compiler is not None:
        for _, content in _sources():
            digest.update(b"\0" + content)
    return digest.hexdigest()[:16]


async def client_folder(
    runtimes_dir: Path, compiler: Path | None, *, repository_url: str | None = None, progress: Progress
) -> Path:
    """The complete client folder, which every version of Java shares; the jars are fetched if it is not there yet.

    `compiler` is a javac; without one the client starts by itself, and a clone's first call finds it not primed.
    Raises `RuntimeNotFound` when the jars cannot be had, or are not the ones that this module names.
    """
    name = f"java-{client_digest(compiler)}"
    if (runtimes_dir / name / COMPLETE).is_file():
        return runtimes_dir / name
    progress("Fetching the runtime interface client for Java (once, about 20 seconds) ...")
    folder = await complete_folder(runtimes_dir, name, lambda part: _fill(part, compiler, repository_url))
    primed = "" if compiler else ", without priming, because this machine has no JDK with javac"
    progress(f"Installed {CLIENT.file_name.removesuffix('.jar')} for Java{primed}.")
    return folder


async def _fill(part: Path, compiler: Path | None, repository_url: str | None) -> list[str]:
    if repository_url is not None:
        await asyncio.to_thread(_download, part, repository_url)
    else:
        await _copy_by_maven(part)
    for jar in JARS:
        _verify(part / jar.file_name, jar)
    with zipfile.ZipFile(part / CLIENT.file_name) as archive:
        (part / JNI_LIBRARY).write_bytes(archive.read(_JNI_ENTRY))
    (part / BOOTSTRAP).write_bytes(_bootstrap())
    (part / COMPILERS).write_bytes(_compilers())
    if compiler is not None:
        await _compile_start(part, compiler)
    return [f"{jar.artifact}-{jar.version}" for jar in JARS]


def _bootstrap() -> bytes:
    return (resources.files("thaw.runtimes") / "bootstrap" / _SOURCE).read_bytes()


def _compilers() -> bytes:
    return (resources.files("thaw.runtimes") / "bootstrap" / COMPILERS).read_bytes()


def _sources() -> list[tuple[str, bytes]]:
    """Our own classes, as names below the folder of sources and contents."""
    folder = resources.files("thaw.runtimes") / "bootstrap" / "java" / "thaw" / "runtime"
    found = ((file.name, file.read_bytes()) for file in folder.iterdir() if file.name.endswith(".java"))
    return sorted((f"thaw/runtime/{name}", content) for name, content in found)


async def _compile_start(part: Path, compiler: Path) -> None:
    """Compiles our classes for the oldest Java that is served, into a jar beside the client's."""
    with tempfile.TemporaryDirectory(prefix="thaw-java-") as folder:
        sources = Path(folder, "sources")
        for name, content in _sources():
            (sources / name).parent.mkdir(parents=True, exist_ok=True)
            (sources / name).write_bytes(content)
        classes = Path(folder, "classes")
        status, said = await run(
            [str(compiler), "--release", str(SERVED[-1]), "-proc:none", "-d", str(classes), "-cp", f"{part}/*"]
            + [str(sources / name) for name, _ in _sources()]
        )
        if status != 0:
            raise RuntimeNotFound(
                f"The start of the runtime interface client for Java could not be compiled, because {compiler} says "
                f"{_first_error(said)!r}: check that this JDK is complete."
            )
        with zipfile.ZipFile(part / START_JAR, "w") as archive:
            for file in sorted(classes.rglob("*.class")):
                archive.write(file, file.relative_to(classes))


def _verify(file: Path, jar: Jar) -> None:
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != jar.sha256:
        raise RuntimeNotFound(
            f"The runtime interface client for Java was refused, because {jar.file_name} has the SHA-256 {found} and "
            f"not {jar.sha256}: look for what replaces files in the repository or in Maven's local copy of it."
        )


def _download(part: Path, repository_url: str) -> None:
    for jar in JARS:
        url = f"{repository_url.rstrip('/')}/{jar.path}"
        try:
            with (
                urllib.request.urlopen(url, timeout=_FETCH_LIMIT_S) as answer,
                open(part / jar.file_name, "wb") as file,
            ):
                shutil.copyfileobj(answer, file)
        except (urllib.error.URLError, TimeoutError) as error:
            raise RuntimeNotFound(
                f"The runtime interface client for Java could not be fetched, because {url} answers {str(error)!r}: "
                "set THAW_MAVEN_REPOSITORY_URL to a repository that has Maven Central's files, and try again."
            ) from error


async def _copy_by_maven(part: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise RuntimeNotFound(
            "The runtime interface client for Java cannot be fetched, because this machine has no Maven (mvn) on PATH: "
            "install Maven, or set THAW_MAVEN_REPOSITORY_URL to the address of a Maven repository."
        )
    project = part / "pom.xml"
    project.write_text(_project(JARS))
    status, said = await run(
        [maven, "-B", "-ntp", "-q", "-f", str(project), _COPY_GOAL, f"-DoutputDirectory={part}"],
    )
    project.unlink()
    absent = [jar.file_name for jar in JARS if not (part / jar.file_name).is_file()]
    if status != 0 or absent:
        raise RuntimeNotFound(
            f"The runtime interface client for Java could not be fetched, because Maven says {_first_error(said)!r}: "
            "make Maven Central or a mirror of it reachable (Maven's settings.xml, or THAW_MAVEN_REPOSITORY_URL) and "
            "try again."
        )


def _project(jars: Iterable[Jar]) -> str:
    """A project that depends on exactly these jars and builds nothing."""
    wanted = "".join(
        f"<dependency><groupId>{jar.group}</groupId><artifactId>{jar.artifact}</artifactId>"
        f"<version>{jar.version}</version>"
        "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>"
        for jar in jars
    )
    return (
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>thaw</groupId><artifactId>client</artifactId><version>1</version><packaging>pom</packaging>"
        f"<dependencies>{wanted}</dependencies></project>\n"
    )


def _first_error(text: str) -> str:
    """The line that tells most: Maven's first, because those after it only tell where to read more."""
    lines = [line.strip() for line in text.splitlines()]
    errors = [line.removeprefix("[ERROR] ") for line in lines if line.startswith("[ERROR] ")]
    return (errors or [line for line in lines if line] or ["nothing"])[0]
