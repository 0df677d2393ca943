"""A broker behind proxies, of which a campaign's workers know no other way to it."""

import resource
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from chaos.proxy import Proxy
from chaos.three_brokers import free_ports
from conftest import BROKER
from integration.workers import wait_for

from app.local_kafka import LocalKafka

PROXIES = 2  # workers are led through one or the other, so that some can be cut off alone
ROOM_BYTES = 200_000  # what a file may still grow on the full disk


class Cluster:
    """A broker in a directory, and the proxies through which workers reach it; as a context, gone at its end."""

    def __init__(self, directory: Path) -> None:
        self._stack = ExitStack()
        port, controller, *others = free_ports(2 + 2 * PROXIES)
        self.proxies = [Proxy(others[2 * i], others[2 * i + 1]) for i in range(PROXIES)]
        behind = [(f"PROXIED{i}", others[2 * i], others[2 * i + 1]) for i in range(PROXIES)]
        host = "://127.0.0.1:"
        listeners = [f"{name}{host}{target}" for name, _, target in behind]
        advertised = [f"{name}{host}{front}" for name, front, _ in behind]
        protocols = ["CONTROLLER:PLAINTEXT", "PLAINTEXT:PLAINTEXT", *(f"{name}:PLAINTEXT" for name, _, _ in behind)]
        properties = {
            "listeners": ",".join([f"PLAINTEXT{host}{port}", f"CONTROLLER{host}{controller}", *listeners]),
            "advertised.listeners": ",".join([f"PLAINTEXT{host}{port}", *advertised]),
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listener.security.protocol.map": ",".join(protocols),
        }
        self.kafka = LocalKafka(directory / "kafka", port=port, properties={**BROKER, **properties})

    def __enter__(self) -> Self:
        with self._stack as stack:
            stack.enter_context(self.kafka)
            for proxy in self.proxies:
                stack.enter_context(proxy)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        assert self.kafka.status().pid is None

    def mend(self) -> None:
        """The broker runs, the network passes everything on."""
        self.kafka.start()
        for proxy in self.proxies:
            proxy.fail(None)

    def fill_disk(self, topic: str) -> None:
        """No file of the broker may grow beyond what this topic's have room for; returns when it has ended over it."""
        pid = self.kafka.status().pid
        logs_ = (self.kafka.directory / "data").glob(f"{topic}-*/*.log")
        smallest = min(path.stat().st_size for path in logs_)  # of the whole broker's the largest is an earlier job's
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (smallest + ROOM_BYTES, resource.RLIM_INFINITY))
        try:
            wait_for(lambda: self.kafka.status().pid is None, lambda: "the broker took the full disk")
        except (AssertionError, TimeoutError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            raise
