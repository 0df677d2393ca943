"""The command line's door: quick help, errors in one line, exit codes."""

import io
import json
import os
import signal
import subprocess
import sys
import time

import click
import pytest
from click.testing import CliRunner

import app.cli
from app import __version__, errors
from app.cli import COMMANDS, alerts, main
from app.cli.common import StatusLine

COMMAND_LINES = [[], *([name] for name in COMMANDS), ["generate", "file"], ["generate", "synthetic"]]
COMMAND_LINES += [["alerts", name] for name in alerts.COMMANDS]
HEAVY = ["faust", "aiokafka", "numba", "numpy", "scipy", "river", "pydantic", "prometheus_client"]
PROBE = f"""
import json, sys
from app.cli import main
try:
    main(sys.argv[1:] + ["--help"])
except SystemExit as exit:
    loaded = [name for name in {HEAVY} if name in sys.modules]
    print(json.dumps([exit.code, loaded]), file=sys.stderr)
"""


@pytest.mark.parametrize("words", COMMAND_LINES, ids=" ".join)
def test_help_loads_nothing_heavy(words):
    done = subprocess.run([sys.executable, "-c", PROBE, *words], capture_output=True, text=True, check=True)
    code, loaded = json.loads(done.stderr)
    assert code == 0 and done.stdout.startswith("Usage: ")
    assert loaded == []


def test_the_table_tells_what_each_command_says_of_itself():
    told = CliRunner().invoke(main, ["--help"]).stdout
    for name in COMMANDS:
        command = main.get_command(click.Context(main), name)
        assert isinstance(command, click.Command) and command.name == name
        assert f"  {name}" in told
    for name in alerts.COMMANDS:
        assert alerts.alerts.get_command(click.Context(alerts.alerts), name).name == name
    assert CliRunner().invoke(main, ["--version"]).stdout.split() == ["faust-anomaly,", "version", __version__]


@pytest.fixture
def raising(monkeypatch):
    """Makes ``faust-anomaly demo`` raise what is asked for."""

    def stand_in(error):
        @click.command("demo")
        def demo():
            raise error

        monkeypatch.setattr(app.cli, "demo", demo, raising=False)
        monkeypatch.setitem(COMMANDS, "demo", ("app.cli:demo", ""))
        return CliRunner().invoke(main, ["demo"])

    return stand_in


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("detection.threshold: must be in (0, 1], got 2"), 2),
        (errors.TopicError("topic raw-data is missing"), 2),
        (errors.NoBroker("Kafka at b:9092: no broker could be reached"), 1),
        (errors.DeliveryError("no ack"), 1),
        (errors.InvalidPoint("wrong_type", "not a number"), 1),
        (errors.AnomalyError("else"), 1),
        (FileNotFoundError(2, "No such file or directory", "x.csv"), 1),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(raising, error, code):
    got = raising(error)
    text = "x.csv: No such file or directory" if isinstance(error, OSError) else str(error)
    assert (got.exit_code, got.stderr, got.stdout) == (code, f"faust-anomaly: {text}\n", "")


def test_ctrl_c_is_quiet(raising):
    got = raising(KeyboardInterrupt())
    assert (got.exit_code, got.output.strip()) == (130, "")


@pytest.mark.parametrize("error", [ValueError("a mistake of ours"), OSError(28, "No space left on device")])
def test_a_mistake_of_ours_is_not_hidden(raising, error):
    assert raising(error).exception is error


def test_an_unknown_command_is_refused():
    got = CliRunner().invoke(main, ["detekt"])
    assert got.exit_code == 2 and "No such command 'detekt'" in got.stderr


ENDLESS = [sys.executable, "-m", "app", "generate", "synthetic", "--points", "0", "--output", "-"]


def test_a_reader_that_goes_away_ends_the_command_quietly():
    with subprocess.Popen(ENDLESS, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("{")
        process.stdout.close()
        assert process.wait(20) == 141
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize("pace", [[], ["--rate", "20/s"]])
def test_ctrl_c_ends_an_endless_generator_with_its_totals(pace, tmp_path):
    # A file as stdout: no pipe that fills up and holds the process where it cannot be asked to stop.
    with open(tmp_path / "out", "wb") as out:
        process = subprocess.Popen([*ENDLESS, *pace], stdout=out, stderr=subprocess.PIPE, text=True)
        until = time.monotonic() + 20
        while not os.path.getsize(tmp_path / "out") and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "points of 1 source in" in told or "1 point of 1 source in" in told
    assert "Traceback" not in told
    lines = (tmp_path / "out").read_bytes().splitlines()
    assert f"{len(lines):,} point" in told and json.loads(lines[-1])["source"] == "synthetic-0"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_status_line_changes_in_place_and_leaves_nothing(monkeypatch):
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    line = StatusLine()
    line.clear()
    line.show(lambda: "too early")
    assert shown.getvalue() == ""
    line.show(lambda: "50 %", now=True)
    line.clear()
    assert shown.getvalue() == "\r\x1b[K50 %\r\x1b[K"


def test_without_a_terminal_there_is_no_status_line(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    line = StatusLine()
    line.show(lambda: "50 %", now=True)
    line.clear()
    assert shown.getvalue() == ""


@pytest.mark.parametrize(("number", "code"), [(1, 130), (2, -signal.SIGTERM)])
def test_as_process_1_of_a_container_a_command_ends_by_sigterm(number, code):
    words = ["generate", "synthetic", "--points", "0", "--rate", "50", "--output", "-"]
    script = f"import os; os.getpid = lambda: {number}; from app.cli import main; main({words})"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()  # it runs
        process.terminate()
        process.communicate()
    assert process.returncode == code
