"""Brokers with TLS, SCRAM and ACLs: every program with the least rights, and what it says when something is missing."""

import argparse
import asyncio
import json
import re
import shlex
import shutil
import sys
import time
from collections.abc import Iterator
from functools import partial

import pytest
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from click.testing import CliRunner
from integration import load, logs
from integration.run import Run
from integration.workers import Worker, wait_for
from support import kafka_tools
from support.jobs import Job
from support.token_endpoint import SECRET, TokenEndpoint

from app.cli import main
from app.errors import TopicError
from app.kafka import admin, patches, permissions, topics
from app.kafka.authorized_operations import authorized_operations
from app.kafka.client import client_options
from app.kafka.groups import describe_groups
from tests.docs import pages
from tests.support.secured import Acl, Certificates, SecuredKafka

PASSWORD = "s3cret-%s"
REKEYED = {"input": {"rekey": True}}  # what needs every right that there is
RIGHTS = 18  # of a worker, then; without the hop 15, and without alerting 10
USERS = ["worker", "producer", "maker", "documented", "lacking"]
BROKERS_THAT_DO_NOT_SAY = """
import app.kafka.topics
async def lacking(admin, needed):
    return []  # as of brokers before Kafka 2.3
app.kafka.topics.lacking = lacking
from app.cli import main
main()
"""
ENTRY = ("security_protocol", "sasl_mechanism", "sasl_username", "sasl_password", "ssl_cafile", "ssl_certfile")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl")
    directory = tmp_path_factory.mktemp("certificates")
    users = {user: PASSWORD % user for user in USERS}
    with SecuredKafka(tmp_path_factory.mktemp("secured"), Certificates(directory), users) as broker:
        yield broker


@pytest.fixture
def job(secured: SecuredKafka, request: pytest.FixtureRequest) -> Job:
    """Names of the test's own, reached as the user ``worker``, who may do nothing yet."""
    return Job.of(request.node.name, secured.secure, **secured.settings("worker"))


def by_hand(secured: SecuredKafka, job: Job) -> Job:
    """The same job as a super user meets it."""
    names = {name: value for name, value in job.kafka.items() if name not in ENTRY}
    return Job(job.name, secured.bootstrap_servers, names | {"bootstrap_servers": [secured.bootstrap_servers]})


def acls_of(needed: list[permissions.Right]) -> list[Acl]:
    return [Acl(*right[:3]) for right in needed]


def points(count: int, start: int = 0) -> list[tuple[int, bytes, bytes]]:
    """(partition, key, value); 4 sources."""
    return [
        (n % 4, b"pump-%d" % (n % 4), b'{"source":"pump-%d","timestamp":%d,"value":%d}' % (n % 4, n + 10**9, n % 7))
        for n in range(start, start + count)
    ]


def told_no_password(text: str) -> bool:
    return not re.search("|".join(re.escape(PASSWORD % user) for user in USERS), text)


