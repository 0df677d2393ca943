"""Places where a test may kill the process: between two steps of the commit protocol.

``FAUST_ANOMALY_FAILPOINT=results_acked:3`` kills this process with SIGKILL the third time it reaches
``results_acked``. Unset, which is always so outside tests, nothing here does anything.
"""

import os
import signal

NAMES = (
    "results_half_sent",
    "results_acked",
    "snapshots_half_sent",
    "snapshots_acked",
    "in_recovery",
    "before_commit",
)

_name, _, _nth = os.environ.get("FAUST_ANOMALY_FAILPOINT", "").partition(":")
_left = int(_nth or 1)
if _name and _name not in NAMES:
    raise SystemExit(f"FAUST_ANOMALY_FAILPOINT must be one of {', '.join(NAMES)}, got {_name!r}")


def due(name: str) -> bool:
    """The next ``reach(name)`` will not return."""
    return name == _name and _left == 1


def reach(name: str) -> None:
    """Count one visit; die on the visit that was asked for."""
    global _left
    if name != _name:
        return
    _left -= 1
    if _left == 0:
        os.write(2, f"failpoint {name}: killing {os.getpid()}\n".encode())
        os.kill(os.getpid(), signal.SIGKILL)
