"""The files of compose say what they should, and what they name is there. `tests/deploy/compose.py` runs them."""

import copy
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from app.cli import main
from app.errors import ConfigurationError
from app.settings import load
from app.web.security import exposure
from tests.deploy.named import DEPLOY, ROOT

COMPOSE = DEPLOY / "compose"
FILES = {
    "compose": ["compose.yaml"],
    "own-kafka": ["compose.yaml", "compose.own-kafka.yaml"],
}
OWN = {"ANOMALY_KAFKA__BOOTSTRAP_SERVERS": "kafka-1.example:9092"}
LONG_RUNNING = {"kafka", "worker", "alerter", "database", "prometheus", "alertmanager", "grafana"}
NOT_ASKED = {"generate": "it serves nothing"}
AS_ROOT = {"secrets", "token"}  # owners of volumes; without capabilities and network
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|CREDENTIAL|_KEY\b")
TO_A_FILE = re.compile(r"(_FILE|__FILE|_ENDPOINT)$|^ANOMALY_API__TOKENS_FILE$")


def compose(*words, files=FILES["compose"], variables=None):
    """What the real program says, without a daemon; nothing of this process's environment enters."""
    named = [word for name in files for word in ("-f", str(COMPOSE / name))]
    path = Path(sys.executable).with_name("docker-compose")
    environ = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | (variables or {})
    return subprocess.run([path, *named, *words], capture_output=True, text=True, env=environ, check=False)