def test_every_program_does_its_work_with_exactly_its_rights(secured, job, tmp_path):
    """With the hop of input.rekey; a worker without it has no more than its rights in the tests below."""
    settings = job.settings(**REKEYED)

    def run(user, *arguments):
        entry = {"ANOMALY_KAFKA__SASL_USERNAME": user, "ANOMALY_KAFKA__SASL_PASSWORD": PASSWORD % user}
        environ = job.environ(ANOMALY_INPUT__REKEY="true", **entry)
        return CliRunner().invoke(main, arguments, env=environ)

    secured.allow("maker", acls_of(permissions.of_topic_creator(settings.kafka, topics.names(settings.kafka))))
    wait_for(lambda: run("maker", "topics", "--create").exit_code == 0)
    assert run("worker", "topics").exit_code == 2
    secured.allow("worker", acls_of(permissions.of_worker(settings)))
    checked = wait_for(lambda: (done := run("worker", "topics")).exit_code == 0 and done)
    assert checked.stdout.count(", ok") == 8
    checked = run("worker", "check")
    assert checked.exit_code == 0 and "ok      permissions: 18 rights" in checked.stdout, checked.output
    generate = ("generate", "synthetic", "--sources", "8", "--points", "50")
    refused = run("producer", *generate)
    assert refused.exit_code == 2 and f"topic {settings.kafka.input_topic}" in refused.stderr
    secured.allow("producer", acls_of(permissions.of_generator(settings.kafka.input_topic)))
    wait_for(lambda: run("producer", *generate).exit_code == 0)

    hands = by_hand(secured, job).settings(**REKEYED).kafka
    made = sum(logs.ends(hands, hands.input_topic))
    assert made >= 400
    load.produce([secured.bootstrap_servers], hands.input_topic, [(0, b"pump", b"not json")])
    with Run(job, tmp_path, **REKEYED, alerting={"enabled": True}) as run:
        worker = run.start().until_ready()
        wait_for(lambda: sum(logs.ends(hands, hands.output_topic)) == made)
        assert sum(logs.ends(hands, hands.by_source_topic)) == made
        assert sum(logs.ends(hands, hands.dead_letters_topic)) == 1
        wait_for(lambda: sum(logs.ends(hands, hands.changelog_topic)) >= 8)

        def shown():
            statistics = json.loads(worker.get("/api/statistics")[1])
            assert statistics["anomalies"]["state"] in ("connecting", "reading")
            return statistics["sources"] == 8 and statistics["anomalies"]["state"] == "reading"

        wait_for(shown)
        assert worker.get("/readyz")[0] == 200

        def known():
            groups = json.loads(worker.get("/api/workers")[1])["groups"]
            assert [group["problem"] for group in groups] == ["", ""]
            return all(group["lag"] and group["members"] and group["members"][0]["this"] for group in groups)

        wait_for(known)
        outsider = Job.of("outsider", secured.secure, **secured.settings("producer")).settings()
        unseen = asyncio.run(describe_groups(outsider.kafka, {"g": []}))
        assert unseen == {"g": "this user may not see the group g (Describe)"}
        status, refused = worker.post("/data", {"sourceId": "pump", "value": 1.5})
        assert status == 503 and f"--operation Write --topic {hands.input_topic}" in refused["detail"]
        secured.allow("worker", acls_of(permissions.of_posts(hands.input_topic)))
        wait_for(lambda: worker.post("/data?wait=30", {"sourceId": "pump", "value": 1.5})[0] == 200)
        worker.term()
        assert worker.code == 0
        assert "Traceback" not in worker.said and told_no_password(worker.said)


def test_mutual_tls_asks_for_no_password_and_who_lacks_the_certificate_is_told(secured, tmp_path, monkeypatch):
    """The brokers take the name in the certificate for the user."""
    (tmp_path / "strange").mkdir()
    by_nobody_they_know = Certificates(tmp_path / "strange").sign("machine")
    known = {"security_protocol": "SSL", "ssl_cafile": str(secured.ca)}
    job = Job.of("mutual", secured.mutual, **known, ssl_certfile=str(secured.certificates.sign("machine")))
    hands = by_hand(secured, job)
    kafka = hands.settings().kafka
    asyncio.run(topics.create(hands.settings()))
    secured.allow("CN=machine", acls_of(permissions.of_worker(job.settings())))
    with Run(job, tmp_path) as run:
        load.produce([hands.servers], kafka.input_topic, points(400))
        worker = run.start().until_ready()
        wait_for(lambda: sum(logs.ends(kafka, kafka.output_topic)) == 400)
        worker.term()
        assert worker.code == 0
    monkeypatch.setattr(admin, "TIMEOUT_S", 2.0)  # it is tried again: brokers that come up close connections too
    for given in ({}, {"ssl_certfile": str(by_nobody_they_know)}):
        stranger = Job.of(job.name, secured.mutual, **known, **given)
        with pytest.raises(TopicError, match=r"requires a certificate .* set kafka\.ssl_certfile to one that the "):
            asyncio.run(topics.require(stranger.settings()))


@pytest.fixture(scope="module")
def lacking(secured: SecuredKafka) -> Job:
    """A job with topics, and all rights of a worker given to the user ``lacking``."""
    job = Job.of("lacking", secured.secure, **secured.settings("lacking"))
    asyncio.run(topics.create(by_hand(secured, job).settings(**REKEYED)))
    secured.allow("lacking", acls_of(permissions.of_worker(job.settings(**REKEYED))))
    return job


def test_no_right_of_a_worker_is_left_out_of_the_tests(job):
    assert len(permissions.of_worker(job.settings(**REKEYED))) == RIGHTS


