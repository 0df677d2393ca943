"""Tokens of an issuer: those that it signed for us, and nothing that only looks like them."""

import asyncio
import base64
import hmac
import json
import time
import warnings
from contextlib import asynccontextmanager

import pytest
from aiohttp import CookieJar, web
from aiohttp.test_utils import TestClient, TestServer
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from app.web.security import oidc
from app.web.security.oidc import Issuer, get_json, is_safe
from app.web.security.roles import ADMIN, READ, WRITE, Caller, Unreachable
from tests.support.guarded import Keys, make_server

URL, AUDIENCE = "https://id.example/realm", "faust-anomaly"
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec"})
ED = OKPKey.generate_key("Ed25519", {"kid": "ed"})
STRANGER = RSAKey.generate_key(2048, {"kid": "rsa"})
ENCRYPTING = RSAKey.generate_key(2048, {"kid": "enc", "use": "enc"})
NO_KEYS = [{"kty": "oct", "k": "AAAA", "kid": "oct"}, 7, {}]
KEYS = [RSA, EC, ED, ENCRYPTING]


def claims(**changes):
    now = int(time.time())
    given = {"iss": URL, "aud": AUDIENCE, "exp": now + 600, "iat": now, "sub": "4711", "roles": ["read"]} | changes
    return {name: value for name, value in given.items() if value is not None}


def signed(key=RSA, alg="RS256", header=(), **changes):
    registry = JWSRegistry(algorithms=[alg], strict_check_header=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the name EdDSA
        return jwt.encode(
            {"alg": alg, "kid": key.get("kid"), **dict(header)}, claims(**changes), key, registry=registry
        )


def published(keys=KEYS, issuer=URL, where="https://id.example/keys"):
    """A fetch that answers from memory; ``.asked`` are the addresses."""
    documents = {
        f"{issuer}/.well-known/openid-configuration": {"issuer": issuer, "jwks_uri": where},
        where: {
            "keys": [key.as_dict(private=False) for key in keys] + [{"kty": "oct", "k": "AAAA", "kid": "oct"}, 7, {}]
        },
    }

    async def fetch(url):
        fetch.asked.append(url)
        if fetch.down:
            raise OSError("no route to host")
        return documents[url]

    fetch.asked, fetch.down, fetch.documents = [], False, documents
    return fetch


def caller(token, issuer=None):
    return asyncio.run((issuer or Issuer(URL, AUDIENCE, fetch=published())).caller(token))


@pytest.mark.parametrize(
    ("key", "alg"), [(RSA, "RS256"), (RSA, "PS384"), (RSA, "RS512"), (EC, "ES256"), (ED, "EdDSA"), (ED, "Ed25519")]
)  # fmt: skip
def test_what_the_issuer_signed_for_us_is_taken(key, alg, recwarn):
    assert caller(signed(key, alg)) == Caller("4711", frozenset({READ}))
    assert not recwarn.list


def test_times_and_audiences_that_fit_are_taken():
    now = int(time.time())
    differing = ({"nbf": now + 20}, {"exp": now - 20})  # clocks do
    for changes in ({"aud": [AUDIENCE, "other"]}, {"nbf": now - 10}, {"iat": None}, *differing):
        assert caller(signed(**changes)).name == "4711", changes


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"iss": URL + "/"},
        {"iss": [URL]},
        {"iss": None},
        {"aud": "another"},
        {"aud": ["another"]},
        {"aud": []},
        {"aud": {"x": AUDIENCE}},
        {"aud": None},
        {"exp": 1_700_000_000},
        {"exp": None},
        {"exp": "never"},
        {"exp": True},
        {"exp": float("nan")},
        {"exp": float("inf")},
        {"nbf": 4e9},
        {"nbf": "x"},
        {"sub": None},
        {"sub": ""},
    ],
    ids=str,
)
def test_claims_that_do_not_fit_are_refused(changes):
    assert caller(signed(**changes)) is None


def forged(header, secret=None):
    """A token with this header; without a signature, or with HMAC and this secret."""
    parts = (json.dumps(part).encode() for part in (header, claims()))
    text = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    signature = hmac.new(secret, text.encode(), "sha256").digest() if secret else b""
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_nobody_signs_with_what_is_public():
    for secret in (None, b"", RSA.as_pem(private=False), b"\0\0\0"):
        for kid in ("rsa", "oct", "new", None):
            assert caller(forged({"alg": "HS256", "kid": kid}, secret)) is None
    for alg in ("none", "None", "NONE", "", None, ["none"], 7, "RS1", "A128KW", "dir", "RS256", "ES256"):
        for kid in ("rsa", None):
            assert caller(forged({"alg": alg, "kid": kid})) is None


