"""Bearer tokens of an OpenID Connect issuer: JWTs, checked against the keys that the issuer publishes.

The keys are fetched when the first such token comes, and again each hour and when a token names an unknown key; at most
once in `RETRY_S`, for any tokens that are sent to us. An issuer that does not answer takes
nothing away from keys that are known. Import this only where an issuer is set: joserfc takes .15 s of a start.
"""

import asyncio
import base64
import json
import logging
import time
import warnings
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

from aiohttp import ClientError, ClientSession, ClientTimeout
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import Key, import_key
from joserfc.jws import JWSRegistry

from app.web.security.roles import ROLES, Caller, Unreachable

# Signatures that need the issuer's private key. Neither none nor HS*: who knows the public key could sign with it.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
KEY_TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
LEEWAY_S = 30  # clocks differ
REFRESH_S, RETRY_S = 3_600.0, Unreachable.RETRY_S
TIMEOUT_S, MOST_BYTES = 5.0, 1 << 20

log = logging.getLogger(__name__)
Fetch = Callable[[str], Awaitable[Any]]


def is_safe(url: str) -> bool:
    """Whether keys may be fetched from there: over TLS, or from this machine.

    >>> [is_safe(url) for url in ("https://id.example/keys", "http://127.0.0.1:80/", "http://id.example/", "file:///x")]
    [True, True, False, False]
    """
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in ("127.0.0.1", "localhost", "::1"))
    )


class Issuer:
    """``url``: as in the claim iss. ``roles_claim``: a claim, or the path of one: the roles, as a list or a text."""

    def __init__(
        self,
        url: str,
        audience: str,
        roles_claim: str = "roles",
        fetch: Fetch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url, self._audience, self._roles_claim = url, audience, roles_claim
        self._fetch, self._clock = fetch or get_json, clock
        self._keys: list[Key] = []
        self._fetched_at: float | None = None  # the last success
        self._tried_at: float | None = None
        self._fetching = asyncio.Lock()
        self._renewing: asyncio.Task[None] | None = None
        self._registry = JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)
        self._claims = jwt.JWTClaimsRegistry(
            leeway=LEEWAY_S,
            iss={"essential": True, "value": url},
            aud={"essential": True, "value": audience},
            exp={"essential": True},
        )

    @staticmethod
    def takes(token: str) -> bool:
        """Whether this could be a token of an issuer, a JWT; none of ours has a dot."""
        return token.count(".") == 2

    async def caller(self, token: str) -> Caller | None:
        """Whose it is; None of one that is not valid here.

        Raises
        ------
        Unreachable
            Nothing can be said of it now.
        """
        header = _header(token)
        alg, kid = header.get("alg"), header.get("kid")
        if alg not in ALGORITHMS or "crit" in header or not isinstance(kid, str | None):
            return None
        if self._fetched_at is None:
            await self._refresh()
        elif self._clock() - self._fetched_at > REFRESH_S and (self._renewing is None or self._renewing.done()):
            self._renewing = asyncio.create_task(self._refresh())  # nobody waits for it: the keys are known
        if self._fetched_at is None:
            raise Unreachable
        if not (keys := self._fitting(alg, kid)):
            await self._refresh()
            keys = self._fitting(alg, kid)
        for key in keys:
            if (claims := self._checked(token, key)) is not None:
                return self._named(claims)
        return None

    def _fitting(self, alg: str, kid: str | None) -> list[Key]:
        return [
            key
            for key in self._keys
            if key.key_type == KEY_TYPES[alg[:2]]
            and (kid is None or key.get("kid") == kid)
            and key.get("use") in (None, "sig")
            and key.get("alg") in (None, alg)
        ][:10]

    def _checked(self, token: str, key: Key) -> dict[str, Any] | None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # EdDSA is to be called Ed25519; issuers call it so
                claims = jwt.decode(token, key, registry=self._registry).claims
            self._claims.validate(claims)
        except (JoseError, ValueError, TypeError, OverflowError, RecursionError):
            return None
        return claims

    def _named(self, claims: dict[str, Any]) -> Caller | None:
        names = (claims.get(one) for one in ("preferred_username", "email", "sub"))
        name = next((one for one in names if isinstance(one, str) and one), None)
        if name is None:
            return None
        given = claims.get(self._roles_claim)
        if given is None:  # a path, as Keycloak's realm_access.roles
            given = claims
            for part in self._roles_claim.split("."):
                given = given.get(part) if isinstance(given, dict) else None
        values = given.split() if isinstance(given, str) else given if isinstance(given, list) else []
        held = {one for one in values if isinstance(one, str)}
        plain = "".join(sign if sign.isprintable() else "?" for sign in name[:128])
        return Caller(plain, frozenset(held & set(ROLES)))

    async def _refresh(self) -> None:
        """Fetch the keys, if that was not tried just now."""
        async with self._fetching:
            if self._tried_at is not None and self._clock() - self._tried_at < RETRY_S:
                return
            self._tried_at = self._clock()
            try:
                self._keys = await self._get_keys()
                self._fetched_at = self._clock()
            except (ClientError, OSError, TimeoutError, ValueError) as error:
                what = "its tokens are refused until it answers" if self._fetched_at is None else "its keys stay"
                log.warning("api.oidc_issuer: no keys from %s: %s; %s", self._url, str(error) or repr(error), what)

    async def _get_keys(self) -> list[Key]:
        about = await self._fetch(self._url.rstrip("/") + "/.well-known/openid-configuration")
        if not isinstance(about, dict) or about.get("issuer") != self._url:
            found = about.get("issuer") if isinstance(about, dict) else about
            raise ValueError(f"it must call itself {self._url!r}, as in its tokens, got {found!r:.200}")
        where = about.get("jwks_uri")
        if not isinstance(where, str) or not is_safe(where):
            raise ValueError(f"jwks_uri: expected https://.., got {where!r:.200}")
        found = await self._fetch(where)
        given = found.get("keys") if isinstance(found, dict) else None
        if not isinstance(given, list):
            raise ValueError(f"{where}: expected an object with keys")
        keys = [key for one in given[:100] if (key := _key(one))]
        if not keys:
            raise ValueError(f"{where}: no key for any of {', '.join(ALGORITHMS)}")
        return keys


def _header(token: str) -> dict[str, Any]:
    first = token.partition(".")[0]
    try:
        found = json.loads(base64.urlsafe_b64decode(first + "=" * (-len(first) % 4)))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _key(given: Any) -> Key | None:
    """None of one that is for something else, as symmetric keys, or broken."""
    if not isinstance(given, dict) or given.get("kty") not in KEY_TYPES.values():
        return None
    try:
        return import_key(given)
    except (JoseError, ValueError, TypeError, KeyError):
        return None


async def get_json(url: str) -> Any:
    """The JSON at a URL. Raises ClientError, TimeoutError, or ValueError of anything else."""
    async with (
        ClientSession(timeout=ClientTimeout(total=TIMEOUT_S)) as session,
        session.get(url, allow_redirects=False, headers={"Accept": "application/json"}) as answer,
    ):
        if answer.status != 200:
            raise ValueError(f"{url}: expected status 200, got {answer.status}")
        body = bytearray()
        async for part in answer.content.iter_chunked(1 << 16):
            body += part
            if len(body) > MOST_BYTES:
                raise ValueError(f"{url}: expected at most {MOST_BYTES} bytes")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError(f"{url}: expected JSON") from None
