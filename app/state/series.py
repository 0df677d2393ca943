"""The name of a series: its source, or its source and the one metric that its points name, as one text.

The two are joined by the byte 0xFF, which no text in UTF-8 contains, so no two series have the same name, with any
characters in their sources and metrics, and the name of a source alone is the source. As text that byte is the lone
surrogate by which Python represents it (PEP 383), which no decoded text contains either.
"""

from __future__ import annotations

from app.settings.paths import MAX_METRIC_BYTES

MAX_SOURCE_BYTES = 256
MAX_SERIES_BYTES = MAX_SOURCE_BYTES + 1 + MAX_METRIC_BYTES
BETWEEN, BETWEEN_AS_TEXT = b"\xff", "\udcff"


def joined(source: str, metric: str) -> str:
    """The name of a series; without a metric it is the source.

    >>> to_bytes(joined("host-7", "cpu")), to_bytes(joined("host-7", ""))
    (b'host-7\\xffcpu', b'host-7')
    """
    return f"{source}{BETWEEN_AS_TEXT}{metric}" if metric else source


def parted(series: str) -> tuple[str, str]:
    """Source and metric; "" for a series without one.

    >>> parted(joined("host-7", "cpu")), parted("host-7")
    (('host-7', 'cpu'), ('host-7', ''))
    """
    source, _, metric = series.partition(BETWEEN_AS_TEXT)
    return source, metric


def to_bytes(series: str) -> bytes:
    return series.encode("utf-8", "surrogateescape")


def from_bytes(data: bytes) -> str:
    """The reverse of ``to_bytes``. Raises UnicodeDecodeError for other bytes."""
    source, _, metric = data.partition(BETWEEN)
    return joined(source.decode(), metric.decode()) if source and metric else data.decode()


def from_any_bytes(data: bytes) -> str:
    """The same, and some text for bytes that are no name."""
    return data.decode("utf-8", "surrogateescape")


def shown(series: str) -> str:
    """For messages.

    >>> print(shown(joined("host-7", "cpu")), "and", shown("host-7"))
    series 'cpu' of source 'host-7' and source 'host-7'
    """
    source, metric = parted(series)
    return f"series {metric!r} of source {source!r}" if metric else f"source {source!r}"
