"""`probe` asks a real server, at all addresses and in all ways that settings allow, and says why not."""

import asyncio
import json
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from aiohttp.test_utils import TestServer
from click.testing import CliRunner

from app.cli import probe as module
from app.cli.probe import probe, problem
from app.errors import ConfigurationError
from app.metrics import Metrics
from app.settings import Settings, load
from app.settings.listening import listening
from app.web.server import Server
from app.web.status.probes import Health
from app.web.topics.recent_results import RecentResults
from tests.support.secured import Certificates

HEAVY = ["faust", "aiokafka", "numba", "numpy", "aiohttp", "app.settings.model", "app.settings.alerting"]
LOADED = f"""
import sys
from app.cli import main
try:
    main(["probe", "live"])
finally:
    print([name for name in {HEAVY} if name in sys.modules])
"""


@pytest.fixture
def tokens(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("")
    return str(file)


def asked(health: Health, *, at: str | None = None, host: str = "127.0.0.1", **api) -> tuple[str, str]:
    """What is wrong with live and with ready, asked of a server that listens as these settings say."""
    settings = Settings(dashboard={"host": host, "enabled": False}, api=api)  # type: ignore[arg-type]

    async def run() -> tuple[str, str]:
        reader = SimpleNamespace(state="reading", produced_per_s=0.0, skipped=0)
        server = Server(settings, Metrics(), lambda: health, RecentResults(), reader, reader)  # type: ignore[arg-type]
        listening = TestServer(server.application(), host=at or host, scheme="https" if server.guard.tls else "http")
        await listening.start_server(ssl=server.guard.tls)
        dashboard = settings.dashboard.model_copy(update={"port": listening.port})
        try:
            live = await asyncio.to_thread(problem, "live", dashboard, settings.api)
            return live, await asyncio.to_thread(problem, "ready", dashboard, settings.api)
        finally:
            await listening.close()

    return asyncio.run(run())


RECOVERING = Health(True, False, {"not_ready": "joining the group, or recovering state"})


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1", "localhost"])
def test_who_lives_and_is_ready_is_said_to_be(host):
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    assert asked(Health(True, True), host=host) == ("", "")


def test_who_is_not_says_why(tokens):
    assert asked(RECOVERING) == ("", "/readyz answers 503: joining the group, or recovering state")
    assert asked(Health(False, True)) == ("/livez answers 503", "/readyz answers 503")
    # Where tokens are needed reasons are not for everybody.
    assert asked(RECOVERING, tokens_file=tokens) == ("", "/readyz answers 503")


def test_probes_that_ask_for_a_token_are_no_answer(tokens):
    assert asked(Health(True, True), tokens_file=tokens) == ("", "")
    for said in asked(Health(True, True), tokens_file=tokens, probes_open=False):
        assert "z asks for a token: api.probes_open is false" in said
    assert asked(Health(True, True), probes_open=False) == ("", "")  # nobody is asked for one


def test_a_certificate_for_another_name_is_taken(tmp_path):
    pem = Certificates(tmp_path).sign("view", host="DNS:anomalies.example")
    assert asked(Health(True, True), tls_certificate_file=str(pem)) == ("", "")
    assert asked(RECOVERING, tls_certificate_file=str(pem))[1].endswith("recovering state")


def test_a_server_that_is_away_or_dumb_or_of_another_kind_is_not_live(monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT_S", 0.3)
    dashboard, api = Settings().dashboard, Settings().api
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        here = dashboard.model_copy(update={"port": listener.getsockname()[1]})
        assert problem("live", here, api).startswith(f"nothing listens on 127.0.0.1:{here.port}")
        listener.listen()
        assert problem("live", here, api) == f"no answer from 127.0.0.1:{here.port} within 0.3 s"
    assert "port is 0" in problem("live", dashboard.model_copy(update={"port": 0}), api)


def test_the_command_says_it_in_one_line_and_loads_little(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        file = tmp_path / "anomaly.yaml"
        file.write_text(f"dashboard: {{port: {port}}}\nalerting: {{no_matter: 1}}\n")
        env = {"ANOMALY_CONFIG": str(file), "ANOMALY_KAFKA__SASL_PASSWORD_FILE": "/is/not/read"}
        done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, env=env)
    assert json.loads(done.stdout) == []
    why = f"nothing listens on 127.0.0.1:{port} (dashboard.host, dashboard.port)"
    assert (done.returncode, done.stderr) == (1, f"faust-anomaly: not live: {why}\n")
    wrong = CliRunner().invoke(probe, ["ready"], env={"ANOMALY_DASHBOARD__PORT": "many"})
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (1, 1)
    assert "dashboard.port (ANOMALY_DASHBOARD__PORT): must be a whole number" in wrong.stderr


@pytest.mark.parametrize(
    ("text", "environ"),
    [
        ("", {}),
        ("dashboard:\n", {}),
        ("dashboard: {port: 1, host: '::'}\napi: {probes_open: false}\n", {"ANOMALY_DASHBOARD__PORT": "2"}),
        ("api: {root_path: /a}", {"ANOMALY_API__TLS_CERTIFICATE_FILE": "x", "ANOMALY_DASHBOARD_PORT": "tcp://a:1"}),
    ],
)
def test_where_it_listens_is_what_load_says(text, environ, tmp_path):
    file = tmp_path / "anomaly.yaml"
    file.write_text(text)
    whole = load(file, environ)
    found = listening(file, environ)
    assert (found.dashboard, found.api) == (whole.dashboard, whole.api)


def test_what_load_refuses_of_these_sections_is_refused(tmp_path):
    file = tmp_path / "anomaly.yaml"
    for text in ("dashboard: {port: -1}", "dashboard: 5", "api: {tokens: x}", "dashboard: {port: 1, port: 2}"):
        file.write_text(text)
        said = []
        for read in (load, listening):
            with pytest.raises(ConfigurationError) as refused:
                read(file, {})
            said.append(str(refused.value))
        assert said[0] == said[1]
