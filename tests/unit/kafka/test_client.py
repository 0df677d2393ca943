"""Security settings become aiokafka's options, or an error before anything is connected."""

import shutil
import ssl
import subprocess

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from app.errors import ConfigurationError
from app.kafka.client import client_options
from app.settings import KafkaSettings

USER = {"sasl_username": "worker", "sasl_password": "secret"}


def kafka(**settings):
    return KafkaSettings.model_validate(settings)


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """Certificate and keys made for this run: cert.pem, key.pem, locked.pem (a key with a pass phrase)."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl")
    directory = tmp_path_factory.mktemp("pem")
    make = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -keyout key.pem -out cert.pem"
    lock = "rsa -aes128 -in key.pem -out locked.pem -passout pass:secret"
    for arguments in (make, lock):
        subprocess.run(["openssl", *arguments.split()], cwd=directory, check=True, capture_output=True)
    return directory


def test_plain_text_is_addresses_and_nothing_secret():
    options = client_options(kafka(bootstrap_servers=["a:9092", "b:9092"]))
    assert options == {"bootstrap_servers": ["a:9092", "b:9092"], "security_protocol": "PLAINTEXT"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
def test_sasl_gives_user_and_password_in_clear(protocol, mechanism):
    options = client_options(kafka(security_protocol=protocol, sasl_mechanism=mechanism, **USER))
    assert options["sasl_mechanism"] == mechanism
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("worker", "secret")
    assert ("ssl_context" in options) == (protocol == "SASL_SSL")


def test_tls_verifies_the_broker_and_its_name(pem):
    settings = {"ssl_cafile": f"{pem}/cert.pem", "ssl_certfile": f"{pem}/cert.pem", "ssl_keyfile": f"{pem}/key.pem"}
    context = client_options(kafka(security_protocol="SSL", **settings))["ssl_context"]
    assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname


@pytest.mark.parametrize("client", [AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient])
def test_every_client_takes_the_options(client):
    import asyncio

    async def make():
        client(**client_options(kafka(security_protocol="SASL_SSL", **USER)))

    asyncio.run(make())


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"ssl_cafile": "/nowhere.pem"}, "kafka.ssl_cafile"),
        ({"ssl_certfile": "/nowhere.pem"}, "kafka.ssl_certfile"),
        ({"ssl_keyfile": "/nowhere.pem"}, "kafka.ssl_certfile"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_setting(settings, named):
    with pytest.raises(ConfigurationError, match=named):
        client_options(kafka(security_protocol="SSL", **settings))


def test_a_key_with_a_pass_phrase_is_refused_instead_of_asked_for(pem):
    files = {"ssl_certfile": f"{pem}/cert.pem", "ssl_keyfile": f"{pem}/locked.pem"}
    with pytest.raises(ConfigurationError, match="pass phrase"):
        client_options(kafka(security_protocol="SSL", **files))


def test_a_file_that_is_no_certificate_is_refused(pem):
    with pytest.raises(ConfigurationError, match="ssl_cafile"):
        client_options(kafka(security_protocol="SSL", ssl_cafile=f"{pem}/key.pem"))
