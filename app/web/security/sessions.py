"""The cookie by which the view's pages say who looks.

It holds the token itself: nothing is kept here, so any worker behind a load balancer takes it, and it is worth nothing
as soon as the token is revoked. Scripts cannot read it, browsers send it from our own pages only, and over TLS only
where it came over TLS. What changes something must also carry the CSRF token, which only our own pages can have asked
for.
"""

import hashlib
import hmac

from aiohttp import web

from app.web.security.clients import Client

NAME = "fa_token"
CSRF_HEADER = "X-CSRF-Token"
LONGEST = 3_800  # characters: browsers drop cookies of more than 4096 bytes


def cookie_name(client: Client) -> str:
    """The prefixes make browsers refuse such a cookie from another host, or one that came without TLS."""
    if not client.secure:
        return NAME
    return f"__Secure-{NAME}" if client.prefix else f"__Host-{NAME}"


def token_in(request: web.BaseRequest, client: Client) -> str | None:
    """The token of its cookie; None without one, or with several: one of them was put there by somebody else."""
    name, found = cookie_name(client), []
    for header in request.headers.getall("Cookie", ()):
        for part in header.split(";"):
            key, is_one, value = part.strip().partition("=")
            if is_one and key == name:
                found.append(value)
    return found[0] if len(found) == 1 else None


def keep(response: web.StreamResponse, client: Client, token: str) -> None:
    """Give the browser the cookie, until it is closed."""
    _set(response, client, token, max_age=None)


def drop(response: web.StreamResponse, client: Client) -> None:
    """Take it back."""
    _set(response, client, "", max_age=0)


def _set(response: web.StreamResponse, client: Client, token: str, max_age: int | None) -> None:
    response.set_cookie(
        cookie_name(client),
        token,
        path=client.prefix or "/",
        max_age=max_age,
        httponly=True,
        secure=client.secure,
        samesite="Strict",
    )


def csrf_token(token: str) -> str:
    """What a page sends as X-CSRF-Token: made of the token, by anybody who has it."""
    return hmac.new(token.encode("utf-8", "surrogateescape"), b"faust-anomaly csrf", hashlib.sha256).hexdigest()


def csrf_fits(request: web.BaseRequest, token: str) -> bool:
    given = request.headers.getall(CSRF_HEADER, ())
    return len(given) == 1 and hmac.compare_digest(
        given[0].encode("utf-8", "surrogateescape"), csrf_token(token).encode()
    )
