"""Builds the image as Dockerfile says and starts it: ``python -m tests.deploy.image``, by root, some ten minutes.

It needs Debian's packages debootstrap, buildah and bubblewrap, Debian's and Python's packages, and no container engine.
In place of the official base it takes a Debian made by debootstrap, with a Python where that has its own. ``--root
FOLDER`` checks an image that is there already, as ``buildah mount`` shows it.

The program runs in its own namespaces as user 65532 without capabilities, on the image's files, read-only; it has no
network but loopback, and this machine's loopback where it talks to the broker, which stands outside.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import app
from app.local_kafka import LocalKafka
from tests.deploy.named import ROOT
from tests.support.kafka_tools import produce, wait_for_records

BASE = "localhost/python"
SUITE = "trixie"
USER = 65532
WRITABLE = ("/tmp", "/var/cache/faust-anomaly", "/var/lib/faust-anomaly")
TOOLS = re.compile(r"(gcc|g\+\+|cc|c\+\+|cpp|ld|as|make|pip[\d.]*)(-[\d.]+)?")
POINTS = 2000


class Buildah:
    """Its images and containers in a folder of ours."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, *words: str | Path) -> str:
        places = ["--root", self.folder / "store", "--runroot", self.folder / "run"]
        command = ["buildah", "--storage-driver", "vfs", *places, *words]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def base(self) -> None:
        """A Debian with Python and pip in /usr/local/bin, in place of the official image."""
        root = self.folder / "base"
        packages = "--include=python3,python3-venv,ca-certificates"
        subprocess.run(["debootstrap", "--variant=minbase", packages, SUITE, root], check=True, stdout=sys.stderr)
        subprocess.run(["chroot", root, "/usr/bin/python3", "-m", "venv", "/usr/local"], check=True)
        ours = Path("/etc/ssl/certs/ca-certificates.crt")  # what packages are fetched through may be known here only
        if ours.exists():
            (root / ours.relative_to("/")).write_bytes(ours.read_bytes())
        name = self("from", "scratch")
        self("copy", "--quiet", name, root, "/")
        self("config", "--env", "PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin", name)
        self("commit", "--quiet", name, BASE)
        self("rm", name)

    def build(self) -> tuple[Path, dict[str, Any]]:
        """The image's files and its configuration."""
        self.base()
        options = ["--isolation", "chroot", "--layers=false", "--network", "host", "--format", "docker", "--pull-never"]
        self("bud", *options, "--build-arg", f"BASE={BASE}", "-t", "faust-anomaly", ROOT)
        name = self("from", "--pull-never", "localhost/faust-anomaly")
        return Path(self("mount", name)), json.loads(self("inspect", "localhost/faust-anomaly"))["Docker"]["config"]


def configured() -> dict[str, Any]:
    """What Dockerfile says of its last stage, for files that are there already."""
    last = (ROOT / "Dockerfile").read_text("utf-8").rpartition("\nFROM ")[2].replace("\\\n", " ")
    words = dict(re.findall(r"^(USER|ENTRYPOINT|CMD|STOPSIGNAL|HEALTHCHECK .* CMD) (.+)$", last, re.M))
    [check] = [json.loads(value) for name, value in words.items() if name.startswith("HEALTHCHECK")]
    [variables] = re.findall(r"^ENV (.+)$", last, re.M)
    environ = [one.replace("$PATH", "/usr/local/bin:/usr/bin:/bin") for one in variables.split()]
    started = {"Entrypoint": json.loads(words["ENTRYPOINT"]), "Cmd": json.loads(words["CMD"])}
    return {"User": words["USER"], "Env": environ, "StopSignal": words["STOPSIGNAL"], **started, "Check": check}


