"""The cursor of a page of episodes: when the last one opened, and its id. Needs no database."""

from __future__ import annotations

import base64
import binascii

import msgspec

from app.errors import AnomalyError


class BadCursor(AnomalyError):
    """A cursor that no page had. The request is refused."""


def encode(opened_at: float, name: str) -> str:
    """Text that a URL can hold."""
    return base64.urlsafe_b64encode(msgspec.json.encode([opened_at, name])).decode()


def decode(cursor: str) -> tuple[float, str]:
    """Raises BadCursor."""
    try:
        text = base64.b64decode(cursor.encode(), b"-_", validate=True)
        return msgspec.json.decode(text, type=tuple[float, str])
    except (binascii.Error, UnicodeError, msgspec.DecodeError) as error:
        raise BadCursor(f"cursor: expected the cursor of an earlier page, got {cursor[:80]!r}") from error
