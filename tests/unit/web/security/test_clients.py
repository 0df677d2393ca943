"""Forwarded headers count from trusted proxies only."""

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from app.web.security.clients import Client, Proxies

LIE = [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "localhost"),
       ("X-Forwarded-Prefix", "/evil"), ("Forwarded", "for=127.0.0.1;proto=https")]  # fmt: skip


def client(proxies, peer, *headers, host="127.0.0.1:8000"):
    request = make_mocked_request("GET", "/", headers=CIMultiDict([("Host", host), *headers])).clone(remote=peer)
    return proxies.client(request)


@pytest.mark.parametrize("trusted", [(), ("10.0.0.1",), ("10.0.0.0/8", "2001:db8::/32")])
def test_what_a_stranger_says_is_ignored(trusted):
    found = client(Proxies(trusted, "/anomaly"), "192.0.2.7", *LIE)
    assert found == Client("192.0.2.7", False, "127.0.0.1:8000", "/anomaly")


@pytest.mark.parametrize("peer", ["10.0.0.1", "::ffff:10.0.0.1"])
def test_a_trusted_proxy_is_believed(peer):
    said = [("X-Forwarded-For", "192.0.2.7"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-Host", "view.example"),
            ("X-Forwarded-Prefix", "/sub/path/")]  # fmt: skip
    found = client(Proxies(["10.0.0.0/8"]), peer, *said)
    assert found == Client("192.0.2.7", True, "view.example", "/sub/path")


@pytest.mark.parametrize(
    ("hops", "address"),
    [
        (["127.0.0.1, 192.0.2.7"], "192.0.2.7"),
        (["127.0.0.1", "192.0.2.7"], "192.0.2.7"),
        (["192.0.2.7, 10.0.0.9, 10.0.0.8"], "192.0.2.7"),
        (["127.0.0.1, 192.0.2.7, 10.0.0.9"], "192.0.2.7"),
        (["192.0.2.7:4711"], "192.0.2.7"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["192.0.2.7, nonsense"], "10.0.0.1"),
        (["10.0.0.2"], "10.0.0.2"),
        ([""], "10.0.0.1"),
        ([], "10.0.0.1"),
    ],
)
def test_the_address_is_the_last_that_is_no_trusted_proxy(hops, address):
    assert client(Proxies(["10.0.0.0/8"]), "10.0.0.1", *(("X-Forwarded-For", hop) for hop in hops)).address == address


def test_what_the_last_proxy_appended_counts():
    said = [("X-Forwarded-Proto", "https, http"), ("X-Forwarded-Host", "evil.example"), ("X-Forwarded-Host", "ours")]
    found = client(Proxies(["10.0.0.1"]), "10.0.0.1", *said)
    assert (found.secure, found.host) == (False, "ours")


@pytest.mark.parametrize(
    "prefix", ["evil", "//evil.example", "/a/../b", "/a b", "/a;x", "/" + "a" * 70, "/a\x00", "/.."]
)
def test_a_prefix_that_is_no_path_is_ignored(prefix):
    assert client(Proxies(["10.0.0.1"], "/own/"), "10.0.0.1", ("X-Forwarded-Prefix", prefix)).prefix == "/own"


def test_a_peer_without_an_address_is_nobody():
    assert client(Proxies(["10.0.0.1"]), None, *LIE).address == ""