def test_another_key_is_refused_whatever_the_header_says_of_it():
    own = STRANGER.as_dict(private=False)
    for header in ({}, {"jwk": own}, {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example/"}):
        fetch = published()
        assert caller(signed(STRANGER, header=header), Issuer(URL, AUDIENCE, fetch=fetch)) is None
        assert all(url.startswith("https://id.example/") for url in fetch.asked)


def test_a_key_is_used_for_its_own_algorithm_only():
    signing = RSAKey.import_key({**ENCRYPTING.as_dict(private=True), "use": "sig"})
    assert caller(signed(signing)) is None, "it is published, for encryption"
    bound = published([RSAKey.import_key(RSA.as_dict(private=True) | {"alg": "RS512"})])
    assert caller(signed(RSA, "RS256"), Issuer(URL, AUDIENCE, fetch=bound)) is None
    assert caller(signed(RSA, "RS512"), Issuer(URL, AUDIENCE, fetch=bound)).name == "4711"
    assert caller(signed(EC, "ES256", header={"kid": "rsa"})) is None


def test_what_is_changed_or_no_token_is_refused():
    whole = signed()
    head, body, signature = whole.split(".")
    other = signed(roles=["admin"]).split(".")[1]
    near = [
        f"{head}.{other}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}.{signature[:-4]}AAAA",
        f".{body}.{signature}",
    ]
    near += [f"{head}..{signature}", f"{head}.{body}.{signature}.x", "..", "a.b.c", "[[.[[.[[", f"{'W' * 8000}.a.b"]
    for token in near:
        assert caller(token) is None, token


def test_roles_come_from_the_claim_that_is_named():
    def roles(name, **given):
        return caller(signed(roles=None, **given), Issuer(URL, AUDIENCE, name, published())).roles

    assert roles("groups", groups=["write", "x"]) == {WRITE}
    assert roles("scope", scope="openid read write") == {READ, WRITE}
    assert roles("realm_access.roles", realm_access={"roles": ["admin"]}) == {ADMIN}
    assert roles("https://ours/roles", **{"https://ours/roles": ["read"]}) == {READ}
    for value in (None, 7, {"read": 1}, [["read"]], "readers", ["READ"], True):
        assert roles("groups", groups=value) == frozenset()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"preferred_username": "ann"}, "ann"),
        ({"email": "ann@x"}, "ann@x"),
        ({"preferred_username": "a\nb\x1b"}, "a?b?"),
    ],
)
def test_the_name_is_that_of_the_person(given, name):
    assert caller(signed(**given)).name == name


# --- keys


class Clock:
    now = 1_000.0

    def __call__(self):
        return self.now


def test_a_new_key_is_fetched_and_unknown_ones_cause_no_flood():
    async def run():
        fetch, clock = published([RSA]), Clock()
        issuer = Issuer(URL, AUDIENCE, fetch=fetch, clock=clock)
        assert await issuer.caller(signed()) and len(fetch.asked) == 2
        fetch.documents["https://id.example/keys"] = {"keys": [EC.as_dict(private=False)]}
        for _ in range(100):
            assert await issuer.caller(signed(EC, "ES256")) is None
        assert len(fetch.asked) == 2
        clock.now += oidc.RETRY_S
        found = await asyncio.gather(*(issuer.caller(signed(EC, "ES256")) for _ in range(10)))
        assert all(found) and len(fetch.asked) == 4
        assert await issuer.caller(signed()) is None, "a key that was withdrawn"

    asyncio.run(run())


def test_an_issuer_that_is_down_is_said_to_be_and_taken_when_it_answers(caplog):
    async def run():
        fetch, clock = published(), Clock()
        issuer = Issuer(URL, AUDIENCE, fetch=fetch, clock=clock)
        fetch.down = True
        for _ in range(5):
            with pytest.raises(Unreachable):
                await issuer.caller(signed())
        assert len(fetch.asked) == 1 and "no route to host; its tokens are refused until it answers" in caplog.text
        fetch.down = False
        clock.now += oidc.RETRY_S
        assert await issuer.caller(signed())
        fetch.down = True
        clock.now += oidc.REFRESH_S + 1
        assert await issuer.caller(signed()), "keys that are known stay"
        assert len(fetch.asked) == 3, "nobody waits for it"
        await issuer._renewing
        assert len(fetch.asked) == 4 and "its keys stay" in caplog.text
        assert await issuer.caller(signed())

    asyncio.run(run())


@pytest.mark.parametrize(
    ("documents", "what"),
    [
        ({"issuer": "https://other"}, "must call itself"),
        ({"issuer": URL, "jwks_uri": "http://id.example/keys"}, "jwks_uri: expected https"),
        ({"issuer": URL, "jwks_uri": "file:///etc/passwd"}, "jwks_uri: expected https"),
        ({"issuer": URL}, "jwks_uri: expected https"),
        ([], "must call itself"),
    ],
)
def test_an_issuer_that_says_something_else_is_not_believed(documents, what, caplog):
    async def fetch(url):
        return documents

    with pytest.raises(Unreachable):
        caller(signed(), Issuer(URL, AUDIENCE, fetch=fetch))
    assert what in caplog.text


