"""The health of a process, for probes and the header of pages."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Health:
    """``alive`` False: restart me. ``ready`` False: not in the group, still recovering, or the group does not answer.

    ``details`` are JSON values for a human, such as {"partitions": [0, 3]}; no secrets.
    """

    alive: bool
    ready: bool
    details: dict[str, Any] = field(default_factory=dict)


def not_ready(recovered: bool, partitions: int, answers: bool, commit_age_s: float, limit_s: float) -> str | None:
    """Why a worker is not ready, None when it is.

    Parameters
    ----------
    recovered
        It is in the group, no rebalance is going on, and the state of its partitions is recovered.
    partitions
        How many are assigned to it; a worker without any waits in the group, ready to take over.
    answers
        The group's coordinator is known, and answered the last heartbeat.
    commit_age_s, limit_s
        Seconds since the last accepted commit, and their limit. A worker without partitions commits nothing.

    Examples
    --------
    >>> not_ready(True, 4, True, 1.0, 10.0) is None
    True
    >>> not_ready(True, 4, True, 12.0, 10.0)
    'the group took no commit for 12 s'
    """
    if not answers:
        return "the group does not answer"
    if not recovered:
        return "joining the group, or recovering state"
    if partitions and commit_age_s >= limit_s:
        return f"the group took no commit for {commit_age_s:.0f} s"
    return None


Check = Callable[[], Health]
