"""Runs the services of a compose file without Docker: each as a process in namespaces of its own.

A service has its own network interface and address, process numbers (it is number 1), host name, user, and a root that
has nothing but the programs of this machine, the volumes, and the tmpfs that the file gives it; it is read-only if the
file says so. Its capabilities are dropped. Names of services are answered by a server for DNS, a name with several
replicas with all their addresses. Ports are published on addresses of the machine as the file says.

In place of the images of others there are the same programs of Debian, and for Kafka the same jars, configured by the
class that the image of Apache Kafka runs. What this does not show: that the images are as they are taken to be here
(their users, folders and tools), limits of memory, and Docker itself.

Everything is in namespaces of the calling process (`inside`), so that nothing is left when it ends. Needs root.
"""

import contextlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from app.local_kafka.jars import class_path, default_cache, java
from tests.deploy.named import ROOT

SUBNET, GATEWAY = "10.89.0", "10.89.0.1"
USERS = {"appuser": 1000, "nobody": 65534, "postgres": pwd.getpwnam("postgres").pw_uid}
PROGRAMS = ["/usr"]
OF_ETC = ["passwd", "group", "nsswitch.conf", "ld.so.cache", "ssl", "alternatives", "localtime"]
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
MARK = "FAUST_ANOMALY_INSIDE"


class Failed(Exception):
    """A service did not do what another one waits for."""


@dataclass(frozen=True)
class Image:
    """``entrypoint`` before the command. ``owned``: volume's path -> its owner in the image, which Docker keeps."""

    entrypoint: list[str]
    owned: dict[str, int] = field(default_factory=dict)
    binds: dict[str, str] = field(default_factory=dict)  # place in the container -> of this machine
    environment: dict[str, str] = field(default_factory=dict)
    path: str = "/usr/local/bin:/usr/bin:/bin"
    stop: signal.Signals = signal.SIGTERM


def images(folder: Path) -> dict[str, Image]:
    """By the name before the tag; what is not here cannot be run here. ``folder``: for what is made of them."""
    compiled = Path(os.environ.get("FAUST_ANOMALY_COMPILED", folder / "compiled"))
    if not compiled.exists():  # as the image is built
        program = str(Path(sys.executable).with_name("faust-anomaly"))
        run("env", "NUMBA_CPU_NAME=generic", program, "compile", "--into", str(compiled))
    jars = str(default_cache() / Path(class_path(print).split(":")[0]).parent.name)
    python = {path: path for path in {sys.prefix, sys.base_prefix, str(ROOT)}}
    kafka = (
        f"set -eu; java={java()}; export CLASSPATH='/opt/kafka/libs/*'; "
        "said=$($java kafka.docker.KafkaDockerWrapper setup --default-configs-dir /etc/kafka/docker "
        "--mounted-configs-dir /mnt/shared/config --final-configs-dir /opt/kafka/config 2>&1) || "
        '{ echo "$said"; echo "$said" | grep -qi \'already formatted\'; }; '
        "exec $java $KAFKA_HEAP_OPTS -Dorg.slf4j.simpleLogger.defaultLogLevel=warn kafka.Kafka "
        "/opt/kafka/config/server.properties"
    )
    postgres = (
        "set -eu; export PGDATA=/var/lib/postgresql/data PGHOST=/var/run/postgresql; "
        "if [ ! -s $PGDATA/PG_VERSION ]; then "
        "initdb --locale=C.UTF-8 --username=$POSTGRES_USER --pwfile=$POSTGRES_PASSWORD_FILE --auth-local=trust "
        "--auth-host=scram-sha-256; "
        "pg_ctl -w -o '-c listen_addresses=' start; createdb --username=$POSTGRES_USER --maintenance-db=postgres "
        "$POSTGRES_DB || exit 3; "
        "pg_ctl -w -m fast stop; echo 'host all all all scram-sha-256' >> $PGDATA/pg_hba.conf; fi; "
        "exec postgres -c listen_addresses='*' -k /var/run/postgresql"
    )
    programs = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    [of_postgres] = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]
    return {
        "faust-anomaly": Image(
            ["faust-anomaly"],
            binds={"/opt/compiled": str(compiled), **python},
            environment={
                "FAUST_ANOMALY_COMPILED": "/opt/compiled",
                "FAUST_ANOMALY_CACHE": "/var/cache/faust-anomaly",
                "NUMBA_CPU_NAME": "generic",
                "XDG_STATE_HOME": "/var/lib",
            },
            path=programs,
        ),
        "apache/kafka": Image(
            ["/bin/bash", "-c", kafka],
            owned={"/var/lib/kafka/data": USERS["appuser"]},
            binds={"/opt/kafka/libs": jars, **python},
        ),
        "postgres": Image(
            ["/bin/sh", "-c", postgres],
            owned={"/var/lib/postgresql/data": USERS["postgres"]},
            path=f"{of_postgres}:/usr/bin:/bin",
            stop=signal.SIGINT,
        ),
        "prom/prometheus": Image(["/usr/bin/prometheus"], owned={"/prometheus": USERS["nobody"]}),
        "prom/alertmanager": Image(["/usr/bin/prometheus-alertmanager"], owned={"/alertmanager": USERS["nobody"]}),
    }


