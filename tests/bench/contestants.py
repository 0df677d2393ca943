"""Who takes part, and how each is started: faust-anomaly as a user runs it, the rivals from ``rivals/``."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.bench.job import THRESHOLD_Z, WARMUP, WINDOW

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = [sys.executable, "-m", "app"]  # faust-anomaly, of this tree whatever is installed


@dataclass(frozen=True)
class Run:
    """One run of one contestant: topics and group of its own, a directory for its files."""

    broker: str
    input: str
    output: str
    group: str
    directory: Path


Command = tuple[list[str], dict[str, str]]  # argv, environment


@dataclass(frozen=True)
class Contestant:
    name: str
    command: Callable[[Run, int], Command]  # the run and the number of the worker in it
    topics: Callable[[Run], Command] | None = None  # makes the topics it needs beside input and output
    share: float = 1.0  # of the records: the slow get fewer
    compared: int = 200  # sources whose answers are compared with job.reference; 0: it does another job than that
    promises: bool = False  # nothing lost, repeated or wrong, even after kill -9: required, not only reported
    nested: bool = False  # the waiting records are those of job.encode_nested
    note: str = ""


def environment(run: Run) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "",  # as installed by pip, which leaves bytecode
        "PYTHONPATH": str(ROOT),
        "XDG_STATE_HOME": str(run.directory),  # where the history is
        "BENCH_BROKER": run.broker,
        "BENCH_INPUT": run.input,
        "BENCH_OUTPUT": run.output,
        "BENCH_GROUP": run.group,
    }


def faust_anomaly(run: Run, worker: int) -> Command:
    """One detector, all fields of a result, the web view at its defaults but for the port."""
    return [*PROGRAM, "worker"], {**environment(run), "ANOMALY_CONFIG": str(_settings(run))}


def faust_anomaly_paths(run: Run, worker: int) -> Command:
    """Source and value are in objects inside the record."""
    paths = {"source_field": "host.name", "value_fields": ["fields.load"]}
    return [*PROGRAM, "worker"], {**environment(run), "ANOMALY_CONFIG": str(_settings(run, input=paths))}


def faust_anomaly_topics(run: Run) -> Command:
    return [*PROGRAM, "topics", "--create"], {**environment(run), "ANOMALY_CONFIG": str(_settings(run))}


def faust_anomaly_default(run: Run, worker: int) -> Command:
    """Detection as it is without settings: method auto."""
    return [*PROGRAM, "worker"], {**environment(run), "ANOMALY_CONFIG": str(_settings(run, detection={}))}


def faust_anomaly_without_alerting(run: Run, worker: int) -> Command:
    """The same, and nobody is told."""
    settings = _settings(run, detection={}, alerting={"enabled": False})
    return [*PROGRAM, "worker"], {**environment(run), "ANOMALY_CONFIG": str(settings)}


def faust_anomaly_rekey(run: Run, worker: int) -> Command:
    """The job, behind the hop that sorts points by source."""
    return [*PROGRAM, "worker"], {**environment(run), "ANOMALY_CONFIG": str(_settings(run, input={"rekey": True}))}


def faust_anomaly_rekey_topics(run: Run) -> Command:
    settings = _settings(run, input={"rekey": True})
    return [*PROGRAM, "topics", "--create"], {**environment(run), "ANOMALY_CONFIG": str(settings)}


def faust_anomaly_at(run: Run, port: int) -> Command:
    """The same, with the view and the probes on this port."""
    settings = _settings(run, detection={}, dashboard={"port": port})
    return [*PROGRAM, "worker"], {**environment(run), "ANOMALY_CONFIG": str(settings)}


def _settings(run: Run, **sections: dict[str, Any]) -> Path:
    config = run.directory / "settings.yaml"
    kafka = {
        "bootstrap_servers": [run.broker],
        "input_topic": run.input,
        "output_topic": run.output,
        "anomalies_topic": f"{run.output}-episodes",
        "group_id": run.group,
    }
    job = {
        "method": "moving_average",
        "window_points": WINDOW,
        "detectors": {"moving_average": {"threshold_multiplier": THRESHOLD_Z, "warmup": WARMUP}},
    }
    config.write_text(yaml.safe_dump({"kafka": kafka, "detection": job, "dashboard": {"port": 0}} | sections))
    return config


def stock_faust(run: Run, worker: int) -> Command:
    return (
        [
            sys.executable,
            "-m",
            "tests.bench.rivals.stock_faust",
            "-L",
            "uvloop",
            "--datadir",
            str(run.directory / f"faust-{worker}"),
            "worker",
            "-l",
            "info",
            "--without-web",
        ],
        environment(run),
    )


def aiokafka_loop(run: Run, worker: int, send: str = "record") -> Command:
    return [sys.executable, "-m", "tests.bench.rivals.aiokafka_loop"], {**environment(run), "BENCH_SEND": send}


def aiokafka_loop_batch(run: Run, worker: int) -> Command:
    return aiokafka_loop(run, worker, "batch")


MAPPED = Contestant(
    "faust-anomaly, mapped records",
    faust_anomaly_paths,
    faust_anomaly_topics,
    nested=True,
    note="source and value are read by paths from records twice as large",
)
WITHOUT_ALERTING = Contestant(
    "faust-anomaly, default set, no alerting",
    faust_anomaly_without_alerting,
    faust_anomaly_topics,
    compared=0,
    note="the default set with alerting.enabled: false",
)
REKEYED = Contestant(
    "faust-anomaly, input.rekey",
    faust_anomaly_rekey,
    faust_anomaly_rekey_topics,
    promises=True,
    note="each point is also written to a topic by source, and read from there",
)

CONTESTANTS = (
    Contestant("faust-anomaly", faust_anomaly, faust_anomaly_topics, promises=True),
    Contestant(
        "faust-anomaly, default set",
        faust_anomaly_default,
        faust_anomaly_topics,
        compared=0,
        note="method auto instead of the job's moving average; answers are counted, not compared",
    ),
    Contestant("stock Faust, tuned", stock_faust, share=0.1, note="with a tenth of the records"),
    Contestant("aiokafka loop", aiokafka_loop, note="state in a dict, only offsets are durable"),
    Contestant("aiokafka loop, send_batch", aiokafka_loop_batch, note="the same, building record batches itself"),
)
