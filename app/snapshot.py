"""The state of one source <-> bytes that name themselves. No pickle."""

from __future__ import annotations

from app.sources import Sources


def dumps(sources: Sources, slot: int, offset: int) -> bytes:
    """The source in ``slot``, with every record up to and including ``offset`` learned."""
    raise NotImplementedError


def loads(sources: Sources, data: bytes) -> tuple[int, int]:
    """Put a snapshot into its source's slot (made when there is none): (slot, covered offset).

    What the present settings do not know, or know differently, starts anew. StateError when damaged.
    """
    raise NotImplementedError


def peek(data: bytes) -> tuple[str, int]:
    """(source, covered offset) after checking the whole snapshot; StateError when damaged."""
    raise NotImplementedError
