"""The state of the sources of one partition, in rows."""

from __future__ import annotations


class Sources:
    """Source -> slot (a row that never moves). Made by ``Pipeline.sources()``."""

    names: list[str]  # by slot

    def slot(self, source: str) -> int:
        """The source's slot; a new one, empty, at first sight."""
        raise NotImplementedError

    def find(self, source: str) -> int | None:
        """The source's slot, or None when it has none."""
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    @property
    def warming_up(self) -> int:
        """Sources whose last point was scored by no detector yet."""
        raise NotImplementedError

    @property
    def nbytes(self) -> int:
        """Bytes of the rows held (models of adapters not counted)."""
        raise NotImplementedError
