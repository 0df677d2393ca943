"""Nothing is sent to an address that is not allowed: in no notation, after no redirect, by no change of a name."""

import asyncio
import gzip

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from app.alerting.outgoing import MOST_BYTES, Forbidden, Outgoing, read

REFUSED = {
    "127.0.0.1": "a loopback address",
    "127.1": "a loopback address",
    "2130706433": "a loopback address",
    "0x7f000001": "a loopback address",
    "0x7f.1": "a loopback address",
    "017700000001": "a loopback address",
    "::1": "a loopback address",
    "::ffff:127.0.0.1": "a loopback address",
    "::ffff:7f00:1": "a loopback address",
    "64:ff9b::7f00:1": "a loopback address",
    "2002:7f00:1::": "a loopback address",
    "0.0.0.0": "no address of a host",
    "::": "no address of a host",
    "10.1.2.3": "an address of a private network",
    "172.16.0.1": "an address of a private network",
    "192.168.1.1": "an address of a private network",
    "100.64.0.1": "an address of a private network",
    "fd12::1": "an address of a private network",
    "::ffff:10.1.2.3": "an address of a private network",
    "2002:a01:203::1": "an address of a private network",
    "64:ff9b::a01:203": "an address of a private network",
    "169.254.1.1": "a link-local address",
    "fe80::1": "a link-local address",
    "224.0.0.251": "a multicast address",
    "ff02::fb": "a multicast address",
    "255.255.255.255": "a reserved address",
    "240.0.0.1": "a reserved address",
    "198.18.0.1": "a reserved address",
    "192.0.0.8": "a reserved address",
    "2001:0:a01:203::1": "a reserved address",
    "64:ff9b:1::1": "a reserved address",
    "fec0::1": "a reserved address",
    "::10.1.2.3": "a reserved address",
    "169.254.169.254": "the metadata service of a cloud",
    "0xa9fea9fe": "the metadata service of a cloud",
    "::ffff:169.254.169.254": "the metadata service of a cloud",
    "64:ff9b::a9fe:a9fe": "the metadata service of a cloud",
    "fd00:ec2::254": "the metadata service of a cloud",
    "100.100.100.200": "the metadata service of a cloud",
    "168.63.129.16": "the metadata service of a cloud",
}
PUBLIC = ["93.184.215.14", "1.1.1.1", "2606:4700:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"]


def checked(outgoing, host):
    return asyncio.run(outgoing.check(host, 443))


@pytest.mark.parametrize("host", REFUSED)
def test_an_address_that_is_not_public_is_refused_in_every_notation(host):
    with pytest.raises(Forbidden) as refusal:
        checked(Outgoing(), host)
    assert f" is {REFUSED[host]}: nothing is sent there" in str(refusal.value)
    assert ("alerting.allowed_addresses" in str(refusal.value)) == ("metadata" not in REFUSED[host])


@pytest.mark.parametrize("host", PUBLIC)
def test_a_public_address_is_not(host):
    assert len(checked(Outgoing(), host)) == 1


@pytest.mark.parametrize("host", [host for host in REFUSED if "metadata" in REFUSED[host]])
def test_metadata_is_refused_whatever_is_allowed(host):
    async def lookup(name, port):
        return await Outgoing()._lookup(host, port)

    with pytest.raises(Forbidden, match="metadata"):
        checked(Outgoing(["0.0.0.0/0", "::/0", host]), host)
    with pytest.raises(Forbidden, match="metadata"):
        checked(Outgoing(["receiver"], lookup), "receiver")


