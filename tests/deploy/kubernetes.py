"""Runs the pods of the overlays as processes, as a kubelet would, against a Kafka of this machine: by hand only.

    python -m tests.deploy.kubernetes                  both overlays, some minutes
    python -m tests.deploy.kubernetes --only small

Each container gets what ``kubectl kustomize`` renders: its command, variables, files and folders; a root that cannot
be written, user 65532, process number 1 (bubblewrap). What runs before others runs first, and probes are asked at the
rendered paths and periods. The overlay ``production`` meets a broker with TLS, SCRAM and ACLs, which are those of its
KafkaUsers and no others, and its topics are those of its KafkaTopics; its history is in a PostgreSQL.

Different from a cluster: there is no image (this virtual environment stands for it), no scheduler, no limit of CPU or
memory, no NetworkPolicy, no operator. All pods share one address, so each has a port of its own, and brokers another.
Prints what it measured; ends with status 1 when something is not as it should be.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from app.local_kafka import LocalKafka, probe
from tests.deploy.manifests import Container, Resource, containers, of_kind, rendered
from tests.deploy.named import ROOT
from tests.support import postgres
from tests.support.kafka_tools import acreate_topic, aend_offsets
from tests.support.secured import Acl, Certificates, SecuredKafka

PROGRAM = (sys.executable, "-c", "from app.cli import main; main()")  # the image's entry point
SYSTEM = ("/usr", "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl", "/etc/localtime")
LINKS = {"/bin": "usr/bin", "/lib": "usr/lib", "/lib64": "usr/lib64"}
POINTS, SOURCES = 200, 500
GENERATE = ["generate", "synthetic", "--sources", str(SOURCES), "--points", str(POINTS)]
LONG_S = 300.0
COMPILED, CACHE = "/opt/faust-anomaly/compiled", "/var/cache/faust-anomaly"
VALUES = {"ANOMALY_KAFKA__SASL_PASSWORD": "not looked at", "ANOMALY_STORAGE__URL": "postgresql://a@b/c"}
READY = re.compile(r"ready: generation (\d+), partitions (\[.*\])")


class Wrong(Exception):
    """Something is not as it should be."""


class Pod:
    """One pod: its folders, which outlive a container, and its containers, one after the other."""

    def __init__(self, parts: list[Container], name: str, folder: Path, given: Mapping[str, str]) -> None:
        self.parts, self.name, self.folder = parts, name, folder / name
        self.port = probe.free_port()
        self.given = {"ANOMALY_DASHBOARD__PORT": str(self.port), **given}
        self.compiled: Path | None = None  # code that came with the image
        self.sockets: list[Path] = []  # folders of servers that are reached by way of a file
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def main(self) -> Container:
        return self.parts[-1]

    def fresh(self, secrets: Mapping[str, Mapping[str, str]]) -> None:
        """Its volumes, as a new pod gets them."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for volume in self.main.pod["spec"]["volumes"]:
            path = self.folder / volume["name"]
            path.mkdir(parents=True)
            sources = volume.get("projected", {}).get("sources") or [volume]
            for source in sources:
                if secret := source.get("secret"):
                    for item in secret["items"]:
                        held = secrets[secret.get("secretName") or secret.get("name")]
                        (path / item["path"]).write_text(held[item["key"]])
            if "configMap" in volume:
                for one in of_kind(self.main.resources, "ConfigMap"):
                    if one["metadata"]["name"] == volume["configMap"]["name"]:
                        for name, text in one["data"].items():
                            (path / name).write_text(text)

    def command(self, part: Container, arguments: list[str]) -> list[str]:
        """With bubblewrap: nothing of this machine but the system, this checkout and its Python, all read-only."""
        user = part.pod["spec"]["securityContext"]
        found = ["bwrap", "--unshare-user", "--uid", str(user["runAsUser"]), "--gid", str(user["runAsGroup"]),
                 "--unshare-pid", "--as-pid-1", "--unshare-ipc", "--die-with-parent", "--new-session", "--clearenv",
                 "--proc", "/proc", "--dev", "/dev"]  # fmt: skip
        for path in SYSTEM:
            found += ["--ro-bind-try", path, path]
        for path, to in LINKS.items():
            found += ["--symlink", to, path]
        for mount in part.spec["volumeMounts"]:
            how = "--ro-bind" if mount.get("readOnly") else "--bind"
            found += [how, str(self.folder / mount["name"]), mount["mountPath"]]
        if self.compiled:
            found += ["--ro-bind", str(self.compiled), COMPILED]
        for path in [*{ROOT, Path(sys.prefix), Path(sys.base_prefix)}, *self.sockets]:
            found += ["--ro-bind", str(path), str(path)]
        image = {
            "PATH": "/usr/bin",
            "PYTHONPATH": str(ROOT),
            "FAUST_ANOMALY_COMPILED": COMPILED,
            "FAUST_ANOMALY_CACHE": CACHE,
        }
        environ = {**image, **part.environment(self.name), **self.given}
        for name, value in environ.items():
            found += ["--setenv", name, value]
        return [*found, "--remount-ro", "/", "--chdir", "/", "--", *PROGRAM, *arguments]

    def run(self, part: Container, arguments: list[str] | None = None) -> tuple[int, float, str]:
        """A container that ends: exit code, seconds, what it said."""
        began = time.monotonic()
        done = subprocess.run(self.command(part, arguments or part.spec["args"]), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, check=False, timeout=LONG_S)  # fmt: skip
        return done.returncode, time.monotonic() - began, done.stdout

    def prepare(self) -> float:
        """What runs before: seconds."""
        took = 0.0
        for part in self.parts[:-1]:
            code, seconds, said = self.run(part)
            expect(code == 0, f"{self.name}: {part.spec['name']} ended with {code}\n{said}")
            took += seconds
        return took

    def start(self) -> None:
        log = self.folder.with_suffix(".log").open("ab")
        self.process = subprocess.Popen(self.command(self.main, self.main.spec["args"]), stdout=log, stderr=log)

    def until(self, which: str) -> float:
        """Ask a probe as often as the kubelet would until it succeeds: seconds. Wrong when it may not fail any more."""
        assert self.process
        asked, began = self.main.spec[f"{which}Probe"], time.monotonic()
        failures = 0
        while not self.ask(asked):
            failures += 1
            expect(self.process.poll() is None, f"{self.name} ended with {self.process.poll()}\n{self.said()}")
            expect(which == "readiness" or failures < asked["failureThreshold"], f"{self.name}: {which} failed")
            expect(time.monotonic() - began < LONG_S, f"{self.name} is not {which}\n{self.said()}")
            time.sleep(asked["periodSeconds"])
        return time.monotonic() - began

    def ask(self, asked: Mapping[str, Any]) -> bool:
        try:
            return self.get(asked["httpGet"]["path"], timeout_s=asked["timeoutSeconds"])[0] == 200
        except OSError:
            return False

    def get(self, path: str, token: str = "", timeout_s: float = 30.0) -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def owned(self) -> tuple[int, list[int]]:
        """Generation and partitions, as it said last."""
        found = READY.findall(self.folder.with_suffix(".log").read_text(errors="replace"))
        return (int(found[-1][0]), json.loads(found[-1][1])) if found else (0, [])

    @property
    def pid(self) -> int:
        """Of the program, as this machine numbers it."""
        assert self.process
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return int(children[0]) if children else self.process.pid

    def peak_mb(self) -> float:
        """Most memory it had at once."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
        raise Wrong("no VmHWM")

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Exit code and seconds. Wrong when it takes longer than the pod would be given."""
        assert self.process
        began = time.monotonic()
        os.kill(self.pid, number)
        try:
            code = self.process.wait(self.main.pod["spec"]["terminationGracePeriodSeconds"])
        except subprocess.TimeoutExpired:
            raise Wrong(f"{self.name} is not gone in its grace period\n{self.said()}") from None
        return code, time.monotonic() - began

    def said(self) -> str:
        return "\n".join(self.folder.with_suffix(".log").read_text(errors="replace").splitlines()[-30:])

    def close(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def expect(true: bool, why: str) -> None:
    if not true:
        raise Wrong(why)


def say(what: str, figure: str) -> None:
    click.echo(f"{what:<72} {figure}")


def workload(resources: list[Resource], component: str) -> list[Container]:
    """Its containers in the order in which they run."""
    return [one for one in containers(resources) if one.component == component]


def made_token(folder: Path) -> tuple[str, str]:
    """(token, the file that knows it)."""
    path = folder / "tokens"
    done = subprocess.run([*PROGRAM, "token", "create", "me", "--role", "admin", "--file", str(path)],
                          capture_output=True, text=True, check=True, cwd=ROOT)  # fmt: skip
    [token] = [word for word in done.stdout.split() if word.startswith("fa_")]
    return token, path.read_text()


def run_workers(pods: list[Pod]) -> None:
    """All at once, as podManagementPolicy says, with nothing compiled."""
    for pod in pods:
        say(f"{pod.name}: what runs before it (check)", f"{pod.prepare():.1f} s")
    for pod in pods:
        pod.start()
    for pod in pods:
        say(f"{pod.name}: startup probe, nothing compiled", f"{pod.until('startup'):.1f} s")
    for pod in pods:
        say(f"{pod.name}: then ready", f"{pod.until('readiness'):.1f} s")
    deadline = time.monotonic() + LONG_S
    while len({(pod.owned()[0], len(pod.owned()[1])) for pod in pods}) > 1:
        expect(time.monotonic() < deadline, f"not shared out evenly: {[pod.owned() for pod in pods]}")
        time.sleep(0.5)
    say("partitions of each worker", ", ".join(str(len(pod.owned()[1])) for pod in pods))


def restart(pod: Pod, pods: list[Pod], secrets: Mapping[str, Mapping[str, str]], session_s: float) -> None:
    """As an update does: the pod goes, one of the same name comes. No partition may change hands."""
    before = [one.owned() for one in pods]
    code, stopped_s = pod.stop()
    expect(code == 0, f"{pod.name} ended with {code}\n{pod.said()}")
    pod.fresh(secrets)
    began = time.monotonic()
    checked_s = pod.prepare()
    pod.start()
    started_s = pod.until("startup")
    ready_s = pod.until("readiness")
    away_s = stopped_s + time.monotonic() - began
    after = [one.owned() for one in pods]
    parts = " + ".join(f"{part:.1f}" for part in (stopped_s, checked_s, started_s, ready_s))
    say(f"{pod.name}: stopped, checked, started, ready", f"{parts} = {away_s:.1f} s of {session_s:.0f} s")
    expect(before == after, f"partitions changed hands: {before} -> {after}")


def feed(pod: Pod) -> None:
    """Points by the program itself, in the worker's pod, as `kubectl exec` does."""
    code, _, said = pod.run(pod.main, GENERATE)
    expect(code == 0, f"generate ended with {code}\n{said}")


def produce(servers: str) -> None:
    """Points by a super user: the workers' own may not write them."""
    environ = {**os.environ, "ANOMALY_KAFKA__BOOTSTRAP_SERVERS": servers}
    subprocess.run([*PROGRAM, *GENERATE], env=environ, check=True, cwd=ROOT, capture_output=True)


def results(servers: str, wanted: int) -> None:
    deadline = time.monotonic() + LONG_S
    began = time.monotonic()
    while (found := sum(asyncio.run(aend_offsets(servers, "anomaly-results")).values())) < wanted:
        expect(time.monotonic() < deadline, f"{found} of {wanted} results")
        time.sleep(0.5)
    say(f"{wanted} points have their results, after", f"{time.monotonic() - began:.1f} s")


@contextlib.contextmanager
def closing(pods: list[Pod]) -> Iterator[None]:
    try:
        yield
    finally:
        for pod in pods:
            pod.close()


def overlay_small(folder: Path) -> None:
    resources = rendered("small")
    with LocalKafka(folder / "kafka", port=0, say=lambda _: None) as kafka:
        servers = kafka.bootstrap_servers
        given = {"ANOMALY_KAFKA__BOOTSTRAP_SERVERS": servers}
        token, tokens = made_token(folder)
        go(folder, resources, given, {"faust-anomaly-tokens": {"tokens": tokens}}, 1, servers, token, job=True)


def overlay_production(folder: Path) -> None:
    resources = rendered("production")
    users = {one["metadata"]["name"]: one["spec"] for one in of_kind(resources, "KafkaUser")}
    passwords = {name: f"{name}-made-up" for name in users}
    secured = SecuredKafka(folder / "kafka", Certificates(folder), passwords)
    with secured as kafka, postgres.running() as database:
        database.folder.chmod(0o755)
        for name, spec in users.items():
            rules = spec["authorization"]["acls"]
            kafka.allow(name, [Acl(operation, rule["resource"]["type"], rule["resource"]["name"])
                               for rule in rules for operation in rule["operations"]])  # fmt: skip
        for one in of_kind(resources, "KafkaTopic"):
            configs = {key.replace(".", "_"): str(value) for key, value in one["spec"]["config"].items()}
            configs["min_insync_replicas"] = "1"  # one broker stands for three
            asyncio.run(
                acreate_topic(kafka.bootstrap_servers, one["metadata"]["name"], one["spec"]["partitions"], **configs)
            )
        token, tokens = made_token(folder)
        secrets = {name: {"password": password} for name, password in passwords.items()} | {
            "faust-anomaly-tokens": {"tokens": tokens},
            "kafka-ca": {"ca.crt": kafka.ca.read_text()},
            "faust-anomaly-database": {"url": database.url()},
        }
        given = {"ANOMALY_KAFKA__BOOTSTRAP_SERVERS": kafka.secure}
        [workers] = of_kind(resources, "StatefulSet")
        go(folder, resources, given, secrets, workers["spec"]["replicas"], kafka.bootstrap_servers, token,
           sockets=[database.folder])  # fmt: skip


def go(folder: Path, resources: list[Resource], given: Mapping[str, str], secrets: Mapping[str, Mapping[str, str]],
       count: int, servers: str, token: str, job: bool = False,
       sockets: Sequence[Path] = ()) -> None:  # fmt: skip
    parts = workload(resources, "worker")
    pods = [Pod(parts, f"faust-anomaly-worker-{number}", folder, given) for number in range(count)]
    alerter = Pod(workload(resources, "alerter"), "faust-anomaly-alerter-x", folder, given)
    session_s = parts[-1].settings(VALUES).kafka.session_timeout_s
    alerter.sockets += sockets
    for pod in [*pods, alerter]:
        pod.fresh(secrets)
    code, _, said = Pod(parts, pods[0].name, folder, {**given, "ANOMALY_KAFKA__GRUP_ID": "x"}).run(parts[0])
    expect(code == 2 and "GRUP_ID" in said, f"a misspelt setting: {code}\n{said}")
    say("a misspelt setting ends what runs before with", f"exit code {code}")
    with closing([*pods, alerter]):
        if job:
            maker = Pod(workload(resources, "topics"), "faust-anomaly-topics", folder, given)
            maker.fresh(secrets)
            waiting = subprocess.Popen(pods[0].command(parts[0], parts[0].spec["args"]), stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)  # fmt: skip
            time.sleep(5.0)
            expect(waiting.poll() is None, f"check did not wait for the topics: {waiting.poll()}")
            code, seconds, said = maker.run(maker.main)
            expect(code == 0, f"topics ended with {code}\n{said}")
            say("the Job makes the topics", f"{seconds:.1f} s")
            expect(waiting.wait(LONG_S) == 0, "check did not end well with the topics there")
            say("check, begun before the topics were there", "waited, exit code 0")
        run_workers(pods)
        say("alerter: what runs before it (check)", f"{alerter.prepare():.1f} s")
        alerter.start()
        say("alerter: startup probe", f"{alerter.until('startup'):.1f} s")
        say("alerter: then ready", f"{alerter.until('readiness'):.1f} s")
        feed(pods[0]) if job else produce(servers)
        results(servers, SOURCES * POINTS)
        compiled = folder / "compiled"  # from here on the image has it for this processor
        shutil.copytree(pods[0].folder / "cache", compiled)
        for pod in reversed(pods):
            pod.compiled = compiled
            restart(pod, pods, secrets, session_s)
        pods[0].stop(signal.SIGKILL)
        began = time.monotonic()
        pods[0].start()  # the container alone starts again, in the same pod
        pods[0].until("startup")
        pods[0].until("readiness")
        say(f"{pods[0].name}: ready again after kill -9", f"{time.monotonic() - began:.1f} s")
        kept = re.findall(r"^faust_anomaly_history_records_total (\S+)", alerter.get("/metrics")[1], re.MULTILINE)
        expect(float(kept[0]) > 0, f"the history has {kept}")
        say("records in the history", f"{float(kept[0]):.0f}")
        statuses = [alerter.get("/api/statistics", given)[0] for given in ("", token)]
        expect(statuses == [401, 200], f"the view answers {statuses} without and with a token")
        say("the view without and with a token", f"{statuses[0]}, {statuses[1]}")
        for pod in [*pods, alerter]:
            say(f"{pod.name}: most memory", f"{pod.peak_mb():.0f} MB")
        for pod in [*pods, alerter]:
            code, seconds = pod.stop()
            expect(code == 0, f"{pod.name} ended with {code}\n{pod.said()}")
        say("all stopped by SIGTERM, the last after", f"{seconds:.1f} s")


OVERLAYS = {"small": overlay_small, "production": overlay_production}


@click.command()
@click.option("--only", type=click.Choice(list(OVERLAYS)), help="One overlay.  [default: both]")
def main(only: str | None) -> None:
    """Run the pods of the overlays as processes, and print what was measured."""
    for name, run in OVERLAYS.items():
        if only in (None, name):
            click.echo(f"\noverlay {name}")
            with tempfile.TemporaryDirectory() as folder:
                try:
                    run(Path(folder))
                except Wrong as error:
                    click.echo(f"wrong: {error}", err=True)
                    sys.exit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing started is left behind
    main()
