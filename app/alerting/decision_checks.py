"""Checks of new acknowledgements, feedback and silences: the same for the command line and the API."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from uuid import uuid4

import msgspec

from app.alerting.matchers import Matchers
from app.errors import AnomalyError, ConfigurationError
from app.wire.decisions import Silence

MAX_TEXT = 1000  # characters of a comment or a name
MOST_MATCHERS = 100  # of up to MAX_TEXT characters, and together
MOST_CHARACTERS = 10_000
LONGEST_SILENCE_S = 10 * 365 * 86_400.0
# topic:partition:offset:index; the index of episodes without points: see app/alerting/silent_sources.py
EPISODE = r"[a-zA-Z0-9._-]{1,249}(:[0-9]{1,19}){2}:([0-9]{1,19}|silent(-[0-9a-f]{16})?|external-[0-9a-f]{16})"


class BadDecision(AnomalyError):
    """A decision is refused. ``field``: the wrong field; ``str()``: what was expected."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


def checked_episode(name: str) -> str:
    """The id of an episode, which need not exist. Raises BadDecision."""
    if not re.fullmatch(EPISODE, name):
        raise BadDecision("episode", f"expected the id of an episode, topic:partition:offset:index, got {name[:300]!r}")
    return name


def checked_text(field: str, text: str, required: bool = False) -> str:
    """A name (``required``) or a comment. Raises BadDecision."""
    text = text.encode(errors="replace").decode()  # arguments of a command need not be UTF-8
    if len(text) > MAX_TEXT or (required and not text.strip()):
        raise BadDecision(field, f"expected 1 to {MAX_TEXT} characters, got {len(text)}")
    return text


def new_silence(texts: Sequence[str], now: float, ends_at: float, by: str, comment: str) -> Silence:
    """A new silence that begins now. Raises BadDecision."""
    if not math.isfinite(ends_at) or not now < ends_at <= now + LONGEST_SILENCE_S:
        raise BadDecision("ends_at", "a silence must end later than now, and within ten years")
    if any(len(one) > MAX_TEXT for one in texts) or sum(map(len, texts)) > MOST_CHARACTERS:
        raise BadDecision("matchers", f"expected at most {MAX_TEXT} characters each, {MOST_CHARACTERS} in all")
    try:
        matchers = Matchers.of([one.encode(errors="replace").decode() for one in texts])
    except ConfigurationError as error:
        raise BadDecision("matchers", str(error)) from error
    if len(matchers.each) > MOST_MATCHERS:
        raise BadDecision("matchers", f"expected at most {MOST_MATCHERS}, got {len(matchers.each)}")
    if matchers.matches({}):
        raise BadDecision("matchers", f"a silence must have a matcher that does not match everything, got {matchers}")
    return Silence(uuid4().hex[:12], [str(each) for each in matchers.each], now, ends_at, by, comment)


def ended(one: Silence, now: float) -> Silence:
    """The same silence, ended now."""
    return msgspec.structs.replace(one, starts_at=min(one.starts_at, now), ends_at=now)
