"""What is forked is a process like any other: arguments, environment, log, signals and exit code are its own."""

import signal
import subprocess
import sys

import pytest
from integration import workers
from integration.workers import Worker, wait_for


@pytest.fixture
def run(tmp_path):
    assert workers.fork_server
    return lambda command, **environ: Worker(tmp_path / "log", [sys.executable, *command], environ)


def test_it_runs_as_if_started_from_nothing(run, tmp_path):
    code = "import os, sys; print(sys.argv, __name__, os.environ['A'], repr(sys.stdin.read())); sys.exit(3)"
    worker = run(["-c", code, "x"], A="1")
    assert isinstance(worker.process, workers.Forked) and worker.wait() == 3
    assert worker.said == "['-c', 'x'] __main__ 1 ''\n"
    (tmp_path / "beside.py").write_text("found = 7")
    (tmp_path / "one.py").write_text("import sys, beside\nprint(sys.argv[1:], __name__, beside.found)\n1 / 0")
    worker = run([str(tmp_path / "one.py"), "y"])
    assert worker.wait() == 1
    assert worker.said.startswith("['y'] __main__ 7\n")
    assert worker.said.endswith("ZeroDivisionError: division by zero\n")


def test_it_is_stopped_goes_on_and_is_killed_alone(run):
    one, other = (run(["-c", "import time; print('here'); time.sleep(600)"]) for _ in range(2))
    wait_for(lambda: "here" in one.said)
    one.stop()
    wait_for(lambda: one.is_stopped)
    with pytest.raises(subprocess.TimeoutExpired):
        one.process.wait(0.1)
    one.cont()
    wait_for(lambda: not one.is_stopped)
    one.kill()
    assert one.code == -signal.SIGKILL and other.code is None
    other.term()
    assert other.code == -signal.SIGTERM


def test_a_failpoint_is_the_environments_of_its_own(run):
    code = "from app.stream.failpoints import reach; reach('computed'); print('alive')"
    assert run(["-c", code], FAUST_ANOMALY_FAILPOINT="computed:1").wait() == -signal.SIGKILL
    assert run(["-c", code]).wait() == 0
