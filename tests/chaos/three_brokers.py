"""A cluster of three brokers on this machine, each also a controller: three copies of all, two of them in sync.

As small as three Javas can be. All have their data in one directory; the nodes are 0, 1 and 2.
"""

import asyncio
import base64
import random
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any, Self

from aiokafka.errors import KafkaError
from conftest import JAVA
from support import kafka_tools
from support.kafka_tools import HANG_S

from app.local_kafka import probe
from app.local_kafka.broker import PROPERTIES
from app.local_kafka.jars import class_path, java

NODES = range(3)
OPTIONS = [*JAVA.split(), "-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
REPLICATED = {
    **PROPERTIES,
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
    # Leaders go back to the broker that is restarted soon, not after five minutes: they move twice for each restart.
    "leader.imbalance.check.interval.seconds": "5",
}


class ThreeBrokers:
    """As a context: running when it begins, gone at its end. ``servers`` are their addresses."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        ports = free_ports(2 * len(NODES))
        self._ports, self._controllers = ports[::2], ports[1::2]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self.servers = [f"127.0.0.1:{port}" for port in self._ports]

    def __enter__(self) -> Self:
        self._format()
        try:
            for node in NODES:
                self.start(node)
            self.until_in_sync()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        for process in self._processes.values():
            process.kill()
            process.wait()

    def start(self, node: int) -> None:
        """Does not wait for anything."""
        with self._log(node).open("ab") as log:
            self._processes[node] = subprocess.Popen(
                [str(java()), *OPTIONS, "-cp", class_path(print), "kafka.Kafka", str(self._settings(node))],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def stop(self, node: int, how: signal.Signals = signal.SIGTERM) -> None:
        """By SIGTERM it hands over what it leads, and then ends."""
        process = self._processes[node]
        process.send_signal(how)
        try:
            process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"broker {node} does not end\n{self._said(node)}") from None

    def restart(self, node: int, how: signal.Signals = signal.SIGTERM) -> None:
        """As an operator does it: to its end, and until every partition has all its copies again."""
        self.stop(node, how)
        self.start(node)
        self.until_in_sync()

    def until_in_sync(self) -> None:
        """Wait until all three are there, and each copy of each partition is up to date."""
        until = time.monotonic() + HANG_S
        while behind := self._behind():
            for node, process in self._processes.items():
                assert process.poll() is None, f"broker {node} ended with {process.returncode}\n{self._said(node)}"
            assert time.monotonic() < until, f"not in sync: {behind}\n{''.join(map(self._said, NODES))}"
            time.sleep(0.5)

    def _behind(self) -> list[Any]:
        """What is missing: brokers, or partitions (topic, number, copies in sync)."""
        alive = [probe.ask_metadata(port) for port in self._ports]
        if any(answer is None or answer[1] < len(NODES) for answer in alive):
            return [*alive]
        try:
            return asyncio.run(_not_in_sync(self.servers))
        except (KafkaError, OSError, TimeoutError) as error:
            return [error]

    def _format(self) -> None:
        """Once, with Kafka's own tool; the others get a copy of what it made, under their own names."""
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in zip(NODES, self._controllers, strict=True))
        for node in NODES:
            of_own = {
                "node.id": node,
                "controller.quorum.voters": voters,
                "listeners": f"PLAINTEXT://{self.servers[node]},CONTROLLER://127.0.0.1:{self._controllers[node]}",
                "advertised.listeners": f"PLAINTEXT://{self.servers[node]}",
                "log.dirs": self._data(node),
            }
            lines = [f"{name}={value}\n" for name, value in {**REPLICATED, **of_own}.items()]
            self._settings(node).write_text("".join(lines))
        tool = ["kafka.tools.StorageTool", "format", "-t", _id(), "-c", str(self._settings(0))]
        command = [str(java()), *OPTIONS, "-cp", class_path(print), *tool]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        for node in NODES[1:]:
            shutil.copytree(self._data(0), self._data(node))
            properties = self._data(node) / "meta.properties"
            kept = [
                line for line in properties.read_text().splitlines() if not line.startswith(("node.", "directory."))
            ]
            properties.write_text("\n".join([*kept, f"node.id={node}", f"directory.id={_id()}", ""]))

    def _data(self, node: int) -> Path:
        return self._directory / f"node-{node}"

    def _settings(self, node: int) -> Path:
        return self._directory / f"node-{node}.properties"

    def _log(self, node: int) -> Path:
        return self._directory / f"node-{node}.log"

    def _said(self, node: int) -> str:
        path = self._log(node)
        return f"{path}:\n" + path.read_text(errors="replace")[-3000:] if path.exists() else ""


async def _not_in_sync(servers: list[str]) -> list[Any]:
    async with asyncio.timeout(10.0), kafka_tools.administration(servers) as admin:
        return [
            (topic["topic"], partition["partition"], partition["isr"])
            for topic in await admin.describe_topics()
            for partition in topic["partitions"]
            if len(partition["isr"]) < len(partition["replicas"])
        ]


def _id() -> str:
    """Of a cluster or a directory, as Kafka writes them."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")


def free_ports(count: int) -> list[int]:
    """Different ones, nobody listens on."""
    found: list[int] = []
    while len(found) < count:
        port = probe.free_port((found[-1] if found else 20_000 + random.randrange(10_000)) + 1)
        assert port is not None
        found.append(port)
    return found
