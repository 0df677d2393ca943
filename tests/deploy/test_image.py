"""The Dockerfile and the locks that it installs from. `python -m tests.deploy.image` builds and starts the image."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import app
from app.compiled.code_cache import directory
from tests.deploy.lock import BUILD, BUILD_LOCK, LOCK, faults, required
from tests.deploy.named import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
TEXT = LOCK.read_text("utf-8")


def hadolint(text):
    command = [Path(sys.executable).with_name("hadolint"), "--no-color", "-"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def test_hadolint_finds_nothing():
    done = hadolint(DOCKERFILE)
    assert done.returncode == 0, done.stdout
    assert "DL3007" in hadolint("FROM python:latest\n").stdout


def test_the_image_is_of_this_version():
    assert re.findall(r'image\.version="(.+)"', DOCKERFILE) == [app.__version__]


def test_only_what_is_copied_enters_the_build():
    copied = {word for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M) for word in line.split()}
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert {line[1:] for line in ignored if line.startswith("!")} == copied
    assert ignored[1] == "*" and all((ROOT / name).exists() for name in copied)


def test_the_lock_has_all_that_setup_cfg_requires():
    assert faults(TEXT, required()) == []
    assert faults(BUILD_LOCK.read_text("utf-8"), [Requirement(line) for line in BUILD.splitlines()]) == []
    assert "://" not in TEXT + BUILD_LOCK.read_text("utf-8"), "a lock names no index"


@pytest.mark.parametrize(
    ("pattern", "instead", "fault"),
    [
        (r"(?m)^aiohttp==.*\\$", r"aiohttp==3.0.0 \\", "aiohttp==3.14.5: locked is 3.0.0"),
        (r"(?m)^aiosignal==.*\n(?:    --hash.*\n)*", "", "aiosignal"),
        (r"(?m)^(click==\S+) \\\n(?:    --hash.*\n)*", r"\1\n", "click==8.3.3: no hash"),
        (r"(?m)^click==", "click>=", "click>=8.3.3: not one exact version"),
        (r"(?m)--hash=sha256:\w+$", "--hash=md5:00", "md5:00"),
    ],
)
def test_a_wrong_lock_is_noticed(pattern, instead, fault):
    wrong = re.sub(pattern, instead, TEXT)
    assert wrong != TEXT
    assert any(fault in one for one in faults(wrong, required()))


def test_it_runs_on_a_root_that_is_read_only_as_another_user_without_network(tmp_path):
    """The program of this environment; fails where bubblewrap may make no namespaces, and prints what that says."""
    numbers = "\n".join(f"{60 * i},{i % 7}" for i in range(50))
    (tmp_path / "points.csv").write_text(f"timestamp,value\n{numbers}\n")
    program = str(Path(sys.executable).with_name("faust-anomaly"))
    command = ["bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all"]
    command += ["--uid", "65532", "--gid", "65532", "--tmpfs", "/var/tmp", "--die-with-parent"]
    # What may be compiled already stands where it is only read; what is not is compiled in memory.
    for name, value in {"FAUST_ANOMALY_COMPILED": directory(), "FAUST_ANOMALY_CACHE": "/nowhere"}.items():
        command += ["--setenv", name, str(value)]
    command += ["--setenv", "ANOMALY_DETECTION__METHOD", "zscore", program, "detect", str(tmp_path / "points.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 50