def read(files, *words, variables=OWN):
    done = compose(*words, "config", "--format", "json", files=files, variables=variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def everything():
    """Name -> the whole configuration, services of all profiles included."""
    return {name: read(files, "--profile", "*") for name, files in FILES.items()}


def ours(config):
    return {name: one for name, one in config["services"].items() if one["image"].startswith("faust-anomaly")}


def once(service):
    return service["restart"] == "no"


# -- laws: each takes a configuration and gives what is wrong with it


def reachable(config):
    """Ports that other machines reach."""
    return [
        f"{name}: {port}"
        for name, one in config["services"].items()
        for port in one.get("ports", ())
        if port.get("host_ip") != "127.0.0.1"
    ]


def without_health(config):
    for name, one in config["services"].items():
        asked = one.get("healthcheck", {}).get("test")
        if not asked and not once(one) and not (name in NOT_ASKED and one["healthcheck"]["disable"]):
            yield name


def does_not_wait(config):
    """Dependencies that are begun without what they need: neither healthy nor completed."""
    services = config["services"]
    for name, one in services.items():
        for other, how in one.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if once(services[other]) else "service_healthy"
            if how["condition"] != wanted:
                yield f"{name} -> {other}: {how['condition']}"


def soft(config):
    """What a program that was broken into could use."""
    for name, one in config["services"].items():
        has = {
            "read_only": one.get("read_only"),
            "cap_drop": one.get("cap_drop") == ["ALL"] and not one.get("cap_add"),
            "no-new-privileges": "no-new-privileges:true" in one.get("security_opt", ()),
            "user": not str(one.get("user", "0")).startswith(("0", "root"))
            or (name in AS_ROOT and one.get("network_mode") == "none"),
            "not privileged": not one.get("privileged"),
            "mem_limit": int(one.get("mem_limit", 0)) > 0,
            "pids_limit": one.get("pids_limit", 0) > 0,
            "log rotation": "max-size" in one.get("logging", {}).get("options", {}),
            "stop_grace_period": once(one) or name in NOT_ASKED or "stop_grace_period" in one,
            "comes back": once(one) or one["restart"] == "unless-stopped",
            "no socket of Docker": not any("docker.sock" in str(mount) for mount in one.get("volumes", ())),
        }
        for law, holds in has.items():
            if not holds:
                yield f"{name}: {law}"


def secrets_in_it(config):
    """Variables that hold a secret themselves instead of naming a file."""
    for name, one in config["services"].items():
        for variable, value in (one.get("environment") or {}).items():
            if SECRET.search(variable) and not TO_A_FILE.search(variable) and value:
                yield f"{name}: {variable}"


def missing_mounts(config):
    """Files of the repository, mounted, that are not there: Docker would make a folder of that name."""
    for name, one in config["services"].items():
        for mount in one.get("volumes", ()):
            if mount["type"] == "bind" and not Path(mount["source"]).exists():
                yield f"{name}: {mount['source']}"


def writable_mounts(config):
    for name, one in config["services"].items():
        for mount in one.get("volumes", ()):
            if mount["type"] == "bind" and not mount.get("read_only"):
                yield f"{name}: {mount['target']}"


def loose_images(config):
    for name, one in config["services"].items():
        if not re.search(r":v?\d+\.\d+[\w.-]*$", one["image"]):
            yield f"{name}: {one['image']}"


def misread(words):
    """The error of our command line; None: every command and option exists, and takes what it is given."""
    command, rest = main, list(words)
    context = click.Context(main, info_name="faust-anomaly")
    try:
        while isinstance(command, click.Group):
            if not rest:
                return "no command"
            name, command, rest = command.resolve_command(context, rest)
            context = click.Context(command, context, name)
        values, over, _ = command.make_parser(context).parse_args(rest)
        if over:
            return f"not taken: {over}"
        for parameter in command.params:
            if parameter.nargs == 1:
                parameter.type_cast_value(context, values.get(parameter.name))
    except click.ClickException as error:
        return error.format_message()
    return None


def commands(config):
    """Service -> the words that our program gets: of the command, of the health condition."""
    for name, one in ours(config).items():
        words = [*(one.get("entrypoint") or ["faust-anomaly"]), *(one.get("command") or [])]
        if words[0] == "faust-anomaly":
            yield name, words[1:]
        test = one.get("healthcheck", {}).get("test")
        if test:
            assert test[:2] == ["CMD", "faust-anomaly"], test
            yield name, test[2:]


def misread_commands(config):
    for name, words in commands(config):
        if (error := misread(words)) is not None:
            yield f"{name}: {shlex.join(words)}: {error}"


def changed(change):
    def of(config):
        config = copy.deepcopy(config)
        change(config["services"])
        return config

    return of


LAWS = {
    reachable: changed(lambda services: services["alerter"]["ports"][0].pop("host_ip")),
    without_health: changed(lambda services: services["database"].pop("healthcheck")),
    does_not_wait: changed(lambda services: services["worker"]["depends_on"]["check"].update(condition="started")),
    soft: changed(lambda services: services["worker"].update(user="0:0")),
    secrets_in_it: changed(lambda services: services["database"]["environment"].update(POSTGRES_PASSWORD="anomaly")),
    missing_mounts: changed(lambda services: services["worker"]["volumes"][0].update(source=f"{COMPOSE}/a.yaml")),
    writable_mounts: changed(lambda services: services["worker"]["volumes"][0].update(read_only=False)),
    loose_images: changed(lambda services: services["grafana"].update(image="grafana/grafana:latest")),
    misread_commands: changed(lambda services: services["worker"].update(command=["worker", "--view"])),
}  # fmt: skip


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws(law, everything):
    assert {name: list(law(config)) for name, config in everything.items()} == {name: [] for name in FILES}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_laws_find_what_breaks_them(law, everything):
    assert list(law(LAWS[law](everything["compose"])))


@pytest.mark.parametrize(
    "words",
    (["workers"], ["topics", "--partitions", "0"], ["generate", "synthetic", "--rat", "60"], ["alerter", "now"]),
)
def test_commands_that_do_not_exist_are_found(words):
    assert misread(words)


# -- the parts together


def test_unknown_keys_are_refused(tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text((COMPOSE / "compose.yaml").read_text().replace("read_only:", "readonly:"))
    assert compose("config", "-q").returncode == 0
    done = compose("config", "-q", files=[wrong])
    assert done.returncode and "readonly" in done.stderr


def test_what_is_started_by_default(everything):
    demo = set(read(FILES["compose"])["services"])
    assert demo == LONG_RUNNING | {"secrets", "topics", "check", "generate"}
    own_data = set(read(FILES["compose"], variables={"COMPOSE_PROFILES": ""})["services"])
    assert own_data == demo - {"generate"}
    assert everything["compose"]["services"]["worker"]["deploy"]["replicas"] == 2


def test_with_a_kafka_of_ones_own_there_is_none_here_and_no_made_data(everything):
    config = read(FILES["own-kafka"], variables=OWN)
    assert set(config["services"]) == LONG_RUNNING - {"kafka"} | {"secrets", "check"}
    assert "kafka-data" not in config["volumes"]
    for name, one in ours(everything["own-kafka"]).items():
        if name not in AS_ROOT:
            assert one["environment"]["ANOMALY_KAFKA__BOOTSTRAP_SERVERS"] == "kafka-1.example:9092"
            assert one["environment"]["ANOMALY_KAFKA__SASL_PASSWORD_FILE"] is None  # not set: not in the container
    done = compose("config", "-q", files=FILES["own-kafka"])
    assert done.returncode and "give host:port of your brokers in .env" in done.stderr


def test_an_own_kafka_is_reached_as_the_variables_say():
    given = dict(
        re.findall(r"^#(ANOMALY_\w+)=(.+)$", (COMPOSE / ".env").read_text(), re.MULTILINE)
    )  # the lines that a user uncomments
    assert {"ANOMALY_KAFKA__SASL_PASSWORD_FILE", "ANOMALY_KAFKA__SSL_CAFILE"} <= set(given)
    config = read(FILES["own-kafka"], "--profile", "*", variables=given)
    for name in ("check", "worker", "alerter", "topics", "generate"):
        service = config["services"][name]
        assert given.items() <= service["environment"].items()
        mounted = [mount["target"] for mount in service["volumes"]]
        assert "/run/secrets/kafka" in mounted and "/etc/faust-anomaly/anomaly.yaml" in mounted


def test_variables_and_the_file_of_them_are_the_same():
    texts = [path.read_text() for path in COMPOSE.glob("compose*.yaml")]
    named = {name for text in texts for name in re.findall(r"\$\{(\w+)", text)}
    named |= {name for text in texts for name in re.findall(r"^  (ANOMALY_\w+):$", text, re.MULTILINE)}
    given = set(re.findall(r"^#?([A-Z]\w+)=", (COMPOSE / ".env").read_text(), re.MULTILINE))
    rare = {name for name in named - given if re.search("OAUTH|CERTFILE|KEYFILE", name)}
    assert named - rare == given - {"COMPOSE_PROFILES", "COMPOSE_FILE"}
    assert not [
        line for line in (COMPOSE / ".env").read_text().splitlines() if SECRET.search(line) and "_FILE=" not in line
    ]


def test_defaults_without_the_file_of_variables_are_those_in_it(everything):
    assert read(FILES["compose"], "--env-file", "/dev/null", "--profile", "*") == everything["compose"]


def settings_of(service, folder):
    """Our settings as this service reads them. What a variable says of a file stands in a file here."""
    environ = {name: value for name, value in service["environment"].items() if value is not None}  # null: not set
    for number, name in enumerate(sorted(environ)):
        if name.endswith("_FILE") and name != "ANOMALY_API__TOKENS_FILE":
            path = folder / str(number)
            path.write_text("postgresql://anomaly:x@database/anomaly\n" if "STORAGE" in name else "3f2a90c1d4e5\n")
            del environ[name]
            environ[name.removesuffix("_FILE")] = path.read_text().strip()
    [config] = [mount["source"] for mount in service["volumes"] if mount["target"] == environ["ANOMALY_CONFIG"]]
    return load(environ=environ | {"ANOMALY_CONFIG": config})


@pytest.mark.parametrize("files", FILES)
def test_settings_load_and_nothing_is_served_without_tokens(files, everything, tmp_path):
    services = everything[files]["services"]
    for name in ("topics", "check", "worker", "alerter", "generate"):
        settings = settings_of(services[name], tmp_path)
        assert settings.kafka.bootstrap_servers
        if name in ("check", "worker", "alerter"):
            exposure.check(settings)
            assert (settings.dashboard.host, settings.dashboard.port) == ("0.0.0.0", 8000)
    worker, alerter = (settings_of(services[name], tmp_path) for name in ("worker", "alerter"))
    grace = everything[files]["services"]["worker"]["stop_grace_period"]
    assert (
        float(grace.removesuffix("s")) >= worker.kafka.session_timeout_s + 5.0
    )  # docs/operations.md, When a worker ends
    assert not worker.dashboard.enabled and not worker.alerting.enabled and worker.kafka.group_instance_id
    assert alerter.dashboard.enabled and alerter.api.tokens_file
    assert alerter.storage.url.get_secret_value().startswith("postgresql://")
    assert alerter.alerting.view_url == "http://127.0.0.1:8000"

    open_to_all = copy.deepcopy(services["alerter"])
    del open_to_all["environment"]["ANOMALY_API__TOKENS_FILE"]
    with pytest.raises(ConfigurationError, match="nobody would be asked"):
        exposure.check(settings_of(open_to_all, tmp_path))


def test_hosts_that_are_named_are_services(everything):
    config = everything["compose"]
    texts = [(COMPOSE / name).read_text() for name in ("anomaly.yaml", "prometheus.yaml")]
    texts.append(json.dumps([one.get("environment") for one in config["services"].values()]))
    named = {name for text in texts for name in re.findall(r"(?:http://|targets: \[\")([a-z]\w+):\d", text)}
    named |= set(re.findall(r"names: \[(\w+), (\w+)\]", texts[1])[0])
    assert named == {"alertmanager", "worker", "alerter"} and named <= set(config["services"])
    assert "@database:5432/" in (COMPOSE / "secrets.sh").read_text()


def checked(tool, *words):
    path = shutil.which(tool)
    assert path, f"{tool} is missing: apt-get install prometheus prometheus-alertmanager"
    return subprocess.run([path, *words], capture_output=True, text=True, check=False)


def test_prometheus_and_alertmanager_take_their_files(tmp_path):
    text = (COMPOSE / "prometheus.yaml").read_text()
    assert "/etc/prometheus/rules/" in text
    path = tmp_path / "prometheus.yaml"
    path.write_text(text.replace("/etc/prometheus/rules/", f"{DEPLOY}/prometheus/"))
    done = checked("promtool", "check", "config", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    path.write_text(text.replace("scrape_configs", "scrapes"))
    assert checked("promtool", "check", "config", str(path)).returncode

    samples = (COMPOSE / "alertmanager.yaml").read_text()
    for text in (samples, samples.replace("    # ", "    ")):  # as it is, and with what stands there to be uncommented
        path = tmp_path / "alertmanager.yaml"
        path.write_text(text)
        done = checked("amtool", "check-config", str(path))
        assert done.returncode == 0, done.stdout + done.stderr
    path.write_text(samples.replace("receiver: people", "receiver: persons"))
    assert checked("amtool", "check-config", str(path)).returncode


def test_rules_that_prometheus_reads_are_mounted(everything):
    [pattern] = re.findall(r"rule_files: \[(.+)\]", (COMPOSE / "prometheus.yaml").read_text())
    mounts = {mount["target"]: mount["source"] for mount in everything["compose"]["services"]["prometheus"]["volumes"]}
    folder = Path(mounts[str(Path(pattern).parent)])
    assert folder == DEPLOY / "prometheus"
    assert list(folder.glob(Path(pattern).name))


def test_secrets_are_made_once_and_shown_only_on_demand(tmp_path):
    for name in ("database", "tokens", "grafana", "admin"):
        (tmp_path / name).mkdir()
    environ = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "SECRETS": str(tmp_path), "HOME": str(tmp_path)}

    def run(*words):
        return subprocess.run(
            ["/bin/sh", str(COMPOSE / "secrets.sh"), *words], capture_output=True, text=True, env=environ, cwd=ROOT
        )

    of_a_start_that_was_cut_off = f"first admin {'0' * 64}\n"
    (tmp_path / "tokens/tokens").write_text(of_a_start_that_was_cut_off)
    made = run("make")
    assert made.returncode == 0, made.stderr
    files = {path: path.read_text() for path in tmp_path.glob("*/*")}
    token, grafana = run("show", "token").stdout.strip(), run("show", "grafana").stdout.strip()
    password = files[tmp_path / "database/password"]
    assert token.startswith("fa_") and len(grafana) == len(password) == 48 and grafana != password
    assert f":{password}@" in files[tmp_path / "database/url"]
    assert not any(secret in made.stdout + made.stderr for secret in (token, grafana, password))
    [hashed] = files[tmp_path / "tokens/tokens"].splitlines()
    assert hashed.startswith("first ") and token not in hashed and hashed != of_a_start_that_was_cut_off.strip()
    assert (tmp_path / "admin/token").stat().st_mode & 0o077 == 0

    assert run("make").returncode == 0
    assert {path: path.read_text() for path in tmp_path.glob("*/*")} == files
    assert run("show").returncode == 2 and run("shew").returncode == 2
