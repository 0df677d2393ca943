"""Runs `deploy/compose` without Docker, and looks at it as a user would: `python -m tests.deploy.compose`.

`containers.py` says how, and what it does not show. Grafana is left out: there is none for this machine. Takes some
two minutes; needs root, and as programs iproute2, bubblewrap, postgresql, prometheus and prometheus-alertmanager.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.deploy.containers import Container, Failed, Project, inside, needed, run
from tests.deploy.named import DEPLOY

COMPOSE = DEPLOY / "compose"
VIEW, PROMETHEUS, ALERTMANAGER = (f"http://127.0.0.1:{port}" for port in (8000, 9090, 9093))
HANG_S = 240.0


def say(text: str) -> None:
    print(text, flush=True)


def configuration(files: list[str], **variables: str) -> dict[str, Any]:
    """What `docker compose config` makes of the files."""
    named = [word for name in files for word in ("-f", str(COMPOSE / name))]
    program = str(Path(sys.executable).with_name("docker-compose"))
    done = subprocess.run(
        [program, *named, "--profile", "*", "config", "--format", "json"],
        capture_output=True, text=True, check=True, env={**os.environ, **variables},
    )  # fmt: skip
    config: dict[str, Any] = json.loads(done.stdout)
    return config


def ask(url: str, token: str | None = None, body: Any = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers | ({"Content-Type": "application/json"} if data else {}))
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read().decode()
            return answer.status, json.loads(text) if text.startswith(("{", "[")) else text
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(what: str, holds: Callable[[], Any]) -> Any:
    """The first answer that is true. Nothing here is about speed."""
    begun, last = time.monotonic(), None
    while time.monotonic() - begun < HANG_S:
        try:
            if last := holds():
                say(f"ok  {what} ({time.monotonic() - begun:.1f} s)")
                return last
        except OSError as error:
            last = error
        time.sleep(0.5)
    raise Failed(f"{what}: not within {HANG_S:g} s, {last!r}")


def must(what: str, holds: Any) -> None:
    if not holds:
        raise Failed(f"{what}: {holds!r}")
    say(f"ok  {what}")


def prometheus(path: str, **words: str) -> Any:
    return ask(f"{PROMETHEUS}/api/v1/{path}?{urllib.parse.urlencode(words)}")[1]["data"]


def query(words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = prometheus("query", query=words)["result"]
    return found


def sum_of(words: str) -> float:
    return sum(float(one["value"][1]) for one in query(words))


def by_instance(words: str) -> dict[str, float]:
    return {one["metric"]["instance"]: float(one["value"][1]) for one in query(words)}


def all_are_seen(project: Project) -> bool:
    """Prometheus scrapes every worker and the alerter, and only them."""
    found = query('up{job="faust-anomaly"} == 1')
    up = {(one["metric"]["component"], one["metric"]["instance"]) for one in found}
    return up == {(name, f"{at}:8000") for name in ("worker", "alerter") for at in project.addresses(name)}


def shares() -> list[float]:
    """How many partitions each has, the alerter among them, which has none."""
    return sorted(by_instance("faust_anomaly_assigned_partitions").values())


def rebalances(project: Project, one: Container) -> float:
    return by_instance("faust_anomaly_rebalances_total")[f"{one.address}:8000"]


def rules() -> list[dict[str, Any]]:
    return [rule for group in prometheus("rules")["groups"] for rule in group["rules"]]


def log_of(project: Project, service: str) -> str:
    return "".join(one.text() for one in project.containers[service])


def look(project: Project) -> str:
    """As a user who follows docs/deployment.md. The token of the view."""
    made = log_of(project, "secrets")
    token = project.run("secrets", "show", "token").strip()
    must("a token is shown on demand", token.startswith("fa_"))
    must("none was shown when it was made", token not in made)
    must("the view asks for one", ask(f"{VIEW}/api/sources")[0] == 401)
    must("and takes it", ask(f"{VIEW}/api/sources", token)[0] == 200)
    must("health without one says no more than ready", ask(f"{VIEW}/readyz")[0] == 200)
    until("results of all twelve sources", lambda: ask(f"{VIEW}/api/sources?limit=50", token)[1]["known"] >= 12)
    second = project.run("token", "create", "press-line", "--role", "write").splitlines()[0]
    until("a second token is taken", lambda: ask(f"{VIEW}/api/session", second)[0] == 200)
    point = {"source": "press-1", "timestamp": time.time(), "value": 1.0}
    must("points are taken over HTTP", ask(f"{VIEW}/data", second, point)[0] in (200, 201, 202))
    until("and scored", lambda: ask(f"{VIEW}/api/sources?limit=50", token)[1]["known"] >= 13)
    return token


def watch(project: Project) -> None:
    until("Prometheus has both workers and the alerter", lambda: all_are_seen(project))
    must(f"{len(rules())} rules are loaded", rules())
    until("none of them has an error", lambda: {one["health"] for one in rules()} == {"ok"})
    until("it sends to Alertmanager", lambda: prometheus("alertmanagers")["activeAlertmanagers"])
    until("all four partitions are worked on", lambda: shares() == [0.0, 2.0, 2.0])
    until("points are scored", lambda: sum_of("sum(rate(faust_anomaly_results_delivered_total[1m]))") > 30.0)


def tell(project: Project) -> None:
    def told() -> list[dict[str, Any]]:
        return [a for a in ask(f"{ALERTMANAGER}/api/v2/alerts")[1] if a["labels"]["alertname"] == "Anomaly"]

    alerts = until("an anomaly arrives at Alertmanager", told)
    say(f"    {alerts[0]['labels']} {alerts[0]['annotations'].get('summary', '')}")
    must("with a link to the view", VIEW in json.dumps(alerts))
    must("for the people of the sample", {"name": "people"} in alerts[0]["receivers"])

    [database] = project.containers["database"]
    psql = ["psql", "--username=anomaly", "--no-password", "--tuples-only", "--no-align"]
    without = database.execute([*psql, "--host=127.0.0.1", "--command=select 1"])
    must("others than the database's own user need its password", "no password supplied" in without.stderr)
    episodes = [*psql, "--host=/var/run/postgresql", "--command=select count(*) from episodes"]
    until("history is in PostgreSQL", lambda: int(database.execute(episodes).stdout or 0))


def survive(project: Project) -> None:
    """A worker dies; a third one comes and goes; the machine is started anew."""
    first, second = project.containers["worker"]
    before = rebalances(project, second)
    first.kill(signal.SIGKILL)
    begun = time.monotonic()
    until("a killed worker is started again", lambda: first.starts > 1)
    until("and ready", lambda: not first.ask_health())
    say(f"    {time.monotonic() - begun:.1f} s after it was killed")
    time.sleep(40.0)  # its session and a scrape: what would have happened is in Prometheus then
    must("the other one has not noticed", rebalances(project, second) == before)

    third = project.begin("worker")
    until("a third worker is ready (--scale worker=3)", lambda: not third.ask_health())
    until("Prometheus has it", lambda: all_are_seen(project))
    until("it has partitions", lambda: shares() == [0.0, 1.0, 1.0, 2.0])
    took = third.stop()
    project.containers["worker"].remove(third)
    say(f"    it stopped in {took:.1f} s")
    until("the others take them over", lambda: all_are_seen(project) and shares() == [0.0, 2.0, 2.0])

    say("    the machine is started anew: all at once, in no order")
    lasting = [one for several in project.containers.values() for one in several if one.config["restart"] != "no"]
    for one in lasting:
        one.stop()
    begun, starts = time.monotonic(), sum(one.starts for one in lasting)
    for one in reversed(lasting):
        one.start_again()
    for one in lasting:
        if one.config["healthcheck"].get("test"):
            until(f"{one.name} is healthy", lambda one=one: not one.ask_health())
    tries = sum(one.starts for one in lasting) - starts
    say(f"    all {time.monotonic() - begun:.1f} s later; {tries} starts of {len(lasting)} containers")


def nothing_secret(project: Project, token: str) -> None:
    secrets = {token}
    for name in ("database-secret/password", "database-secret/url", "grafana-secret/password"):
        secrets.add((project.folder / "volumes" / name).read_text())
    asked_for = re.compile("secrets-[2-9]|token-")  # `run secrets show`, `run token create`
    shown = [name for name, text in project.logs() if any(one in text for one in secrets) and not asked_for.match(name)]
    must("no secret is in any log", not shown)


def measured(project: Project) -> None:
    for several in project.containers.values():
        for one in several:
            if one.code is None:
                limit = int(one.config["mem_limit"]) / 1e6
                used = one.memory_mb()
                say(f"    {one.name:16} {used:6.0f} MB of {limit:.0f} MB")
                if used > limit:
                    raise Failed(f"{one.name} uses more than its limit")


def without_tools(config: dict[str, Any]) -> dict[str, Any]:
    """Takes out and gives the services that only `docker compose run` starts."""
    services = config["services"]
    return {name: services.pop(name) for name in list(services) if services[name].get("profiles") == ["tools"]}


def whole(folder: Path) -> None:
    config = configuration(["compose.yaml"])
    tools = without_tools(config)
    project = Project(config, folder)
    say(f"left out, for there is no such program here: {', '.join(project.left_out)}")
    project.up(say)
    config["services"] |= tools
    token = look(project)
    watch(project)
    tell(project)
    measured(project)
    survive(project)
    nothing_secret(project, token)
    down(project)


def down(project: Project) -> None:
    took = project.down()
    say("ok  down: " + ", ".join(f"{name} {s:.1f} s" for name, s in took.items()))
    project.end()


def own_kafka(folder: Path) -> None:
    """Beside a Kafka that asks for a password and speaks TLS."""
    secrets = folder / "secrets"
    secrets.mkdir()
    certificate = ["-keyout", str(secrets / "key.pem"), "-out", str(secrets / "ca.pem"), "-subj", "/CN=kafka-1"]
    run(
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        *certificate,
        "-addext",
        "subjectAltName=DNS:kafka-1",
    )
    pair = secrets / "broker.pem"
    pair.write_text((secrets / "key.pem").read_text() + (secrets / "ca.pem").read_text())
    pair.chmod(0o644)
    variables = {
        "ANOMALY_KAFKA__BOOTSTRAP_SERVERS": "kafka-1:9092",
        "ANOMALY_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "ANOMALY_KAFKA__SASL_MECHANISM": "PLAIN",
        "ANOMALY_KAFKA__SASL_USERNAME": "anomaly",
        "ANOMALY_KAFKA__SASL_PASSWORD_FILE": "/run/secrets/kafka/password",
        "ANOMALY_KAFKA__SSL_CAFILE": "/run/secrets/kafka/ca.pem",
    }
    config = configuration(["compose.yaml", "compose.own-kafka.yaml"], **variables)
    for service in config["services"].values():
        for mount in service.get("volumes", ()):
            if mount["target"] == "/run/secrets/kafka":
                mount["source"] = str(secrets)
    broker = configuration(["compose.yaml"])["services"]["kafka"]
    login = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_anomaly="a b\'c";'
    broker["environment"] |= {
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@kafka-1:9093",
        "KAFKA_LISTENERS": "CLIENTS://:9092,CONTROLLER://:9093,INSIDE://:9094",
        "KAFKA_ADVERTISED_LISTENERS": "CLIENTS://kafka-1:9092,INSIDE://kafka-1:9094",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENTS:SASL_SSL",
        "KAFKA_SASL_ENABLED_MECHANISMS": "PLAIN",
        "KAFKA_LISTENER_NAME_CLIENTS_PLAIN_SASL_JAAS_CONFIG": login,
        "KAFKA_LISTENER_NAME_CLIENTS_SSL_KEYSTORE_TYPE": "PEM",
        "KAFKA_LISTENER_NAME_CLIENTS_SSL_KEYSTORE_LOCATION": "/etc/kafka/broker.pem",
    }
    broker["volumes"].append(
        {"type": "bind", "source": str(pair), "target": "/etc/kafka/broker.pem", "read_only": True}
    )
    broker["ports"] = []
    tools = without_tools(config)
    project = Project(config, folder)
    config["services"] |= {"kafka-1": broker} | tools
    kafka = project.begin("kafka-1")
    until("a Kafka of one's own", lambda: not kafka.ask_health())

    password = secrets / "password"
    for given, refused in (("another", True), ("a b'c", False)):
        password.write_text(f"{given}\n")
        password.chmod(0o400)
        os.chown(password, 65532, 65532)
        try:
            made = project.run("topics", "topics", "--create")
            must("topics are made with the password", not refused and "created raw-data" in made)
        except Failed as error:
            must("a wrong password is refused", refused and "exit" in str(error))
            say(f"    {str(error).splitlines()[-1][:200]}")
    for name in ("kafka-1", *tools):
        config["services"].pop(name)
    project.up(say)
    config["services"] |= {"kafka-1": broker} | tools
    project.run("generate", "generate", "synthetic", "--points", "50", "--sources", "3")
    token = project.run("secrets", "show", "token").strip()
    until("results of three sources", lambda: ask(f"{VIEW}/api/sources", token)[1]["known"] == 3)
    until("Prometheus has both workers and the alerter", lambda: all_are_seen(project))
    must("no secret is in any log", not [name for name, text in project.logs() if "a b'c" in text])
    down(project)


def wrong_settings(folder: Path) -> None:
    """Wrong settings end `up` before a worker is started."""
    config = configuration(["compose.yaml"])
    without_tools(config)
    wrong = folder / "anomaly.yaml"
    wrong.write_text(f"{(COMPOSE / 'anomaly.yaml').read_text()}\ndetection: {{threshold: 2}}\n")
    for service in config["services"].values():
        for mount in service.get("volumes", ()):
            if mount["source"].endswith("/anomaly.yaml"):
                mount["source"] = str(wrong)
    project = Project(config, folder)
    try:
        project.up(lambda text: None)
    except Failed as error:
        must("wrong settings end it with exit code 2", "exit 2" in str(error) and "threshold" in str(error))
        must("and no worker was started", "worker" not in project.containers)
    else:
        raise Failed("wrong settings were taken")
    finally:
        down(project)


PARTS = {"whole": whole, "own-kafka": own_kafka, "wrong": wrong_settings}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("parts", nargs="*", default=list(PARTS), help=f"of {', '.join(PARTS)}")
    options = arguments.parse_args()
    try:
        needed()
        base = inside()
    except Failed as error:
        sys.exit(str(error))
    for name in options.parts:
        folder = base / name
        folder.mkdir()
        say(f"-- {name}")
        try:
            PARTS[name](folder)
        except BaseException:
            for path in sorted((folder / "containers").glob("*/log")):
                say(f"---- {path.parent.name}\n{path.read_text('utf-8', 'replace')[-2500:]}")
            raise
    say("all of it holds")


if __name__ == "__main__":
    main()