def inside() -> Path:
    """Go on in namespaces of our own: mounts, network and processes end with this one. A folder for what is written."""
    if folder := os.environ.get(MARK):
        run("ip", "link", "set", "lo", "up")
        run("mount", "-t", "tmpfs", "tmpfs", "/run")
        return Path(folder)
    class_path(print)  # needs the network
    apart = ["unshare", "--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    # A shell is process 1: it reaps what a health check leaves when its time is over. A namespace does not end before.
    apart += ["/bin/sh", "-c", '"$@"; exit $?', "sh"]
    with tempfile.TemporaryDirectory(prefix="compose") as folder:
        os.chmod(folder, 0o755)
        command = [*apart, sys.executable, "-m", *_module(), *sys.argv[1:]]
        sys.exit(subprocess.run(command, env=os.environ | {MARK: folder}, check=False).returncode)


def _module() -> list[str]:
    spec = sys.modules["__main__"].__spec__
    assert spec is not None
    return [spec.name]


def run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(words)}: {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def seconds(duration: str) -> float:
    """``1m30s`` -> 90.0."""
    return sum(float(n) * UNITS[unit] for n, unit in re.findall(r"([\d.]+)(ms|s|m|h)", duration))


def user_of(service: dict[str, Any]) -> tuple[int, int]:
    user, _, group = str(service["user"]).partition(":")
    number = USERS.get(user) if not user.isdigit() else int(user)
    assert number is not None, user
    return number, int(group or number)


class Container:
    """One process of a service. Its log is ``log``; ``code`` is how it ended, None while it runs."""

    def __init__(self, project: "Project", service: str, number: int, words: list[str] | None = None) -> None:
        self.project, self.service, self.name = project, service, f"{service}-{number}"
        self.config = project.config["services"][service]
        self.image = project.images[self.config["image"].partition(":")[0]]
        self.words = words if words is not None else self.config.get("command") or []
        self.folder = project.folder / "containers" / self.name
        self.log = self.folder / "log"
        self.hostname = os.urandom(6).hex()
        self.address: str | None = None
        self.process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        self.code: int | None = None
        self.healthy = False
        self.starts = 0
        self._stopping = threading.Event()
        self._mounts: list[str] = []
        self._make()

    def _make(self) -> None:
        self.folder.mkdir(parents=True)
        if self.config.get("network_mode") != "none":
            self.address = self.project.connect(self.name)
            resolver, hosts = f"nameserver {GATEWAY}\noptions ndots:0\n", f"{self.address} {self.hostname}\n"
        else:
            run("ip", "netns", "add", self.name)
            resolver, hosts = "", ""
        (self.folder / "resolv.conf").write_text(resolver)
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{hosts}")
        (self.folder / "hostname").write_text(f"{self.hostname}\n")
        for number, entry in enumerate(self.config.get("tmpfs", ())):
            path, _, options = entry.partition(":")
            place = self.folder / f"tmpfs{number}"
            place.mkdir()
            given = ["noexec", "nosuid", "nodev", "mode=1777", *(options.split(",") if options else [])]
            run("mount", "-t", "tmpfs", "-o", ",".join(given), "tmpfs", str(place))
            self._mounts += ["--bind", str(place), path]
        for mount in self.config.get("volumes", ()):
            how = "--ro-bind" if mount.get("read_only") else "--bind"
            self._mounts += [how, self.project.source(mount, self.image), mount["target"]]

    @property
    def environment(self) -> dict[str, str]:
        given = self.config.get("environment") or {}
        known = {"PATH": self.image.path, "HOME": "/", **self.image.environment}
        return known | {key: str(v) for key, v in given.items() if v is not None}

    def _as_user(self) -> list[str]:
        user, group = user_of(self.config)
        who = [f"--reuid={user}", f"--regid={group}", "--clear-groups"]
        assert self.config["cap_drop"] == ["ALL"]
        nothing_new = ["--no-new-privs"] if "no-new-privileges:true" in self.config["security_opt"] else []
        return ["setpriv", *who, "--inh-caps=-all", "--bounding-set=-all", *nothing_new]

    def start(self) -> None:
        root = _parents(["/etc/hosts"])
        for path in PROGRAMS:
            root += ["--ro-bind", path, path]
        for name in ("bin", "sbin", "lib", "lib64"):
            root += ["--symlink", f"usr/{name}", f"/{name}"]
        for name in OF_ETC:
            root += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
        for name in ("resolv.conf", "hosts", "hostname"):
            root += ["--ro-bind", str(self.folder / name), f"/etc/{name}"]
        root += ["--proc", "/proc", "--dev", "/dev", *_parents(self._mounts[2::3]), *self._mounts]
        root += _parents(list(self.image.binds))  # after /tmp, for this repository may be in it
        for place, path in self.image.binds.items():
            root += ["--ro-bind", path, place]
        if self.config.get("read_only"):
            root += ["--remount-ro", "/"]
        apart = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try", "--hostname", self.hostname]
        to_drop = [word for name in ("SETUID", "SETGID", "SETPCAP") for word in ("--cap-add", f"CAP_{name}")]
        entrypoint = self.config.get("entrypoint") or self.image.entrypoint
        reader, writer = os.pipe()
        command = [
            "ip", "netns", "exec", self.name,
            "bwrap", *apart, "--as-pid-1", "--new-session", "--cap-drop", "ALL", *to_drop,
            "--json-status-fd", str(writer), *root, "--chdir", "/",
            *self._as_user(), *entrypoint, *self.words,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment, pass_fds=[writer]
            )
        os.close(writer)
        status = os.fdopen(reader)
        line = status.readline()
        self.pid = json.loads(line)["child-pid"] if line else 0
        self.starts += 1
        self.code, self.healthy, self.since = None, False, time.monotonic()
        threading.Thread(target=self._watch, args=[self.process, status], daemon=True).start()
        if not line:
            raise Failed(f"{self.name}: {self.text()}")

    def _watch(self, process: subprocess.Popen[bytes], status: IO[str]) -> None:
        status.read()  # open until the end: bubblewrap writes the exit code there
        status.close()
        code = process.wait()
        self.code, self.healthy = code, False
        if self.config["restart"] == "unless-stopped" and not self._stopping.is_set():
            ran = time.monotonic() - self.since
            self.delay = 0.1 if ran >= 10.0 else min(2 * getattr(self, "delay", 0.05), 60.0)
            if not self._stopping.wait(self.delay):
                self.start()

    def text(self) -> str:
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    def execute(self, words: list[str], timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
        """What `docker compose exec` does, and a health check."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--uts", "--ipc", "--root"]
        return subprocess.run(
            [*enter, "env", "--chdir=/", *self._as_user(), *words], capture_output=True, text=True, check=False,
            env=self.environment, timeout=timeout_s,
        )  # fmt: skip

    def ask_health(self) -> str:
        """Why it is not healthy; "" when it is."""
        check = self.config["healthcheck"]
        kind, *words = check["test"]
        assert kind == "CMD", kind
        if self.code is not None:
            return f"ended with {self.code}"
        try:
            done = self.execute(words, seconds(check["timeout"]))
        except subprocess.TimeoutExpired:
            return "no answer"
        self.healthy = done.returncode == 0
        return "" if self.healthy else done.stderr.strip() or f"exit code {done.returncode}"

    def kill(self, how: signal.Signals) -> None:
        if self.pid and self.code is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, how)

    def stop(self) -> float:
        """Its stop signal, and SIGKILL after `stop_grace_period`. Seconds it took; raises Failed if it was killed."""
        self._stopping.set()
        begun = time.monotonic()
        grace = seconds(self.config.get("stop_grace_period", "10s"))
        self.kill(self.image.stop)
        assert self.process
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill(signal.SIGKILL)
            self.process.wait()
            raise Failed(f"{self.name} did not stop within {grace:g} s:\n{self.text()[-3000:]}") from None
        return time.monotonic() - begun

    def start_again(self) -> None:
        self._stopping.clear()
        self.start()

    def memory_mb(self) -> float:
        """All that its processes hold in memory now, shared pages by halves, thirds and so on."""
        space, total = os.readlink(f"/proc/{self.pid}/ns/pid"), 0
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if os.readlink(path / "ns/pid") == space:
                    [kb] = re.findall(r"^Pss: +(\d+)", (path / "smaps_rollup").read_text(), re.MULTILINE)
                    total += int(kb)
        return total / 1000.0


class Project:
    """What `docker compose` does with the configuration that ``config --format json`` printed."""

    def __init__(self, config: dict[str, Any], folder: Path) -> None:
        self.config, self.folder, self.images = config, folder, images(folder.parent)
        self.containers: dict[str, list[Container]] = {}
        self.left_out = sorted(
            name for name, one in config["services"].items() if one["image"].partition(":")[0] not in self.images
        )
        self._hosts = 1
        self._ports: dict[int, socket.socket] = {}
        self._numbers: dict[str, int] = {}
        run("ip", "link", "add", "compose", "type", "bridge")
        run("ip", "addr", "add", f"{GATEWAY}/24", "dev", "compose")
        run("ip", "link", "set", "compose", "up")
        self._names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._names.bind((GATEWAY, 53))
        threading.Thread(target=self._answer_names, args=[self._names], daemon=True).start()

    def end(self) -> None:
        """Gives the addresses free."""
        run("ip", "link", "del", "compose")
        run("ip", "-all", "netns", "delete")

    def connect(self, name: str) -> str:
        """Give ``name`` a network interface; its address."""
        self._hosts += 1
        address, ours = f"{SUBNET}.{self._hosts}", f"veth{self._hosts}"
        run("ip", "netns", "add", name)
        run("ip", "link", "add", ours, "type", "veth", "peer", "name", "eth0", "netns", name)
        run("ip", "link", "set", ours, "master", "compose", "up")
        run("ip", "-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            run("ip", "-n", name, "link", "set", device, "up")
        return address

    def source(self, mount: dict[str, Any], image: Image) -> str:
        """Of a file its path; of a volume a folder, made with the owner that its place has in the image."""
        if mount["type"] == "bind":
            return str(mount["source"])
        place = self.folder / "volumes" / mount["source"]
        if not place.exists():
            place.mkdir(parents=True)
            owner = image.owned.get(mount["target"], 0)
            os.chown(place, owner, owner)
        return str(place)

    def addresses(self, service: str) -> list[str]:
        found = self.containers.get(service, ())
        return [one.address for one in found if one.address and one.code is None]

    def _answer_names(self, server: socket.socket) -> None:
        while True:
            question, who = server.recvfrom(1500)
            name, at = [], 12
            while length := question[at]:
                name.append(question[at + 1 : at + 1 + length].decode())
                at += 1 + length
            [kind] = struct.unpack(">H", question[at + 1 : at + 3])
            service = ".".join(name).lower()
            found = self.addresses(service) if kind == 1 else []
            known = service in self.containers
            head = struct.pack(">2sHHHHH", question[:2], 0x8180 if known else 0x8183, 1, len(found), 0, 0)
            records = [struct.pack(">HHHIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(one) for one in found]
            server.sendto(head + question[12 : at + 5] + b"".join(records), who)

    def _publish(self, service: str) -> None:
        for port in self.config["services"][service].get("ports", ()):
            number = int(port["published"])
            if number not in self._ports:
                self._ports[number] = socket.create_server((port["host_ip"], number))
                work = [self._ports[number], service, port["target"]]
                threading.Thread(target=self._forward, args=work, daemon=True).start()

    def _forward(self, server: socket.socket, service: str, port: int) -> None:
        while True:
            client, _ = server.accept()
            try:
                inner = socket.create_connection((self.addresses(service)[0], port), 5.0)
            except (OSError, IndexError):
                client.close()
                continue
            inner.settimeout(None)
            for a, b in ((client, inner), (inner, client)):
                threading.Thread(target=_copy, args=[a, b], daemon=True).start()

    def begin(self, service: str, words: list[str] | None = None) -> Container:
        """One more container of this service."""
        self._numbers[service] = number = self._numbers.get(service, 0) + 1
        one = Container(self, service, number, words)
        self.containers.setdefault(service, []).append(one)
        one.start()
        self._publish(service)
        return one

    def up(self, say: Any = print, timeout_s: float = 300.0) -> None:
        """In the order of `depends_on`; returns when all are healthy or completed."""
        begun = time.monotonic()
        waiting = [name for name in self.config["services"] if name not in self.left_out]
        asked: dict[str, float] = {}
        while True:
            for service in [name for name in waiting if self._may_begin(name)]:
                waiting.remove(service)
                for _ in range(self.config["services"][service].get("deploy", {}).get("replicas", 1)):
                    self.begin(service)
                say(f"{time.monotonic() - begun:6.1f} s  {service} started")
            for one in self._all():
                if not one.healthy and one.config.get("healthcheck", {}).get("test"):
                    wait = seconds(one.config["healthcheck"]["interval"])
                    if time.monotonic() - asked.get(one.name, one.since) >= wait:
                        why = one.ask_health()
                        asked[one.name] = time.monotonic()
                        say(f"{time.monotonic() - begun:6.1f} s  {one.name} {why or 'healthy'}")
            if not waiting and all(self._done(name) for name in self.containers):
                return
            if time.monotonic() - begun > timeout_s:
                raise Failed(f"not up within {timeout_s:g} s: {waiting}")
            time.sleep(0.1)

    def _all(self) -> list[Container]:
        return [one for several in self.containers.values() for one in several]

    def _done(self, service: str) -> bool:
        for one in self.containers[service]:
            if one.config["restart"] == "no":
                if one.code:
                    raise Failed(f"{service} did not complete successfully: exit {one.code}\n{one.text()[-3000:]}")
                if one.code is None:
                    return False
            elif one.config.get("healthcheck", {}).get("test") and not one.healthy:
                return False
        return True

    def _may_begin(self, service: str) -> bool:
        needed = self.config["services"][service].get("depends_on", {})
        return all(name in self.containers and self._done(name) for name in needed if name not in self.left_out)

    def run(self, service: str, *words: str, timeout_s: float = 60.0) -> str:
        """`docker compose run --rm SERVICE words`: what it printed."""
        one = self.begin(service, list(words))
        self.containers[service].remove(one)
        assert one.process
        code = one.process.wait(timeout_s)
        if code:
            raise Failed(f"{service} {' '.join(words)}: exit {code}\n{one.text()}")
        return one.text()

    def down(self) -> dict[str, float]:
        """Container -> seconds until it had stopped; those that others need end after them, as `down` does it."""
        took: dict[str, float] = {}
        services = self.config["services"]
        # What has ended counts too: workers need `check`, which needs `topics`, which needs Kafka.
        left = {name: [one for one in several if one.code is None] for name, several in self.containers.items()}
        while left:
            free = [name for name in left if not any(name in services[other].get("depends_on", ()) for other in left)]
            threads = []
            for one in (one for name in free for one in left[name]):
                threads.append(threading.Thread(target=lambda one=one: took.update({one.name: one.stop()})))
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for name in free:
                if missing := [one.name for one in left.pop(name) if one.name not in took]:
                    raise Failed(f"{missing} did not stop in time")
        return took

    def logs(self) -> Iterator[tuple[str, str]]:
        for path in sorted((self.folder / "containers").glob("*/log")):
            yield path.parent.name, path.read_text("utf-8", "replace")


def _parents(places: list[str]) -> list[str]:
    """Folders above these, which bubblewrap would make for root alone."""
    above = sorted({str(one) for place in places for one in Path(place).parents if one != Path("/")})
    return [word for one in above for word in ("--perms", "0755", "--dir", one)]


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)  # the other way may still have something


def needed() -> None:
    """Raises Failed if this machine lacks what is needed."""
    programs = ["ip", "unshare", "nsenter", "setpriv", "bwrap", "prometheus", "prometheus-alertmanager", "wget"]
    if missing := [name for name in programs if shutil.which(name) is None]:
        raise Failed(f"missing: {', '.join(missing)} (apt-get install iproute2 bubblewrap prometheus ...)")
    if os.geteuid() != 0:
        raise Failed("namespaces with addresses of their own need root")
