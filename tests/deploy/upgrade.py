"""Workers of another revision beside those of this one, in one group under load: ``python -m tests.deploy.upgrade``.

    python -m tests.deploy.upgrade --from REV [--rounds 4] [--per-s 300]

Checks REV out into a temporary worktree, with an environment of its own unless its packages are those of this one.
Each round replaces two workers one by one, forwards to this revision or back to REV, every second time by kill -9. At
the end the oracle of the present program compares results, dead letters, episodes and states. Where REV keeps other
parts of state, states, events of episodes and words of dead letters may differ, and are told; where it means something
else by results (another config_hash) their bytes differ too. Nothing may be lost, repeated or out of order in any case.
A worker that ends by itself is told with its last words: that is how a release refuses what it cannot read. Ends with
status 0 when no other difference is found.
"""

import argparse
import configparser
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import yaml  # noqa: E402
from conftest import BROKER  # noqa: E402
from integration import logs  # noqa: E402
from integration.load import Load  # noqa: E402
from integration.run import PARTITIONS, Run  # noqa: E402
from integration.workers import PROGRAM, Worker, wait_for  # noqa: E402
from support.jobs import Job  # noqa: E402

from app.local_kafka import LocalKafka  # noqa: E402

WORKERS = 2
SESSION_S = 5.0
APART_S = 4.0  # between two replacements, so that there is work and there are snapshots under each mix
KNOWN = "import json; from app.settings import Settings as S; print(json.dumps({n: list(getattr(f.annotation, \
'model_fields', {})) for n, f in S.model_fields.items()}))"
STATE = "import sys; from app.pipeline import Pipeline; from app.settings import load; from app.state import snapshot; \
of = Pipeline.of(load(sys.argv[1], {})).profiles[0]; print(snapshot.FORMAT, snapshot.table(of).hex())"
OF_STATE = ("states wrong", "episodes conflicting", "episodes missing", "episodes extra", "letters conflicting",
            "letters extra")  # fmt: skip


class Release:
    """A tree with a Python that runs it."""

    def __init__(self, root: Path, python: str, name: str) -> None:
        self.root, self.python, self.name = root, python, name
        self.config = Path()

    @classmethod
    def of(cls, revision: str, directory: Path) -> "Release":
        root = directory / "tree"
        subprocess.run(
            ["git", "-C", str(ROOT), "worktree", "add", "--quiet", "--detach", str(root), revision], check=True
        )
        if requirements(root) <= requirements(ROOT):
            return cls(root, sys.executable, revision)
        subprocess.run([sys.executable, "-m", "venv", str(directory / "venv")], check=True)
        python = str(directory / "venv" / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-e", str(root)], check=True)
        return cls(root, python, revision)

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.python, *words], cwd=self.root, capture_output=True, text=True)

    def state(self) -> str:
        """What a snapshot consists of under its settings; what it says instead, where the program is another."""
        return (of := self.ask("-c", STATE, str(self.config))).stdout or of.stderr

    def configure(self, of: Path, directory: Path) -> list[str]:
        """Settings as in ``of``, without those that it does not know, which are named."""
        known = json.loads(self.ask("-c", KNOWN).stdout)
        dropped, kept = [], {}
        for section, values in yaml.safe_load(of.read_text()).items():
            if section not in known:
                dropped.append(section)
                continue
            kept[section] = {name: value for name, value in values.items() if name in (known[section] or values)}
            dropped += [f"{section}.{name}" for name in values.keys() - kept[section].keys()]
        self.config = directory / f"anomaly-{self.name}.yaml"
        self.config.write_text(yaml.safe_dump(kept))
        return dropped


def requirements(root: Path) -> set[str]:
    """Pinned packages, whatever the platforms they are for."""
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg")
    lines = config["options"]["install_requires"].strip().splitlines()
    return {line.partition(";")[0].strip() for line in lines}


class Refused(Exception):
    """A worker ends at each start."""