class Sandbox:
    """Starts commands on the image's files. ``written``: the folders that stand in for those that can be written."""

    def __init__(self, root: Path, config: dict[str, Any], written: Path) -> None:
        self.root, self.config, self.written = root, config, written
        for inside in WRITABLE:
            place = self.outside(inside)
            place.mkdir(parents=True, exist_ok=True)
            os.chown(place, USER, USER)

    def outside(self, inside: str) -> Path:
        return self.written / inside.strip("/").replace("/", "-")

    def command(self, *words: str, own_network: bool = True, hidden: str = "", writable: bool = True) -> list[Any]:
        """``hidden``: a folder of the image that is empty instead."""
        command = ["bwrap", "--ro-bind", self.root, "/", "--dev", "/dev", "--proc", "/proc"]
        command += [word for one in WRITABLE if writable for word in ("--bind", self.outside(one), one)]
        command += ["--tmpfs", hidden, "--remount-ro", hidden] if hidden else []
        command += ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--as-pid-1"]
        command += ["--unshare-net"] if own_network else []
        command += ["--clearenv", "--chdir", "/", "--die-with-parent", "--new-session"]
        command += [word for one in self.config["Env"] for word in ("--setenv", *one.split("=", 1))]
        user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs"]
        return [*command, *user, "--bounding-set=-all", "--inh-caps=-all", *words]

    def run(self, *words: str, environ: dict[str, str] | None = None, **options: Any) -> subprocess.CompletedProcess:
        """The image's program, to its end."""
        given = ["env", *(f"{name}={value}" for name, value in (environ or {}).items())]
        command = self.command(*given, *self.config["Entrypoint"], *words, **options)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)

    def files(self, inside: str) -> list[str]:
        return sorted(str(one.relative_to(self.outside(inside))) for one in self.outside(inside).rglob("*"))


class Report:
    """A line for each check; exit code 1 if one failed."""

    failed = 0

    def __call__(self, good: bool, name: str, found: object = "") -> None:
        self.failed += not good
        print(f"{'ok    ' if good else 'FAILED'} {name}{f': {found}' if found != '' else ''}", flush=True)


def executables(root: Path) -> Iterator[Path]:
    for place in ("usr/bin", "usr/sbin", "usr/local/bin", "opt/faust-anomaly/bin"):
        yield from (root / place).iterdir()


def of_files(root: Path, report: Report) -> None:
    """What stands in the image."""
    files = [(path, path.lstat()) for path in root.rglob("*") if not path.is_symlink()]
    rights = [str(path) for path, status in files if path.is_file() and status.st_mode & 0o6000]
    report(not rights, "no file gives rights", rights or "")
    tools = sorted(path.name for path in executables(root) if TOOLS.fullmatch(path.name))
    report(not tools, "no compiler, no pip", tools or "")
    cached = [str(path) for path, _ in files if path.name in ("pip", ".cache") and "cache" in str(path)]
    report(not cached and not (root / "build").exists(), "nothing left of the build", cached or "")
    ours = [status for path, status in files if path.is_relative_to(root / "opt")]
    report(all(one.st_uid == 0 and not one.st_mode & 0o022 for one in ours), "the program belongs to root", len(ours))
    size = sum(status.st_size for path, status in files if path.is_file())
    own = sum(path.lstat().st_size for path in (root / "opt").rglob("*") if path.is_file())
    report(True, "size", f"{size / 1e6:.0f} MB, {own / 1e6:.0f} MB of them in /opt")


def of_commands(box: Sandbox, report: Report) -> None:
    """What needs no broker: no network at all but loopback."""
    done = box.run("--version")
    report(done.stdout.strip().endswith(f"version {app.__version__}"), "--version", done.stdout.strip() or done.stderr)
    done = box.run("settings")
    report("kafka.bootstrap_servers" in done.stdout, "settings", f"{len(done.stdout.splitlines())} lines")
    done = box.run("probe", "live")
    report(done.returncode == 1 and "not live" in done.stderr, "probe live without a worker", done.stderr.strip())
    done = box.run("worker", environ={"ANOMALY_KAFKA__NONSENSE": "1"})
    report(done.returncode == 2, "wrong settings end with 2", done.stderr.strip()[:80])
    done = box.run("worker", environ={"ANOMALY_KAFKA__NONSENSE": "1"}, hidden="/opt/faust-anomaly/lib")
    report(done.returncode not in (0, 2), "control: without its packages it does not start", done.returncode)
    words = ("python", "-c", "open('/opt/faust-anomaly/compiled/x', 'w')")
    done = subprocess.run(box.command(*words), capture_output=True, text=True, check=False)
    report("Read-only file system" in done.stderr, "the root is read-only")