@pytest.mark.parametrize("host", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203"])
@pytest.mark.parametrize("allowed", ["10.0.0.0/8", "10.1.2.3", "10.1.2.3/8"])
def test_a_network_allows_its_addresses(host, allowed):
    assert checked(Outgoing([allowed]), host)
    with pytest.raises(Forbidden):
        checked(Outgoing([allowed]), "192.168.0.1")


def named(*answers):
    """A lookup that gives one answer after the other, and then the last one."""
    left = list(answers)

    async def lookup(host, port):
        return left.pop(0) if len(left) > 1 else left[0]

    return lookup


def test_a_name_is_judged_by_its_addresses_unless_it_is_allowed_itself():
    with pytest.raises(Forbidden, match=r"hooks.local is 10.0.0.5, which is an address of a private network"):
        checked(Outgoing(lookup=named(["10.0.0.5"])), "hooks.local")
    for spelling in ("hooks.local", "HOOKS.local."):
        assert checked(Outgoing(["Hooks.Local"], named(["10.0.0.5"])), spelling) == ["10.0.0.5"]
    mixed = Outgoing(lookup=named(["10.0.0.5", "1.1.1.1"]))
    assert checked(mixed, "hooks.local") == ["1.1.1.1"]


@pytest.mark.parametrize("host", ["no-such-host.invalid", f"{'x' * 64}.example", "a..b"])
def test_a_name_that_is_none_is_an_error_of_the_system(host):
    with pytest.raises(OSError):
        checked(Outgoing(), host)


# --- connections


def served(handler, session_of, allowed=("127.0.0.1",)):
    """What ``session_of(session, port)`` returns while a server answers with this handler."""

    async def run():
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", handler)
        async with TestServer(app, host="127.0.0.1") as server:
            outgoing = allowed if isinstance(allowed, Outgoing) else Outgoing(allowed)
            async with outgoing.session() as session:
                return await session_of(session, server.port)

    return asyncio.run(asyncio.wait_for(run(), 60))


async def welcome(request):
    return web.Response(text=request.host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0x7f000001", "receiver"])
def test_a_connection_is_refused_as_the_check_is(host):
    async def ask(session, port):
        with pytest.raises(Forbidden, match="loopback"):
            await session.get(f"http://{host}:{port}/")

    served(welcome, ask, Outgoing(lookup=named(["127.0.0.1"])))


def test_an_allowed_host_is_reached_and_keeps_its_name():
    async def ask(session, port):
        async with session.get(f"http://receiver:{port}/") as response:
            return await response.text()

    assert served(welcome, ask, Outgoing(["receiver"], named(["127.0.0.1"]))).startswith("receiver:")


def test_a_name_that_answers_otherwise_a_moment_later_leads_nowhere_else():
    """The connection goes to the address that was judged, which here is of a network for documents."""
    asked = []

    async def lookup(host, port):
        asked.append(host)
        return ["192.0.2.1"] if len(asked) == 1 else ["127.0.0.1"]

    async def ask(session, port):
        with pytest.raises(Exception) as failure:
            await session.get(f"http://rebinding:{port}/", timeout=type(session.timeout)(total=0.3))
        assert not isinstance(failure.value, Forbidden)
        assert asked == ["rebinding"]
        session.connector.clear_dns_cache()
        with pytest.raises(Forbidden, match="loopback"):
            await session.get(f"http://rebinding:{port}/")

    served(welcome, ask, Outgoing(["192.0.2.0/24"], lookup))


def test_a_redirect_is_judged_too():
    async def away(request):
        raise web.HTTPFound(f"http://127.0.0.1:{request.url.port}/")

    async def ask(session, port):
        with pytest.raises(Forbidden, match=r"127\.0\.0\.1 is a loopback"):
            await session.get(f"http://receiver:{port}/")

    served(away, ask, Outgoing(["receiver"], named(["127.0.0.1"])))


def test_of_a_long_answer_only_the_beginning_is_read():
    async def long(request):
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 10_000)
        except ConnectionError:
            return response

    async def ask(session, port):
        async with session.get(f"http://127.0.0.1:{port}/") as response:
            return await read(response)

    assert served(long, ask) == b"x" * MOST_BYTES


def test_an_answer_is_not_unpacked():
    """A few bytes could become gigabytes."""

    async def packed(request):
        return web.Response(body=gzip.compress(b"x" * 10_000_000), headers={"Content-Encoding": "gzip"})

    async def ask(session, port):
        async with session.get(f"http://127.0.0.1:{port}/") as response:
            return await read(response)

    assert len(served(packed, ask)) < 20_000