@pytest.mark.parametrize("n", range(RIGHTS))
def test_a_missing_right_is_named_with_the_command_that_gives_it(secured, lacking, n):
    right = permissions.of_worker(lacking.settings(**REKEYED))[n]
    with secured.without("lacking", Acl(*right[:3])):
        # this one and no other, as soon as the broker knows that the others were given
        [problem] = wait_for(lambda: len(told := look(lacking)) == 1 and told)
    assert problem.startswith(f"{right.kind} {right.name}: the user lacking may not {right.operation} it")
    assert permissions.commands([right], lacking.servers, "lacking")[0] in problem


def look(job: Job) -> list[str]:
    """What a worker would be refused for."""
    settings = job.settings(**REKEYED)
    try:
        asyncio.run(topics.require(settings, needed=permissions.of_worker(settings)))
    except TopicError as error:
        return str(error).split("\n- ")[1:]
    return []


def test_a_worker_says_what_it_lacks_before_it_joins_and_a_password_to_nobody(secured, lacking, tmp_path):
    """Read on the group is the one that aiokafka waits for without a word."""
    group = Acl("Read", "group", lacking.kafka["group_id"])
    by_source = Acl("Write", "topic", lacking.settings().kafka.by_source_topic)
    for name in ("right", "unknown", "password"):
        (tmp_path / name).mkdir()
    with (
        secured.without("lacking", group),
        secured.without("lacking", by_source),
        Run(lacking, tmp_path / "right", **REKEYED) as unentitled,
        Run(lacking, tmp_path / "unknown", **REKEYED) as unaware,
        Run(lacking, tmp_path / "password", kafka={"sasl_password": "wr0ng-one"}) as impostor,
    ):
        wait_for(lambda: len(look(lacking)) == 2)
        workers = unentitled.start(), impostor.start(), unaware.start((sys.executable, "-c", BROKERS_THAT_DO_NOT_SAY))
        environ = lacking.environ(ANOMALY_KAFKA__SASL_PASSWORD="wr0ng-one")
        generated = CliRunner().invoke(main, ["generate", "synthetic", "--points", "5"], env=environ)
        refused = CliRunner().invoke(main, ["check"], env=environ | {"ANOMALY_STORAGE__ENABLED": "false"})
        unentitled_too = lacking.environ(ANOMALY_INPUT__REKEY="true", ANOMALY_STORAGE__ENABLED="false")
        told = CliRunner().invoke(main, ["check"], env=unentitled_too)
        codes = [*(worker.wait() for worker in workers), generated.exit_code]
    said = [*(worker.said for worker in workers), generated.output]
    assert codes == [2, 2, 70, 2], said
    assert (refused.exit_code, told.exit_code) == (2, 2), refused.output + told.output
    assert told.stdout.count("wrong ") == 2 and "permissions:" not in told.stdout
    said += [refused.output]
    for acl in (group, by_source):
        assert f"wrong   {acl.kind} {acl.name}: the user lacking may not {acl.operation} it" in told.stdout
    assert f"group {group.name}: the user lacking may not Read it" in said[0]
    assert f"topic {by_source.name}: the user lacking may not Write it" in said[0]
    alone = said.pop(2)  # it joined, and found out then
    assert "GroupAuthorizationFailed" in alone and group.name in alone and "`faust-anomaly topics`" in alone
    assert "Traceback" not in alone
    for text in said[1:]:
        assert "SaslAuthenticationFailed" in text and "kafka.sasl_password" in text
    for text in said:
        assert "Traceback" not in text and "Consumer]: Starting" not in text
        assert "wr0ng-one" not in text and told_no_password(text)


def test_brokers_that_send_us_where_nobody_is_are_told_of(secured):
    settings = Job("", "", {"bootstrap_servers": [secured.astray]}).settings()
    with pytest.raises(TopicError, match=r"say they are at 127\.0\.0\.1:1 \(ConnectionRefused.*advertised\.listeners"):
        asyncio.run(topics.require(settings))


def test_rights_that_making_and_writing_lack_are_named(secured, job):
    """Who may see the topics and no more."""
    kafka = job.settings().kafka
    secured.allow("maker", [Acl("Describe", "topic", name) for name in topics.names(kafka)])
    environ = job.environ(ANOMALY_KAFKA__SASL_USERNAME="maker", ANOMALY_KAFKA__SASL_PASSWORD=PASSWORD % "maker")
    made = CliRunner().invoke(main, ["topics", "--create"], env=environ)
    assert made.exit_code == 2 and made.stderr.count("the user maker may not Create it") == 7, made.stderr
    assert f"--operation Create --topic {kafka.changelog_topic}`" in made.stderr
    asyncio.run(topics.create(by_hand(secured, job).settings()))
    written = CliRunner().invoke(main, ["generate", "synthetic", "--points", "5"], env=environ)
    assert written.exit_code == 2 and "the user maker may not Write it" in written.stderr, written.stderr