class Group:
    """Workers of two releases in the place of one another."""

    def __init__(self, run: Run, releases: list[Release], directory: Path) -> None:
        self.run, self.releases, self.directory = run, releases, directory
        self.at: dict[int, tuple[Release, Worker]] = {}
        self.exits: Counter[str] = Counter()
        self.started, self.refused = 0, ""

    def start(self, place: int, release: Release) -> None:
        log = self.directory / f"{self.started}-{release.name}.log"
        command = [release.python, *PROGRAM[1:], "worker", "--config", str(release.config)]
        worker = Worker(log, command, {}, release.root)  # compiled code is named by what it was made of: one cache
        self.started += 1
        self.run.workers.append(worker)  # so that none is left
        self.at[place] = release, worker

    def until_ready(self, place: int) -> None:
        """Started again as a supervisor does, when it ends by itself; Refused when it does so three times."""
        for _ in range(3):
            release, worker = self.at[place]
            wait_for(lambda w=worker: w.code is not None or "ready: generation" in w.said, timeout_s=300.0)
            if worker.code is None:
                return
            self.note(release, worker)
            self.start(place, release)
        raise Refused(f"{self.at[place][0].name} does not start: {self.exits.most_common(1)[0][0]}")

    def note(self, release: Release, worker: Worker) -> None:
        """It has ended by itself."""
        words = [line for line in worker.said.splitlines() if line.strip()]
        self.exits[f"{release.name}, exit code {worker.code}: {words[-1][:300] if words else ''}"] += 1

    def keep(self) -> None:
        """Replace what has ended by itself."""
        for place, (release, worker) in list(self.at.items()):
            if worker.code is not None:
                self.note(release, worker)
                self.start(place, release)
                self.until_ready(place)

    def roll(self, place: int, release: Release, kill: bool) -> None:
        """Replace; where ``release`` refuses what the other one wrote, that is noted, and the other one goes on."""
        before, _ = self.at[place]
        try:
            self.replace(place, release, kill)
        except Refused as error:
            if release is self.releases[1]:
                raise  # this one must read what earlier ones wrote
            self.refused = str(error)
            self.start(place, before)
            self.until_ready(place)

    def replace(self, place: int, release: Release, kill: bool) -> None:
        self.keep()
        before, worker = self.at[place]
        if kill:
            worker.kill()
        else:
            worker.term()
            if worker.code:
                self.note(before, worker)
        self.start(place, release)
        self.until_ready(place)


def play(group: Group, rounds: int, per_s: float, seed: int) -> int:
    """Forwards and back, so many times; ends with this release. Returns the records written."""
    old, new = group.releases
    kafka = group.run.kafka
    with Load(kafka.bootstrap_servers, kafka.input_topic, PARTITIONS, per_s, seed) as load:
        for place in range(WORKERS):
            group.start(place, old)
        for place in range(WORKERS):
            group.until_ready(place)
        for number in range(rounds):
            for release in (new, old):
                for place in range(WORKERS):
                    time.sleep(APART_S)
                    group.roll(place, release, kill=bool(number % 2))
                    print(f"round {number + 1} of {rounds}: place {place} is {group.at[place][0].name}'s", flush=True)
        for place in range(WORKERS):
            time.sleep(APART_S)
            group.replace(place, new, kill=False)
        written = load.stop()
    group.run.until_saved(group.keep)
    for _, worker in group.at.values():
        worker.term()
    return written


def hashes(run: Run) -> Counter[str]:
    found = (json.loads(record.value) for of in logs.records(run.kafka, run.kafka.output_topic) for record in of)
    return Counter(result["config_hash"] for result in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--from", dest="revision", required=True, help="another revision of this repository")
    parser.add_argument("--rounds", type=int, default=4, help="forwards and back; every second one by kill -9")
    parser.add_argument("--per-s", type=float, default=300.0, help="records")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="faust-anomaly-upgrade-"))
    passed = False
    try:
        old = Release.of(options.revision, directory)
        new = Release(ROOT, sys.executable, "this")
        (directory / "kafka").mkdir()
        with LocalKafka(directory / "kafka", port=0, properties=BROKER) as broker:
            job = Job.of("upgrade", broker.bootstrap_servers)
            with Run(job, directory, kafka={"session_timeout_s": SESSION_S}) as run:
                run.make_topics()
                new.config = run.config
                dropped = old.configure(run.config, directory)
                group = Group(run, [old, new], directory)
                began = time.monotonic()
                written = play(group, options.rounds, options.per_s, options.seed)
                passed = tell(run, group, written, dropped, time.monotonic() - began)
    finally:
        subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(directory / "tree")], check=False)
        if passed:
            shutil.rmtree(directory, ignore_errors=True)
        else:
            print(f"logs are in {directory}")
    sys.exit(0 if passed else 1)


def tell(run: Run, group: Group, written: int, dropped: list[str], seconds: float) -> bool:
    report, found = run.check(), hashes(run)
    differing = {kind: len(ids) for kind, ids in report.items()}
    old, new = group.releases
    same_state = old.state() == new.state()
    allowed = set() if same_state else {*OF_STATE}
    if len(found) > 1:
        allowed |= {*OF_STATE, "results conflicting"}
    bad = {kind: of for kind, of in report.faults.items() if kind not in allowed}
    said: dict[str, Any] = {
        "records": written,
        "results, letters, episodes, states compared": [report.counts[k] for k in ("results", "letters", "episodes",
                                                                                   "states")],
        "workers started": group.started,
        "results by config_hash": dict(found),
        "the same parts of state": same_state,
        "settings unknown to the other revision": dropped,
        "refused": group.refused or "nothing",
        "differences": differing,
        "workers that ended by themselves": dict(group.exits),
        "seconds": round(seconds),
    }  # fmt: skip
    for name, value in said.items():
        print(f"{name}: {value}")
    print("passed" if not bad else f"FAILED: {bad}")
    return not bad


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing started is left behind
    main()
