"""Failpoints: places between two steps of the commit protocol where a test may kill or suspend the process.

``FAUST_ANOMALY_FAILPOINT=results_acked:3`` kills this process with SIGKILL the third time it reaches
``results_acked``; ``results_acked:3:stop`` stops it there with SIGSTOP, and SIGCONT makes it go on. Unset, which is
always so outside tests, nothing here does anything.
"""

import os
import signal

NAMES = (
    "computed",  # state has advanced, nothing is sent yet
    "dead_letters_acked",  # dead letters and episodes are acknowledged, no result is sent
    "results_half_sent",  # half of them acknowledged
    "results_sent",
    "results_acked",
    "snapshots_half_sent",  # half of them acknowledged
    "snapshots_sent",  # tombstones are not sent yet
    "snapshots_acked",
    "before_commit",
    "after_commit",
    "in_recovery",
    "recovered",  # nothing is read yet
    "suppressing",  # a batch of which an earlier owner emitted some
    "draining_revoked",  # snapshots are in flight
    "draining_stopping",
)
OF_REKEY = (  # in the hop of input.rekey
    "rekey_read",  # nothing is sent
    "rekey_half_sent",  # to half of the partitions by source, and acknowledged
    "rekey_sent",
    "rekey_acked",  # and not committed
)

_name, _, _rest = os.environ.get("FAUST_ANOMALY_FAILPOINT", "").partition(":")
_nth, _, _how = _rest.partition(":")
_left = int(_nth or 1)
_every = (*NAMES, *OF_REKEY)
if _name and (_name not in _every or _how not in ("", "stop")):
    raise SystemExit(f"FAUST_ANOMALY_FAILPOINT must be NAME[:NTH[:stop]], NAME of {', '.join(_every)}, got {_name!r}")


def due(name: str) -> bool:
    """The next ``reach(name)`` will kill or suspend the process."""
    return name == _name and _left == 1


def reach(name: str) -> None:
    """Count one visit; kill or suspend the process at the visit that was asked for."""
    global _left
    if name != _name:
        return
    _left -= 1
    if _left == 0:
        os.write(2, f"failpoint {name}: {'stopping' if _how else 'killing'} {os.getpid()}\n".encode())
        os.kill(os.getpid(), signal.SIGSTOP if _how else signal.SIGKILL)