@contextmanager
def worker(box: Sandbox, environ: dict[str, str], log: Path, **options: Any) -> Iterator[tuple[subprocess.Popen, int]]:
    """One that runs, with the process id of what is process 1 in there."""
    given = ["env", *(f"{name}={value}" for name, value in environ.items())]
    command = box.command(*given, *box.config["Entrypoint"], *box.config["Cmd"], own_network=False, **options)
    end, info = os.pipe()
    with log.open("w") as out:
        command[1:1] = ["--info-fd", str(info)]
        process = subprocess.Popen(command, stdout=out, stderr=out, pass_fds=[info])
    os.close(info)
    with os.fdopen(end) as told:
        pid = json.load(told)["child-pid"]
    try:
        yield process, pid
    finally:
        process.kill()
        process.wait()


def wait(until: Callable[[], bool], process: subprocess.Popen, log: Path) -> float:
    """Seconds."""
    begin = time.monotonic()
    while not until():
        if process.poll() is not None or time.monotonic() - begin > 240:
            raise SystemExit(f"the worker did not come up:\n{log.read_text()}")
        time.sleep(0.1)
    return time.monotonic() - begin


def of_worker(box: Sandbox, broker: LocalKafka, folder: Path, report: Report) -> None:
    """A worker scores points and stops, with this machine's loopback."""
    environ = {"ANOMALY_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers, "ANOMALY_DASHBOARD__PORT": "18023"}
    done = box.run("topics", "--create", environ=environ, own_network=False)
    report(done.returncode == 0, "topics --create", done.stderr.strip()[:200] if done.returncode else "")
    log = folder / "worker.log"

    def probe(words: list[str]) -> bool:
        command = box.command("env", "ANOMALY_DASHBOARD__PORT=18023", *words, own_network=False)
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    with worker(box, environ, log) as (process, pid):
        seconds = wait(lambda: probe(["faust-anomaly", "probe", "ready"]), process, log)
        report(True, "ready", f"after {seconds:.1f} s")
        check = box.config.get("Check") or box.config["Healthcheck"]["Test"][1:]
        report(probe(check), " ".join(check))
        status = Path(f"/proc/{pid}/status").read_text()
        [user] = re.findall(r"^Uid:\s+(.+)$", status, re.M)
        [capabilities] = re.findall(r"^CapEff:\s+(.+)$", status, re.M)
        report(set(user.split()) == {str(USER)} and int(capabilities, 16) == 0, "user and capabilities", user)
        points = [(b"pump", b'{"source":"pump","timestamp":%d,"value":%d}' % (60 * i, i % 7)) for i in range(POINTS)]
        produce(broker.bootstrap_servers, "raw-data", points)
        results = wait_for_records(broker.bootstrap_servers, "anomaly-results", POINTS)
        report(len(results) == POINTS, "points scored", len(results))
        os.kill(pid, getattr(signal, box.config.get("StopSignal") or "SIGTERM"))
        begin = time.monotonic()
        report(process.wait(120) == 0, "SIGTERM ends it with 0", f"after {time.monotonic() - begin:.1f} s")
    said = "compiled code in" in log.read_text()
    report(not box.files(WRITABLE[1]) and not said, "nothing was compiled", box.files(WRITABLE[1]) or "")
    report(True, "written to", ", ".join(f"{one} {box.files(one)}" for one in WRITABLE))

    code = "/opt/faust-anomaly/compiled"
    with worker(box, environ, log, hidden=code) as (process, _):
        wait(lambda: probe(["faust-anomaly", "probe", "ready"]), process, log)
    said = re.findall(r"compiled code in .*", log.read_text())
    kept = box.files(WRITABLE[1])
    report(len(said) == 1 and len(kept) > 10, "control: without its code it compiles, and says so", said)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.deploy.image", description=__doc__)
    parser.add_argument("--root", type=Path, help="files of an image that is built")
    parser.add_argument("--folder", type=Path, help="for the base, the image and what is written; must not exist")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="image-"))
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    root, config = (options.root, configured()) if options.root else Buildah(folder).build()
    report = Report()
    expected = {"User": f"{USER}:{USER}", "Entrypoint": ["faust-anomaly"], "Cmd": ["worker"]}
    report(all(config[name] == value for name, value in expected.items()), "user, entrypoint, command")
    of_files(root, report)
    box = Sandbox(root, config, folder / "written")
    of_commands(box, report)
    with LocalKafka(folder / "kafka", port=0) as broker:
        of_worker(box, broker, folder, report)
    print(f"image {root}, logs {folder}")
    raise SystemExit(1 if report.failed else 0)


if __name__ == "__main__":
    main()