def test_a_right_taken_away_ends_the_worker_and_given_back_nothing_is_lost(secured, job, tmp_path):
    hands = by_hand(secured, job)
    kafka = hands.kafka
    asyncio.run(topics.create(hands.settings()))
    needed = permissions.of_worker(job.settings())
    secured.allow("worker", acls_of(needed))
    taken = [
        Acl("Write", "topic", kafka["output_topic"]),
        Acl("Read", "topic", kafka["input_topic"]),
        Acl("Read", "group", kafka["group_id"]),
    ]
    with Run(job, tmp_path) as run:
        for n, acl in enumerate(taken):
            worker = run.start().until_ready()
            load.produce([hands.servers], kafka["input_topic"], points(2000, 10_000 * n))
            wait_for(partial(delivered, worker, 1000))
            secured.take_away("worker", [acl])
            load.produce([hands.servers], kafka["input_topic"], points(2000, 10_000 * n + 2000))
            assert worker.wait() == 70, worker.said
            [reason] = [line for line in worker.said.splitlines() if "stopping without a commit" in line]
            assert acl.name in reason and "AuthorizationFailed" in reason and "`faust-anomaly topics`" in reason
            assert "Traceback" not in worker.said and told_no_password(worker.said)
            with pytest.raises(TopicError, match=f"may not {acl.operation} it"):
                asyncio.run(topics.require(job.settings(), needed=needed))
            secured.allow("worker", [acl])
        run.start().until_ready()
        run.job, run.kafka = hands, hands.settings().kafka  # the questions are a super user's
        run.until_saved()
        assert len(points(2000)) * 2 * len(taken) == sum(logs.ends(run.kafka, run.kafka.output_topic))
        assert run.check().faults == {}


def delivered(worker: Worker, results: int) -> bool:
    return worker.metric("results_delivered_total") >= results


