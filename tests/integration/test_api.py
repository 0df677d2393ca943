"""The API of a worker as docs/api.md shows it, and as its own document says.

Every command of the page is run, in its order, against a worker with a broker, and its answer held to the one that the
page shows: the same fields with the same types. Then schemathesis asks the same worker for everything in its document.
"""

import asyncio
import copy
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from integration.run import Run
from integration.workers import Worker, wait_for
from support.jobs import Job

from app.settings import load
from tests.fuzz.run import findings, reported

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text("utf-8")
SHOWN_AT = "http://127.0.0.1:8000"
TOPIC = "raw-data"
USUAL = 220  # points of the pump before the page begins: enough to know what is usual
POINT_RATE = 400.0
PATIENCE_S = 60.0  # for what comes by way of Kafka
# Another address than that of the other test: limits are for each client.
CURLRC = 'silent\nshow-error\nmax-time = 60\nwrite-out = "\\n%{http_code}\\n"\ninterface = 127.0.0.2\n'


class Step(NamedTuple):
    """A command of the page, the status and the answer that follow it."""

    command: str
    language: str
    status: int
    answer: Any

    @property
    def only_asks(self) -> bool:
        return not re.search(r"--json|--data|-X", self.command)


def steps(page: str) -> list[Step]:
    """All commands with an answer. A status other than 200 stands behind the command: ``# 202``."""
    found, functions = [], ""
    for language, command, answer in re.findall(r"```(sh|python)\n(.*?)```\n+```json\n(.*?)```", page, re.S):
        shown = json.loads(answer) if answer.strip() else None
        if language == "python":  # with the functions of those before
            before, _, last = command.rpartition("print(")
            functions += before
            command = f"{functions}print({last}"
        said = re.search(r"# (\d{3})$", command.strip())
        found.append(Step(command, language, int(said[1]) if said else 200, shown))
    return found


STEPS = steps(PAGE)


@pytest.fixture(scope="module")
def worker(kafka, tmp_path_factory) -> Iterator[Worker]:
    """One that knows a pump, and has seen nothing unusual of it."""
    job, place = Job.of("api", kafka.bootstrap_servers), tmp_path_factory.mktemp("api")
    detection = {"detectors": load(environ={}).detection.model_dump(mode="json")["detectors"]}
    sections: dict[str, Any] = {"alerting": {"enabled": True}, "storage": {"enabled": True}}
    sections |= {"detection": detection, "api": {"max_point_rate": POINT_RATE}}
    with Run(job, place, **sections) as run:
        run.make_topics()
        one = run.start().until_ready()
        draw, now = random.Random(7), time.time()
        values = [(now - 60.0 * (USUAL - i), 50.0 + draw.gauss(0.0, 4.0)) for i in range(USUAL)]
        usual = [{"sourceId": "pump-7", "timestamp": at, "value": value} for at, value in values]
        status, answers = one.post("/data?wait=30", usual)
        assert status == 200 and not any("error" in answer for answer in answers)
        wait_for(lambda: json.loads(one.get("/api/sources")[1])["known"])
        wait_for(lambda: "history" in json.loads(one.get("/api/health")[1])["details"])
        yield one


def fits(shown: Any, real: Any, at: str = "$") -> list[str]:
    """Where an answer has other fields or types than the one that is shown. Of a list some are shown."""
    if isinstance(shown, dict) and isinstance(real, dict):
        wrong = [f"{at}.{name}: is shown, and not there" for name in shown.keys() - real.keys()]
        wrong += [f"{at}.{name}: is there, and not shown" for name in real.keys() - shown.keys()]
        return wrong + [
            one for name in shown.keys() & real.keys() for one in fits(shown[name], real[name], f"{at}.{name}")
        ]
    if isinstance(shown, list) and isinstance(real, list):
        if shown and not real:
            return [f"{at}: is empty"]
        return [
            one
            for i, each in enumerate(shown)
            for one in min((fits(each, other, f"{at}[{i}]") for other in real), key=len)
        ]
    if kind(shown) != kind(real):
        return [f"{at}: {shown!r} is shown, and {real!r} came"]
    return []


def kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


def stand_ins(shown: Any, real: Any) -> dict[str, str]:
    """Texts of the page -> what this worker has for them: ids, cursors."""
    if isinstance(shown, dict) and isinstance(real, dict):
        pairs = [(shown[name], real[name]) for name in shown.keys() & real.keys()]
    elif isinstance(shown, list) and isinstance(real, list):
        pairs = list(zip(shown, real))
    else:
        return (
            {shown: real}
            if isinstance(shown, str) and isinstance(real, str) and shown != real and len(shown) > 7
            else {}
        )
    return {key: value for pair in pairs for key, value in stand_ins(*pair).items()}


def ask(step: Step, url: str, topic: str, known: dict[str, str], place: Path) -> tuple[int, Any]:
    """Status and answer of a command of the page, with this worker's address, topic and ids in it."""
    command = step.command.replace(SHOWN_AT, url).replace(SHOWN_AT.replace("http", "ws"), url.replace("http", "ws"))
    for text in sorted(known, key=len, reverse=True):
        command = command.replace(text, known[text])
    command = command.replace(TOPIC, topic)
    (place / ".curlrc").write_text(CURLRC)
    program = ["bash", "-c", command] if step.language == "sh" else [sys.executable, "-c", command]
    environ = {**os.environ, "CURL_HOME": str(place), "TOKEN": "fa_none"}
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, env=environ, cwd=place)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    said = done.stdout.replace(topic, TOPIC)
    if step.language == "python":
        return step.status, json.loads(said)
    *_, body, status, _ = re.split(r"\n(\d{3})\n", said)  # of the last request
    return int(status), json.loads(body) if body else None


def broken(shown: Any) -> Iterator[Any]:
    """The same answer with one field renamed, or one type changed."""
    if isinstance(shown, dict) and shown:
        name = next(iter(shown))
        yield {(f"{key}x" if key == name else key): value for key, value in shown.items()}
        yield {**shown, name: [shown[name]]}
    elif isinstance(shown, list) and shown:
        yield from ([one, *shown[1:]] for one in broken(shown[0]))


def test_every_command_of_the_page_does_what_the_page_shows(worker, tmp_path):
    known: dict[str, str] = {}
    topic = json.loads(worker.get("/api/statistics")[1])["input_topic"]
    assert len(STEPS) == len(re.findall(r"```(?:sh|python)\n", PAGE))
    wrong = []
    for step in STEPS:
        until = time.monotonic() + PATIENCE_S
        while True:
            status, answer = ask(step, worker.url, topic, known, tmp_path)
            found = fits(step.answer, answer)
            if not found or not step.only_asks or time.monotonic() > until:
                break
            time.sleep(0.2)  # who was told, for example, is known a moment later
        if status != step.status or found:
            wrong.append(f"{step.command}{status} {found}\n{json.dumps(answer)}")
            continue
        for other in broken(copy.deepcopy(step.answer)):
            assert fits(other, answer), f"{other} is not what came, and nothing was flagged"
        known |= stand_ins(step.answer, answer)
    assert not wrong, "\n\n".join(wrong)


WAIT_FOR_KAFKA = ["/data", "/detect", "/api/alert", "/api/results", "/api/sources/{source}/results"]


def test_the_worker_keeps_to_its_document(worker):
    """In two processes: in threads of one, ast.parse of Python 3.11 fails. ``python -m tests.fuzz`` asks for more."""

    async def both():
        of_kafka = [word for path in WAIT_FOR_KAFKA for word in ("--include-path", path)]
        others = [word for path in WAIT_FOR_KAFKA for word in ("--exclude-path", path)]
        return await asyncio.gather(
            reported(worker.url, "--phases", "fuzzing", *of_kafka, cases=5),
            reported(worker.url, "--phases", "coverage", *others, cases=1),
        )

    reports = asyncio.run(both())
    assert sum(report["operations"]["tested"] for report in reports) > 25
    for report in reports:
        assert report["operations"]["tested"] == report["operations"]["selected"]
        assert findings(report) == [], report["said"]
