"""What the dashboards look at: a worker, an alerter, and a real Prometheus that scrapes both each second.

The worker has all that shows something: input.rekey, drifts, dead letters. One channel takes its messages, another
one refuses them.
"""

import http.server
import json
import re
import shutil
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from math import isfinite
from pathlib import Path
from typing import Any, Self

import yaml
from integration.run import Run
from integration.workers import PORT, PROGRAM, Worker, wait_for
from support import kafka_tools
from support.jobs import Job
from support.secured import Certificates

from generators import synthetic
from tests.deploy.expressions import RULES, Asked, Shown

PROMETHEUS = shutil.which("prometheus")
JOB = "faust-anomaly"
SCRAPE_S = 1.0
LISTENS = re.compile(r'msg="Listening on" address=([\d.]+:\d+)')
SOURCES = 12


class PrometheusError(Exception):
    """It refused a question, and says why."""


class Refuses(http.server.BaseHTTPRequestHandler):
    """The other side of a channel that takes nothing: the first message is at fault, then the address."""

    status = 400

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(Refuses.status)
        self.end_headers()
        Refuses.status = 404

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Watched:
    """All processes, running; as a context, none is left."""

    def __init__(self, job: Job, directory: Path) -> None:
        self._job, self._directory = job, directory
        self._stack = ExitStack()
        self._round = 0
        self._began = time.time()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            Refuses.status = 400
            refuses = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refuses)
            stack.callback(refuses.server_close)
            stack.callback(refuses.shutdown)
            threading.Thread(target=refuses.serve_forever, daemon=True).start()
            self.run = stack.enter_context(Run(self._job, self._directory, **self._settings(refuses.server_port)))
            self.run.make_topics(2, raw=2)
            environ = {"ANOMALY_ALERTING__ENABLED": "false", "ANOMALY_STORAGE__ENABLED": "false"}
            ends = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(self._began + 60 * 86_400))
            own = Certificates(self._directory).sign("worker", end=ends)
            environ |= dict.fromkeys(("ANOMALY_API__TLS_CERTIFICATE_FILE", "ANOMALY_API__TLS_KEY_FILE"), str(own))
            self.worker = self.run.start(**environ)
            alerter = [*PROGRAM, "alerter", "--config", str(self.run.config)]
            self.alerter = Worker(self._directory / "alerter.log", alerter, {})
            self.run.workers.append(self.alerter)
            self._points = self._all_points()
            for one in (self.worker, self.alerter):
                wait_for(lambda one=one: PORT.search(one.said), lambda one=one: one.said)
            self._start_prometheus(stack)
            self.worker.until_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _settings(self, port: int) -> dict[str, dict[str, Any]]:
        ops = {"type": "webhook", "url": f"http://127.0.0.1:{port}/hook"}
        return {
            "kafka": {"session_timeout_s": 10.0},
            "input": {"rekey": True},
            "alerting": {
                "enabled": True,
                "rules": [{"severity": "critical", "channels": ["ops"], "continue": True}, {"channels": ["log"]}],
                "channels": {"ops": ops},
                "allowed_addresses": ["127.0.0.1"],
                "anomaly_log_file": str(self._directory / "alerts.log"),
                "min_interval_s": 0.0,
            },
            "storage": {"enabled": True, "url": f"sqlite:///{self._directory / 'history.db'}"},
            "detection": {"drift": {"method": "ADWIN"}, "detectors": {}},
        }

    def _start_prometheus(self, stack: ExitStack) -> None:
        assert PROMETHEUS
        schemes = {"worker": (self.worker, "https"), "alerter": (self.alerter, "http")}
        config = {
            "global": {"scrape_interval": f"{SCRAPE_S:g}s", "evaluation_interval": f"{SCRAPE_S:g}s"},
            "rule_files": [str(path) for path in RULES],
            "scrape_configs": [
                {
                    "job_name": JOB,
                    "tls_config": {"insecure_skip_verify": True},
                    "static_configs": [
                        {
                            "targets": [one.url.removeprefix("http://")],
                            "labels": {"component": name, "__scheme__": scheme},
                        }
                        for name, (one, scheme) in schemes.items()
                    ],
                }
            ],
        }
        path = self._directory / "prometheus.yml"
        path.write_text(yaml.safe_dump(config), "utf-8")
        log = self._directory / "prometheus.log"
        options = {
            "config.file": path,
            "storage.tsdb.path": self._directory / "tsdb",
            "web.listen-address": "127.0.0.1:0",
        }
        with log.open("wb") as out:
            process = subprocess.Popen(
                [PROMETHEUS, *(f"--{name}={value}" for name, value in options.items())],
                stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        stack.callback(process.wait)
        stack.callback(process.kill)
        found = wait_for(lambda: LISTENS.search(log.read_text()), log.read_text)
        self.url = f"http://{found[1]}"

    # --- data

    def _all_points(self) -> Iterator[dict[str, Any]]:
        """A point of each source in turn, without end; their times go on from a minute ago."""
        start = self._began - 60.0
        for one in synthetic.records(
            sources=SOURCES, source="pump", points=0, start=start, interval=0.1, calm=120, frequency=0.5
        ):
            yield {"source": one.source, "timestamp": round(one.timestamp, 3), **one.values}

    def feed(self, points: int) -> None:
        """So many points of each source more; now and then a record that cannot be read, and one without a point."""
        some = [next(self._points) for _ in range(points * SOURCES)]
        records = [(one["source"].encode(), json.dumps(one).encode()) for one in some]
        if self._round % 8 == 0:
            records += [(b"pump-0", b'{"source": "pump-0", "value": "%d l/s"}' % self._round), (b"pump-0", None)]
        self._round += 1
        kafka_tools.produce(self._job.servers, self.run.kafka.input_topic, records)

    def judge(self, verdicts: tuple[str, ...] = ("anomaly", "expected")) -> bool:
        """Say of some episodes what they were; whether there were as many."""
        status, page = self.alerter.get(f"/api/anomalies?limit={len(verdicts)}")
        assert status == 200, page
        episodes = [one["episode"] for one in json.loads(page)["anomalies"]]
        for episode, verdict in zip(episodes, verdicts, strict=False):
            status, answer = self.alerter.post(f"/api/episodes/{episode}/feedback", {"verdict": verdict, "by": "ann"})
            assert status == 200, answer
        return len(episodes) == len(verdicts)

    # --- questions

    def ask(
        self, asked: Asked, range_s: float = 60.0, points: int = 60, end: float | None = None
    ) -> list[dict[str, Any]]:
        """The series that Prometheus finds, as Grafana would ask it: each has ``metric`` and ``values``.

        ``end``: epoch seconds; now unless it is given.
        """
        shown = Shown(range_s, SCRAPE_S, points)
        now = end or time.time()
        query: dict[str, Any] = {"query": shown.expr(asked)}
        if asked.instant:
            path, query["time"] = "query", now
        else:
            path, query["step"] = "query_range", shown.interval_s(asked.interval)
            query |= {"start": now - query["step"] * (range_s // query["step"]), "end": now}
        found = self._get(f"/api/v1/{path}?{urllib.parse.urlencode(query)}")
        if found["resultType"] == "scalar":
            return [{"metric": {}, "values": [found["result"]]}]
        return [{"metric": one["metric"], "values": one.get("values") or [one["value"]]} for one in found["result"]]

    def has_data(self, asked: Asked) -> bool:
        """Whether there is any number, in the last minute."""
        return any(isfinite(float(value)) or not asked.finite for one in self.ask(asked) for _, value in one["values"])

    def rules(self) -> list[dict[str, Any]]:
        """All rules, with ``health`` and ``lastError``."""
        return [rule for group in self._get("/api/v1/rules")["groups"] for rule in group["rules"]]

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=60) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise PrometheusError(f"{json.load(error)['error']}: {urllib.parse.unquote_plus(path)}") from None