WRONG = {
    "password": ({"sasl_password": "wr0ng"}, "SaslAuthenticationFailed", "kafka.sasl_password"),
    "user": ({"sasl_username": "nobody"}, "SaslAuthenticationFailed", "kafka.sasl_username"),
    "mechanism": ({"sasl_mechanism": "SCRAM-SHA-256"}, "UnsupportedSaslMechanism", "Check kafka.sasl_mechanism"),
    "authority": ({"ssl_cafile": "other"}, "unable to get local issuer", "kafka.ssl_cafile must hold the authority"),
    "expired": ({"bootstrap_servers": "expired"}, "certificate has expired", "Renew the broker's certificate"),
    "other name": ({"bootstrap_servers": "elsewhere"}, "not valid for '127.0.0.1'", "bootstrap_servers must name"),
    "no TLS here": ({"security_protocol": "SASL_PLAINTEXT"}, "listener speaks TLS", "to SSL or SASL_SSL, not SASL_PL"),
    "no TLS there": ({"bootstrap_servers": "plain"}, "speaks no TLS", "to PLAINTEXT or SASL_PLAINTEXT, not SASL_SSL"),
    "neither": ({"security_protocol": "PLAINTEXT"}, "listener speaks TLS", "to SSL or SASL_SSL, not PLAINTEXT"),
    "no password": ({"security_protocol": "SSL"}, "requires a user name and password", "to SASL_SSL then, not SSL"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_connection_that_cannot_be_had_is_told_at_once_with_its_cure(secured, job, wrong, caplog):
    changed, *words = WRONG[wrong]
    servers = {"expired": secured.expired, "elsewhere": secured.elsewhere, "plain": secured.bootstrap_servers}
    kafka = job.kafka | changed
    if "bootstrap_servers" in changed:
        kafka["bootstrap_servers"] = [servers[changed["bootstrap_servers"]]]
    if "ssl_cafile" in changed:
        kafka["ssl_cafile"] = str(secured.ca.with_name("elsewhere.crt"))
    if "SASL" not in kafka["security_protocol"]:
        kafka = {name: value for name, value in kafka.items() if not name.startswith("sasl")}
    if "SSL" not in kafka["security_protocol"]:
        kafka = {name: value for name, value in kafka.items() if not name.startswith("ssl")}
    began = time.monotonic()
    with pytest.raises(TopicError) as failed:
        asyncio.run(topics.require(Job(job.name, job.servers, kafka).settings()))
    assert time.monotonic() - began < admin.TIMEOUT_S / 2
    assert all(word in str(failed.value) for word in words), failed.value
    assert told_no_password(f"{failed.value!r} {failed.value.__cause__!r} {caplog.text}")


def test_a_worker_comes_with_tokens_and_one_that_is_refused_is_told(secured, job, tmp_path):
    """The endpoint's tokens are for the user "worker", whose rights decide."""
    with TokenEndpoint() as endpoint:
        token = {"sasl_mechanism": "OAUTHBEARER", "sasl_password": SECRET, "sasl_oauth_token_endpoint": endpoint.url}
        bearer = Job(job.name, job.servers, job.kafka | token)
        hands = by_hand(secured, job)
        asyncio.run(topics.create(hands.settings()))
        secured.allow("worker", acls_of(permissions.of_worker(job.settings())))
        with Run(bearer, tmp_path) as run:
            load.produce([secured.bootstrap_servers], run.kafka.input_topic, points(40))
            worker = run.start().until_ready()
            wait_for(lambda: delivered(worker, 40))
            assert SECRET not in worker.said and "Traceback" not in worker.said
        for life_s, secret, words in ((-100.0, SECRET, "the token was refused"), (9.0, "wr0ng", "invalid_client")):
            endpoint.life_s = life_s
            settings = Job(job.name, job.servers, bearer.kafka | {"sasl_password": secret}).settings()
            with pytest.raises(TopicError, match=words) as failed:
                asyncio.run(topics.require(settings))
            assert "kafka.sasl_oauth_token_endpoint" in str(failed.value) and "wr0ng" not in str(failed.value)


def test_the_commands_of_the_documents_give_a_worker_all_it_needs(secured):
    """With the default names; Kafka's own tool is in none of the jars a broker needs."""
    commands = pages.block("acls").replace("\\\n", " ")
    tool = argparse.ArgumentParser(exit_on_error=False)
    tool.add_argument("--add", action="store_true", required=True)
    for option in ("--bootstrap-server", "--allow-principal", "--operation"):
        tool.add_argument(option, required=True)
    for kind in ("--topic", "--group"):
        tool.add_argument(kind, action="append", default=[])
    for command in commands.partition("# worker\n")[2].partition("# ")[0].splitlines():
        name, *arguments = shlex.split(command)
        asked = tool.parse_args(arguments)
        assert (name, asked.allow_principal) == ("kafka-acls.sh", "User:anomaly")
        names = [("topic", topic) for topic in asked.topic] + [("group", group) for group in asked.group]
        secured.allow("documented", [Acl(asked.operation, *of) for of in names])
    settings = Job("", secured.secure, secured.settings("documented")).settings()
    needed = permissions.of_worker(settings)
    asyncio.run(topics.create(Job("", "", {"bootstrap_servers": [secured.bootstrap_servers]}).settings()))

    async def lacking():
        async with admin.connected(settings.kafka) as client:
            groups = [settings.kafka.group_id, settings.kafka.alerter_group]
            has = await authorized_operations(client, topics.names(settings.kafka), groups)
        assert len(has) == 9
        assert {name: of - {"Describe"} for name, of in has.items()} == {
            key: frozenset(right.operation for right in needed if right[1:3] == key) for key in has
        }, "the commands give more than is needed"
        return permissions.missing(needed, has)

    assert asyncio.run(lacking()) == []


def test_closing_a_connection_does_not_wait_for_the_brokers_closing_message(secured, job):
    """A broker that holds a fetch sends none; without the patch this takes 30 s: every recovery, every stop."""
    patches.close_tls_connections_at_once()
    name = f"{job.name}-quiet"
    hands = by_hand(secured, job).settings().kafka
    kafka_tools.create_topic(hands.bootstrap_servers[0], name)
    secured.allow("worker", [Acl("Read", "topic", name)])

    async def stop_during_a_fetch() -> float:
        options = client_options(job.settings().kafka)
        consumer = AIOKafkaConsumer(**options, fetch_max_wait_ms=20_000, request_timeout_ms=40_000)
        await consumer.start()
        consumer.assign([TopicPartition(name, 0)])
        assert await consumer.getmany(timeout_ms=2000) == {}  # the broker holds it until something comes
        began = time.monotonic()
        await consumer.stop()
        return time.monotonic() - began

    assert uvloop.run(stop_during_a_fetch()) < 5.0
