"""The packages of the image, each with the hashes of its files: ``python -m tests.deploy.lock`` writes both locks.

``deploy/requirements.lock`` has what setup.cfg requires, with the extra ``msk``, and all that these require, for every
platform and every Python that the program supports. ``deploy/build.lock`` has what builds wheels from sources.

What is locked stays as it is while it fits setup.cfg. ``--upgrade`` takes the newest of everything that no pin holds,
``--upgrade-package NAME`` of one. It needs the extra ``release`` and a package index; tests need neither.
"""

import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.named import ROOT

LOCK, BUILD_LOCK = ROOT / "deploy/requirements.lock", ROOT / "deploy/build.lock"
EXTRAS = ("msk",)
# Of setup.cfg, and of the sources of faust-streaming, which has no wheel for ARM64.
BUILD = "setuptools>=77\nsetuptools-scm\ncython\n"
COMMAND = "python -m tests.deploy.lock"


def write(*options: str) -> None:
    """Both files anew; ``options`` are uv's."""
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "compile", "--quiet", "--universal"]
    uv += ["--python-version", "3.11", "--generate-hashes", "--no-emit-index-url", "--custom-compile-command", COMMAND]
    extras = [word for name in EXTRAS for word in ("--extra", name)]
    for source, given, lock, more in (("setup.cfg", None, LOCK, extras), ("-", BUILD, BUILD_LOCK, [])):
        out = ["--output-file", str(lock.relative_to(ROOT))]
        subprocess.run([*uv, *more, *options, *out, source], cwd=ROOT, input=given, text=True, check=True)


def entries(text: str) -> list[tuple[Requirement, list[str]]]:
    """Each requirement of a lock with its hashes."""
    joined = re.sub(r"\\\n", " ", text)
    found = []
    for line in joined.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            words = re.split(r"\s+--hash=", line.strip())
            found.append((Requirement(words[0]), words[1:]))
    return found


def required() -> list[Requirement]:
    """What setup.cfg says that the image has."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg", "utf-8")
    lists = [parser["options"]["install_requires"], *(parser["options.extras_require"][name] for name in EXTRAS)]
    return [Requirement(line) for one in lists for line in one.strip().splitlines()]


def closure(of: list[Requirement]) -> Iterator[Requirement]:
    """With all that these require on this machine, as the installed packages say; no further where one is missing."""
    seen, waiting = set(), list(of)
    while waiting:
        one = waiting.pop()
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        yield one
        for extra in ("", *sorted(one.extras)):
            if (key := (canonicalize_name(one.name), extra)) not in seen:
                seen.add(key)
                waiting += _requires(one.name, extra)


def _requires(name: str, extra: str) -> Iterator[Requirement]:
    try:
        lines = distribution(name).requires or []
    except PackageNotFoundError:
        return
    for line in lines:
        found = Requirement(line)
        if found.marker is None or found.marker.evaluate({"extra": extra}):
            found.marker = None
            yield found


def faults(text: str, of: list[Requirement]) -> list[str]:
    """What is wrong with a lock of these requirements."""
    found = [f"{one}: not one exact version" for one, _ in entries(text) if not _version(one)]
    found += [f"{one}: no hash" for one, hashes in entries(text) if not hashes]
    found += [f"{one}: {value}" for one, hashes in entries(text) for value in hashes if not _is_hash(value)]
    locked: dict[str, set[str]] = {}
    for one, _ in entries(text):
        locked.setdefault(canonicalize_name(one.name), set()).add(_version(one))
    for one in closure(of):
        versions = locked.get(canonicalize_name(one.name), set())
        if not versions:
            found.append(f"{one}: not locked")
        elif not any(one.specifier.contains(version, prereleases=True) for version in versions):
            found.append(f"{one}: locked is {', '.join(sorted(versions))}")
    return found


def _version(one: Requirement) -> str:
    exact = re.fullmatch(r"==([^*,]+)", str(one.specifier))
    return exact[1] if exact else ""


def _is_hash(value: str) -> bool:
    return re.fullmatch(r"sha256:[0-9a-f]{64}", value) is not None


if __name__ == "__main__":
    write(*sys.argv[1:])
