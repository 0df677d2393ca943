"""The units of systemd: what systemd says of them, and what the program says of their commands and settings.

`python -m tests.deploy.systemd` runs them as far as that goes without systemd.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from app.cli import main
from app.settings import load
from app.web.security import exposure
from tests.deploy.units import ALERTER, ETC, PROGRAM, SYSTEMD, WORKER, Unit

UNITS = [WORKER, ALERTER]
MOST_EXPOSED = 1.5  # of 10; what is left is the network, which it is for
ANALYZE = shutil.which("systemd-analyze")
needs_systemd = pytest.mark.skipif(ANALYZE is None, reason="needs systemd-analyze, of Debian's package systemd")


def analyze(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([str(ANALYZE), "--no-pager", *words], capture_output=True, text=True, check=False)


def complaints(name: str, tmp_path: Path, change=lambda text: text) -> list[str]:
    """What systemd says of the unit, with secrets.conf, where the program is installed."""
    program = Path(sys.executable).with_name("faust-anomaly")
    unit = tmp_path / name
    unit.write_text(change((SYSTEMD / name).read_text("utf-8").replace(PROGRAM, str(program))))
    beside = tmp_path / f"{name}.d"
    beside.mkdir(exist_ok=True)
    shutil.copy(SYSTEMD / "secrets.conf", beside)
    said = analyze("verify", "--man=no", "--recursive-errors=no", str(unit))
    return [line for line in said.stderr.splitlines() if "faust-anomaly" in line]


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_systemd_knows_every_line(name, tmp_path):
    assert complaints(name, tmp_path) == []
    for line, wrong in (
        ("ProtectSystem=strict", "ProtectSistem=strict"),
        ("ProtectSystem=strict", "ProtectSystem=very"),
        ("@system-service", "@system-servant"),
        ("Restart=on-failure", "Restart=on-mondays"),
        ("/faust-anomaly check", "/faust-anomalies check"),
    ):
        assert complaints(name, tmp_path, lambda text, line=line, wrong=wrong: text.replace(line, wrong)), wrong


@needs_systemd
@pytest.mark.parametrize("name", UNITS)
def test_little_is_left_to_a_service_that_was_broken_into(name, tmp_path):
    def exposed(text):
        unit = tmp_path / name
        unit.write_text(text)
        return analyze("security", "--offline=true", f"--threshold={MOST_EXPOSED * 10:.0f}", str(unit)).returncode != 0

    text = (SYSTEMD / name).read_text("utf-8")
    assert not exposed(text)
    for line in ("User=faust-anomaly", "CapabilityBoundingSet=", "SystemCallFilter=@system-service"):
        assert exposed("\n".join(one for one in text.splitlines() if one != line)), line


def parsed(words: list[str]) -> tuple[str, dict]:
    """The command and its options, as the program takes them. Raises click.UsageError."""
    program, name, *rest = words
    assert program == PROGRAM
    command = main.get_command(click.Context(main), name)
    if command is None:
        raise click.UsageError(f"no command {name}")
    options, left, _ = command.make_parser(click.Context(command)).parse_args(rest)
    assert not left
    return name, options


@pytest.mark.parametrize(("name", "program"), [(WORKER, "worker"), (ALERTER, "alerter")])
def test_the_program_takes_the_commands(name, program):
    unit = Unit.read(name)
    (before, options), (runs, _) = [parsed(words) for words in unit.commands()]
    assert (before, options.get("program", "worker"), runs) == ("check", program, program)
    assert float(options["wait_s"]) + 30 < unit.seconds("TimeoutStartSec")
    for wrong in (["chek"], ["check", "--wayt", "60"]):
        with pytest.raises(click.UsageError):
            parsed([PROGRAM, *wrong])


@pytest.mark.parametrize("name", UNITS)
def test_settings_variables_and_credentials_are_good(name, tmp_path):
    for credential in ("kafka-password", "storage-url"):
        (tmp_path / credential).write_text(f"postgresql://me:{credential}@host/name\n")
    unit = Unit.read(name, "secrets.conf", credentials=str(tmp_path))
    given = unit.environment()
    config = Path(given.pop("ANOMALY_CONFIG"))
    assert str(config.parent) == ETC
    settings = load(SYSTEMD / config.name, given)
    exposure.check(settings)
    assert settings.kafka.sasl_password.get_secret_value() == "postgresql://me:kafka-password@host/name"
    assert settings.storage.url.get_secret_value() == "postgresql://me:storage-url@host/name"
    assert given["FAUST_ANOMALY_CACHE"] == f"/var/cache/{unit.value('CacheDirectory')}"
    assert f"{given['XDG_STATE_HOME']}/faust-anomaly" == f"/var/lib/{unit.value('StateDirectory')}"
    assert unit.seconds("TimeoutStopSec") > settings.kafka.session_timeout_s + 5.0
    loaded = [value.partition(":")[0] for value in unit.values("LoadCredential")]
    named = [value for key, value in given.items() if value.startswith(str(tmp_path))]
    assert sorted(named) == sorted(f"{tmp_path}/{one}" for one in loaded)
    assert str(2) in unit.value("RestartPreventExitStatus").split() and unit.value("Restart") == "on-failure"
    # Checks that fail at once use up the starts; those that wait in vain do not.
    burst, within_s = float(unit.value("StartLimitBurst", "Unit")), float(unit.value("StartLimitIntervalSec", "Unit"))
    assert 10 * (unit.seconds("RestartSec") + 10) < within_s < burst * (60 + unit.seconds("RestartSec"))


def test_each_worker_has_its_own_port_and_place_in_the_group():
    first, second = [load(None, given_to(instance)) for instance in ("8001", "8002")]
    assert (first.dashboard.port, second.dashboard.port) == (8001, 8002)
    assert (first.kafka.group_instance_id, second.kafka.group_instance_id) == ("host-1-8001", "host-1-8002")
    assert not first.dashboard.enabled
    alerter = {name: value for name, value in Unit.read(ALERTER).environment().items() if name != "ANOMALY_CONFIG"}
    assert load(None, alerter).dashboard.port == 8000


def given_to(instance: str) -> dict[str, str]:
    given = Unit.read(WORKER, instance=instance).environment()
    return {name: value for name, value in given.items() if name != "ANOMALY_CONFIG"}


def test_both_are_shut_in_alike():
    """All but what they run, and how much memory that takes."""
    worker, alerter = [Unit.read(name) for name in UNITS]
    own = {"Environment", "EnvironmentFile", "ExecStart", "ExecStartPre", "MemoryMax"}
    assert worker.names() == alerter.names()
    assert {name for name in worker.names() if worker.values(name) != alerter.values(name)} <= own
    for unit in (worker, alerter):
        assert "MemoryDenyWriteExecute" not in unit.names()  # numba could not run
