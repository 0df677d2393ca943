"""State of the episodes that other programs report, between two reports.

These are records of the topic of decisions, which every server reads, so the reports of one anomaly may come to any
server. One record for each source, metric and type of anomaly; the last one counts.
"""

from __future__ import annotations

from hashlib import sha256

import msgspec

from app.errors import StateError
from app.state import series

PREFIX = "external/"  # of the keys


class External(msgspec.Struct, tag_field="decision", tag="external", omit_defaults=True):
    """The last episode of one source, metric and type. Times are epoch seconds."""

    source: str
    metric: str  # "" if it is of the source itself
    anomaly_type: str
    number: int  # of the episode: later ones have higher numbers
    opened_at: float
    timestamp: float  # of the last report
    heard_at: float  # when that came, by the server's clock
    points: int  # reports of it so far, at least
    peak_score: float
    told_at: float  # timestamp of the last event
    told: int = 1  # events of it so far
    closed: bool = False
    by: str = ""  # who reports it

    @property
    def name(self) -> str:
        return name(self.source, self.metric, self.anomaly_type)

    @property
    def key(self) -> str:
        return PREFIX + self.name

    @property
    def episode(self) -> str:
        """Its id, in the form of all episodes: topic:partition:offset:index."""
        return f"external:0:{self.number}:external-{self.name}"


def name(source: str, metric: str, anomaly_type: str) -> str:
    """One for each source, metric and type."""
    return sha256("\0".join((source, metric, anomaly_type)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def record_key(episode: str) -> bytes:
    """Key of its events in the topic of anomalies: the same for all episodes of source, metric and type."""
    return series.to_bytes(thread(episode))


def thread(episode: str) -> str:
    """In the form of a series name, which no source can have."""
    return series.joined("", episode.rpartition(":")[2])


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(External).decode


def encode(external: External) -> bytes:
    return _encode(external)


def decode(record: bytes) -> External:
    """Raises StateError if it is not such a state."""
    try:
        return _decode(record)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"expected an episode of another program, got {record[:80]!r}: {error}") from error


def is_key(key: bytes | None) -> bool:
    """Whether a record of the topic of decisions is one of these."""
    return key is not None and key.startswith(PREFIX.encode())
