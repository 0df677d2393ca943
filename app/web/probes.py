"""What the worker says about itself, for probes and the page's header."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Health:
    """``alive`` False: restart me. ``ready`` False: still recovering, or without partitions.

    ``details`` are JSON values for a human, such as {"recovering": "3 of 8 partitions"}; no secrets.
    """

    alive: bool
    ready: bool
    details: dict[str, Any] = field(default_factory=dict)


Check = Callable[[], Health]