@pytest.mark.parametrize("keys", [[], None, [{"kty": "oct", "k": "AAAA"}], [{"kty": "RSA", "n": "x"}], {"a": 1}])
def test_keys_that_are_none_are_not_taken(keys, caplog):
    fetch = published()
    fetch.documents["https://id.example/keys"] = {"keys": keys}
    with pytest.raises(Unreachable):
        caller(signed(), Issuer(URL, AUDIENCE, fetch=fetch))
    assert "no keys from" in caplog.text


# --- over the network


@asynccontextmanager
async def server(**answers):
    app = web.Application()
    for name, answer in answers.items():
        app.router.add_get(f"/{name}", answer)
    app.router.add_get("/realm/.well-known/openid-configuration", answers.get("about", answers.get("any")))
    async with TestServer(app) as running:
        yield str(running.make_url("/")).rstrip("/")


def test_keys_are_fetched_from_a_server():
    async def about(request):
        base = f"http://{request.host}"
        return web.json_response({"issuer": f"{base}/realm", "jwks_uri": f"{base}/keys"})

    async def keys(request):
        return web.json_response({"keys": [RSA.as_dict(private=False)]})

    async def run():
        async with server(about=about, keys=keys) as base:
            issuer = Issuer(f"{base}/realm", AUDIENCE)
            assert (await issuer.caller(signed(iss=f"{base}/realm"))).name == "4711"
            assert await issuer.caller(signed()) is None

    asyncio.run(run())


def test_the_server_takes_them_beside_its_own_tokens(tmp_path):
    keys, up = Keys(tmp_path), True

    async def about(request):
        base = f"http://{request.host}"
        return web.json_response({"issuer": f"{base}/realm", "jwks_uri": f"{base}/keys"} if up else {})

    async def published_keys(request):
        return web.json_response({"keys": [RSA.as_dict(private=False)]})

    async def run():
        nonlocal up
        async with server(about=about, keys=published_keys) as base:
            issuer = f"{base}/realm"

            def started():
                made = make_server(tokens_file=str(keys.path), oidc_issuer=issuer, oidc_audience=AUDIENCE)
                return TestClient(TestServer(made.application()), cookie_jar=CookieJar(unsafe=True))

            def bearer(token):
                return {"Authorization": f"Bearer {token}"}

            async def status(client, token):
                async with client.get("/api/sources", headers=bearer(token)) as answer:
                    return answer.status, answer.headers.get("Retry-After")

            up = False
            async with started() as client:
                assert await status(client, signed(iss=issuer)) == (503, "10")
                assert await status(client, keys["read"]) == (200, None)
                assert await status(client, keys["revoked"]) == (401, None)
            up = True
            async with started() as client:
                assert await status(client, signed(iss=issuer)) == (200, None)
                assert await status(client, signed(iss=issuer, roles=["write"])) == (403, None)
                assert await status(client, signed(iss=issuer, roles=None)) == (403, None)
                assert await status(client, signed(iss=issuer, aud="other")) == (401, None)
                async with client.post("/api/session", json={"token": signed(iss=issuer)}) as answer:
                    assert (await answer.json())["name"] == "4711"
                async with client.get("/api/sources") as answer:
                    assert answer.status == 200
                async with client.post("/api/session", json={"token": signed(iss=issuer, more="x" * 3_000)}) as answer:
                    assert answer.status == 422

    asyncio.run(run())


def test_what_is_no_json_or_too_long_is_refused(monkeypatch):
    monkeypatch.setattr(oidc, "MOST_BYTES", 1_000)

    async def text(request):
        return web.Response(text="<html>")

    async def much(request):
        return web.Response(text="[" + "1," * 1_000 + "1]")

    async def elsewhere(request):
        raise web.HTTPFound("https://evil.example/")

    async def run():
        async with server(any=text, much=much, elsewhere=elsewhere) as base:
            for path, what in (("any", "expected JSON"), ("much", "at most 1000"), ("elsewhere", "expected status 200"),
                               ("none", "got 404")):  # fmt: skip
                with pytest.raises(ValueError, match=what):
                    await get_json(f"{base}/{path}")

    asyncio.run(run())


@pytest.mark.parametrize(
    "url", ["http://id.example/", "http://127.0.0.1.evil.example/", "ftp://127.0.0.1/", "https://", ""]
)
def test_keys_are_fetched_over_tls_or_from_here(url):
    assert not is_safe(url)
