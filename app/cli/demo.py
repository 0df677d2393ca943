"""``faust-anomaly demo``: a real Kafka, a worker, real data and the view, in one command; Ctrl-C ends all of it.

Everything lives in one directory, which each demo empties first: the broker's data, the settings the
worker runs with, and the logs. A broker left over from a demo that was killed is stopped first.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from app.errors import AnomalyError, ConfigurationError
from app.local_kafka import LocalKafka, default_directory

STEPS = 5
ALERTS = "alerts.log"
START_WITHIN_S = 180.0  # the first start compiles the detectors
SERIES = ("nyc_taxi", "ec2_cpu_utilization_825cc2", "rds_cpu_utilization_cc0c53", "speed_t4013")
FEEDS = {
    "series": ["file", *SERIES, "--loop", "--speed", "3600"],
    # Five points a second of each, and three of its waves before anything odd: detectors must have seen what is usual.
    "synthetic": ["synthetic", "--sources", "12", "--points", "0", "--rate", "60", "--source", "pump",
                  "--frequency", "0.05", "--calm", "300"],
}  # fmt: skip


@click.command()
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="Port of the web view; 0: any free one.",
)
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="Directory of the demo, emptied first.",
)
def demo(port: int, directory: Path | None) -> None:
    """See it work: a broker, a worker, data and the web view. Ctrl-C ends all of it."""
    directory = directory or default_directory().parent / "demo"
    _port_is_free(port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # also where a shell ignores SIGINT for us, as after &
    with contextlib.ExitStack() as stack:
        stack.callback(_say, "ended: worker, generators and broker are stopped")
        try:
            _run(stack, directory, port)
        except KeyboardInterrupt:
            _say("ending ...")


def _run(stack: contextlib.ExitStack, directory: Path, port: int) -> None:
    with _step(1, "Apache Kafka (the first time fetches 43 MB)") as done:
        kafka = _broker(directory)
        stack.callback(kafka.stop)
        done(kafka.bootstrap_servers)
    config = directory / "anomaly.yaml"
    config.write_text(json.dumps(_settings(directory, kafka.bootstrap_servers, port)), "utf-8")  # JSON is YAML too
    with _step(2, "Topics") as done:
        _command(["topics", "--create", "--partitions", "4", "--config", str(config)])
        done("of points, results, episodes, dead letters, state, notifications, decisions")
    with _step(3, "Worker (the first time compiles the detectors)") as done:
        worker = stack.enter_context(_child(directory, "worker", ["worker", "--config", str(config)]))
        view = _wait_until_ready(worker, directory, port)
        done("joined its group")
    with _step(4, "Data") as done:
        feeds = [
            stack.enter_context(_child(directory, name, ["generate", *options, "--config", str(config)]))
            for name, options in FEEDS.items()
        ]
        done(f"{len(SERIES)} NAB series at 3,600 times their speed, 12 synthetic pumps at 5 points/s")
    with _step(5, "View") as done:
        done(view)
    click.secho(f"\n  Open {view}    Ctrl-C ends everything. Alerts: {directory / ALERTS}, logs beside it\n", bold=True)
    _watch([("worker", worker), *zip(FEEDS, feeds)], directory, view)


def _settings(directory: Path, servers: str, port: int) -> dict[str, Any]:
    """Alerts go to a file, also those of series of years ago."""
    return {
        "kafka": {"bootstrap_servers": [servers]},
        "dashboard": {"port": port},
        "alerting": {
            "anomaly_log_file": str(directory / ALERTS),
            "view_url": f"http://127.0.0.1:{port or 8000}",
            "max_age_s": 1e9,
        },
        "storage": {"url": f"sqlite:///{directory / 'history.db'}"},
    }


def _broker(directory: Path) -> LocalKafka:
    data = directory / "kafka"
    kafka = LocalKafka(data, port=0, say=_say)
    if kafka.stop():
        _say("stopped the broker of an earlier demo")
    shutil.rmtree(directory, ignore_errors=True)
    data.mkdir(parents=True)
    kafka = LocalKafka(data, port=0, say=_say)
    kafka.start()
    return kafka


@contextlib.contextmanager
def _child(directory: Path, name: str, arguments: list[str]) -> Iterator[subprocess.Popen]:
    """A process of this program, in its own session so that Ctrl-C reaches us first; ended with the block."""
    with open(directory / f"{name}.log", "ab") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "app", *arguments], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            start_new_session=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(15)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait_until_ready(worker: subprocess.Popen, directory: Path, port: int) -> str:
    """The view's address, once the worker says it is ready."""
    address = f"http://127.0.0.1:{port}"
    until = time.monotonic() + START_WITHIN_S
    while time.monotonic() < until:
        if worker.poll() is not None:
            raise AnomalyError(f"the worker ended with {worker.returncode}:\n{_tail(directory / 'worker.log')}")
        address = _address(directory / "worker.log") or address
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(f"{address}/readyz", timeout=1).close()
            return address
        time.sleep(0.3)
    raise AnomalyError(f"the worker was not ready in {START_WITHIN_S:g} s:\n{_tail(directory / 'worker.log')}")


def _address(log: Path) -> str | None:
    """The address the worker says it serves, which with port 0 only it knows."""
    for line in log.read_text("utf-8", "replace").splitlines():
        if "http://" in line:
            return line[line.index("http://") :].split()[0].rstrip("/")
    return None


def _watch(children: list[tuple[str, subprocess.Popen]], directory: Path, view: str) -> None:
    """A line of figures every few seconds, until Ctrl-C or the end of a child."""
    while True:
        for name, child in children:
            if child.poll() is not None:
                raise AnomalyError(f"{name} ended with {child.returncode}:\n{_tail(directory / f'{name}.log')}")
        click.echo(f"\r  {_figures(view)}   ", nl=False)
        time.sleep(2)


def _figures(view: str) -> str:
    with (
        contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
        urllib.request.urlopen(f"{view}/metrics", timeout=2) as page,
    ):
        figures: dict[str, float] = {}
        for line in page.read().decode().splitlines():
            if line.startswith("faust_anomaly_"):
                name, _, value = line.rpartition(" ")
                name = name.partition("{")[0].removeprefix("faust_anomaly_")
                figures[name] = figures.get(name, 0.0) + float(value)
        return (
            f"{figures.get('results_delivered_total', 0):,.0f} points scored, "
            f"{figures.get('anomalies_total', 0):,.0f} anomalies, {figures.get('lag_records', 0):,.0f} waiting"
        )
    return "the view does not answer"


def _command(arguments: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "app", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise AnomalyError(f"{' '.join(arguments[:2])} failed:\n{done.stderr or done.stdout}")


def _port_is_free(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise ConfigurationError(
                f"port {port} of 127.0.0.1 is in use: end the program that has it, or choose another: "
                "faust-anomaly demo --port 8001 (0: any free one)"
            ) from error


@contextlib.contextmanager
def _step(number: int, what: str) -> Iterator[Any]:
    began = time.monotonic()
    _say(f"[{number}/{STEPS}] {what} ...")
    yield lambda outcome: _say(f"[{number}/{STEPS}] {what}: {outcome} ({time.monotonic() - began:.1f} s)")


def _say(line: str) -> None:
    click.echo(line)


def _tail(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-12:])
