"""Certificates are taken as they change, and bad ones are not."""

import asyncio
import logging
import shutil
import ssl
import subprocess

import pytest

from app.errors import ConfigurationError
from app.web.security.tls import Certificate
from tests.support.secured import Certificates

try:
    import uvloop
except ImportError:
    uvloop = None


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def signed(authority):
    """PEM files with certificate and key, by name."""
    return {name: authority.sign(name) for name in ("first", "second", "third")}


async def talk(context, authority, **versions):
    """The subject of the certificate that a new connection is shown."""
    trusting = ssl.create_default_context(cafile=authority.ca)
    for name, version in versions.items():
        setattr(trusting, name, version)

    async def answer(reader, writer):
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        found = writer.get_extra_info("peercert")
        writer.close()
        return dict(pair[0] for pair in found["subject"])["commonName"]


def shown(certificate, authority, **versions):
    """The same with every event loop that there is."""
    found = {asyncio.run(talk(certificate.context, authority, **versions))}
    if uvloop:
        found.add(uvloop.run(talk(certificate.context, authority, **versions)))
    [name] = found
    return name


def test_a_new_pair_is_shown_to_new_connections_and_a_broken_one_is_not(tmp_path, authority, signed, caplog):
    pem = tmp_path / "own.pem"
    shutil.copy(signed["first"], pem)
    certificate = Certificate(pem)
    assert shown(certificate, authority) == "first"
    shutil.copy(signed["second"], pem)
    certificate.look()
    assert shown(certificate, authority) == "second"
    with caplog.at_level(logging.ERROR):
        pem.write_text("-----BEGIN CERTIFICATE-----\n")
        certificate.look()
        certificate.look()
        assert shown(certificate, authority) == "second"
        pem.unlink()
        certificate.look()
    assert shown(certificate, authority) == "second"
    assert caplog.text.count("api.tls_certificate_file") == 2 and "the one before goes on" in caplog.text
    shutil.copy(signed["third"], pem)
    certificate.look()
    assert shown(certificate, authority) == "third"


def test_a_certificate_before_its_key_changes_nothing_until_the_key_is_there(tmp_path, authority, signed, caplog):
    pair = tmp_path / "own.crt", tmp_path / "own.key"

    def give(path, name):
        shutil.copy(authority.directory / f"{name}{path.suffix}", path)

    for path in pair:
        give(path, "first")
    certificate = Certificate(*pair)
    give(pair[0], "second")
    certificate.look()
    assert shown(certificate, authority) == "first" and "does not fit" in caplog.text
    give(pair[1], "second")
    certificate.look()
    assert shown(certificate, authority) == "second"


def test_nothing_older_than_tls_1_2_is_spoken(authority, signed):
    certificate = Certificate(signed["first"])
    two = ssl.TLSVersion.TLSv1_2
    assert shown(certificate, authority, minimum_version=two, maximum_version=two) == "first"
    assert certificate.context.minimum_version == certificate._current.minimum_version == two


def problem(certificate, key=None):
    with pytest.raises(ConfigurationError) as error:
        Certificate(certificate, key)
    text = str(error.value)
    assert text.startswith("api.tls_certificate_file: ") and "/" in text
    return text


def test_files_that_are_none_stop_the_start(tmp_path, authority, signed):
    first, other = authority.directory / "first.crt", authority.directory / "second.key"
    assert "the key does not fit the certificate" in problem(first, other)
    assert "none.crt" in problem(tmp_path / "none.crt", other) and "No such file" in problem(
        tmp_path / "none.crt", other
    )
    assert "none.key: No such file" in problem(first, tmp_path / "none.key")
    assert "PEM" in problem(first)
    text = tmp_path / "text"
    text.write_text("hello")
    assert "expected a certificate and its key in PEM" in problem(text)
    locked = tmp_path / "locked.key"
    command = [
        "openssl",
        "pkey",
        "-in",
        authority.directory / "first.key",
        "-aes256",
        "-passout",
        "pass:x",
        "-out",
        locked,
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert "expected a key without a password" in problem(first, locked)
