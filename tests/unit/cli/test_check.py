"""`check` without a broker: tokens, certificates, channels, the history; what is wrong is said all at once."""

import re
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from app.alerting import outgoing
from app.cli import check as module
from app.cli import main
from tests.support.secured import Certificates

NOBODY = "127.0.0.1:1"


@pytest.fixture
def checked(tmp_path, monkeypatch):
    """(exit code, lines, what stderr says) of the command with these settings; a line begins with its verdict."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def run(settings: str = "", *arguments: str, kafka: bool = False, **environ: str):
        file = tmp_path / "anomaly.yaml"
        file.write_text(settings)
        if not kafka:

            async def none(*_):
                return []

            monkeypatch.setattr(module, "of_kafka", none)
        environ = {"ANOMALY_KAFKA__BOOTSTRAP_SERVERS": NOBODY} | environ
        done = CliRunner().invoke(main, ["check", "--config", str(file), *arguments], env=environ)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, [re.sub(" +", " ", line) for line in done.stdout.splitlines()], done.stderr

    return run


def test_what_is_as_it_should_be_is_listed(checked, tmp_path):
    code, lines, said = checked()
    assert (code, said) == (0, "")
    assert lines == [
        "ok settings: 1 value given, 96 by default",
        "ok detection: prediction_interval, residual, level, novelty, StandardAbsoluteDeviation",
        "ok view and API on 127.0.0.1:8000",
        "ok channel log",
        f"ok history: {tmp_path}/state/faust-anomaly/anomaly-detection-group.db: not there yet, created at the start",
    ]
    code, lines, _ = checked("alerting: {enabled: false}\ndashboard: {enabled: false, host: 0.0.0.0}")
    assert code == 0 and [line.split()[1] for line in lines] == ["settings:", "detection:", "probes"]
    code, lines, _ = checked("alerting: {enabled: false}", "--for", "alerter")
    assert code == 0 and [line.split()[1] for line in lines] == ["settings:", "view", "channel", "history:"]


def test_settings_that_are_refused_are_all_that_is_said(checked):
    code, lines, said = checked("kafka: {group: x}\ndetection: {detectors: {zscor: {}}}")
    assert (code, lines) == (2, [])
    assert "2 settings are wrong" in said and "kafka.group (" in said and "zscor" in said


def test_all_that_is_wrong_is_said_at_once_and_no_secret_is(checked, tmp_path, monkeypatch):
    tokens = tmp_path / "tokens"
    tokens.write_text("grafana read hunter2\n")
    code, lines, said = checked(
        f"""
        dashboard: {{host: 0.0.0.0}}
        api: {{tokens_file: {tokens}, tls_certificate_file: {tokens}}}
        storage: {{url: "sqlite:////proc/none/history.db"}}
        alerting:
          rules: [{{channels: [pager]}}, {{channels: [page]}}]
          channels:
            pager: {{type: webhook, url: "http://10.1.2.3/hook", signing_secret_file: {tmp_path}/none}}
            mail: {{type: email, host: mail.example, to: a@b.example}}
        """,
        ANOMALY_ALERTING__CHANNELS__SECOND__TYPE="webhook",
        ANOMALY_ALERTING__CHANNELS__SECOND__URL="https://hooks.example/hunter2",
        ANOMALY_ALERTING__CHANNELS__SECOND__SIGNING_SECRET="whsec_hunter2",
    )
    assert code == 2 and "hunter2" not in "\n".join([*lines, said])
    wrong = "\n".join(line for line in lines if line.startswith("wrong "))
    for name in ("api.tokens_file", "api.tls_certificate_file", "storage.url", "alerting.rules[1]", "pager",
                 "channels.mail.from", "channels.second"):  # fmt: skip
        assert name in wrong
    assert said == f"faust-anomaly: this worker cannot start: {wrong.count('wrong ')} wrong of {len(lines)} looked at\n"


@pytest.fixture
def addresses(monkeypatch):
    """What names resolve to, for a test to say."""
    known: dict[str, str] = {}

    async def lookup(host, port):
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        return [known[host]]

    monkeypatch.setattr(outgoing, "_system", lookup)
    return known


def test_channels_are_looked_up_and_nothing_is_sent(checked, addresses):
    settings = """
    alerting:
      channels:
        pager: {type: webhook, url: "https://pager.example/hooks/hunter2"}
        mail: {type: email, host: mail.example, from: a@b.example, to: c@d.example}
        ops: {type: alertmanager, urls: ["http://am-1.example:9093", "https://am-2.example"]}
    """
    code, lines, said = checked(settings)
    assert (code, said) == (0, "")  # an alerter starts, and tries again
    assert "doubt channel pager: pager.example is not found now: Name or service not known" in lines
    addresses |= dict.fromkeys(("pager.example", "mail.example", "am-1.example", "am-2.example"), "93.184.215.14")
    code, lines, _ = checked(settings)
    assert code == 0 and {
        "ok channel pager: pager.example:443",
        "ok channel mail: mail.example:587",
        "ok channel ops: am-1.example:9093, am-2.example:443",
    } < set(lines)
    addresses["am-2.example"] = "10.0.0.7"
    code, lines, _ = checked(settings)
    [wrong] = [line for line in lines if line.startswith("wrong ")]
    assert code == 2 and "channel ops: am-2.example is 10.0.0.7" in wrong and "alerting.allowed_addresses" in wrong
    assert checked(settings, ANOMALY_ALERTING__ALLOWED_ADDRESSES="10.0.0.0/8")[0] == 0


def test_a_proper_certificate_and_tokens_are_content_and_an_open_view_is_not(checked, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text("")
    pem = Certificates(tmp_path).sign("view")
    served = f"dashboard: {{host: '::'}}\napi: {{tokens_file: {tokens}, tls_certificate_file: {pem}}}"
    code, lines, _ = checked(served)
    assert code == 0 and {"ok view and API on [::]:8000", f"ok tokens: {tokens}", f"ok certificate: {pem}"} < set(lines)
    code, lines, _ = checked("dashboard: {host: '::'}")
    assert code == 2 and any(line.startswith("wrong dashboard.host: :: can be reached") for line in lines)


def test_a_history_that_cannot_be_is_wrong_only_where_somebody_named_it(checked, tmp_path):
    (tmp_path / "state").write_text("a file, no folder")
    code, lines, _ = checked()
    assert code == 0 and any(line.startswith("doubt ") and "there will be no history" in line for line in lines)
    code, lines, _ = checked(f"storage: {{url: 'sqlite:///{tmp_path}/state/history.db'}}")
    assert code == 2 and any(line.startswith("wrong storage.url") for line in lines)


def test_a_database_that_is_away_is_waited_for_and_said_once(checked, tmp_path, monkeypatch):
    pauses = []

    async def pause(seconds):
        pauses.append(seconds)
        monkeypatch.setattr(module.time, "monotonic", lambda: float(len(pauses)))

    monkeypatch.setattr(module, "_pause", pause)
    monkeypatch.setattr(module.time, "monotonic", lambda: 0.0)
    url = f"postgresql://me:hunter2@127.0.0.1:{NOBODY.rpartition(':')[2]}/anomalies"
    code, lines, said = checked(f"storage: {{url: '{url}'}}", "--wait", "3")
    assert (code, len(pauses)) == (1, 3)
    assert said.count("waiting up to 3 s: history in postgresql://127.0.0.1/anomalies: ") == 1
    assert [line for line in lines if line.startswith("missing history in postgresql://127.0.0.1/anomalies")]
    assert "1 missing of 5 looked at" in said and "hunter2" not in said + str(lines)
    # What is wrong for good is not waited with.
    code, _, said = checked(f"storage: {{url: '{url}'}}\ndashboard: {{host: '::'}}", "--wait", "3")
    assert (code, len(pauses)) == (2, 3) and "1 wrong, 1 missing" in said


@pytest.mark.parametrize("program", ["worker", "alerter"])
def test_brokers_that_are_away_are_missing(checked, program):
    code, lines, _ = checked("", "--for", program, kafka=True)
    assert code == 1 and lines[-1].startswith(f"missing Kafka at {NOBODY}: no broker could be reached")


def test_certificates_for_the_brokers_that_cannot_be_read_are_wrong(checked):
    given = "kafka: {security_protocol: SSL, ssl_cafile: /is/not/there}"
    code, lines, _ = checked(given, kafka=True)
    assert code == 2 and lines[-1].startswith("wrong kafka.ssl_cafile: expected a readable PEM file")
    assert Path("/is/not").exists() is False
