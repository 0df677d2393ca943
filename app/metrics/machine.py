"""The memory limit of this process and the expiry of its certificates, for metrics."""

import os
from pathlib import Path

_UNLIMITED = 1 << 60  # version 1 of control groups writes a number near 2^63 where there is no limit


def memory_limit_bytes(root: Path = Path("/")) -> float:
    """Memory that this process can have: the least of its control groups' limits and of the machine; NaN if unknown.

    A container sees its own control group as the root of the tree, a service of systemd sees its path in it: so all
    parent folders are read. ``root``: where proc and sys are.
    """
    limits = [_total(root / "proc/meminfo")]
    for line in _lines(root / "proc/self/cgroup"):  # 0::/system.slice/x.service, or 9:memory:/docker/ab
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        whole = os.path.normpath("/" + path.lstrip("/"))  # .. where the group is outside of the container
        own = Path(whole).relative_to("/")
        limits += [_number(top / folder / name) for folder in (own, *own.parents)]
    known = [one for one in limits if one is not None and one < _UNLIMITED]
    return float(min(known, default=float("nan")))


def certificate_end(path: Path) -> float:
    """Epoch seconds after which the first certificate of a PEM file to expire is not good any more.

    Raises OSError, ValueError.
    """
    from cryptography import x509  # here: it takes 50 ms, and most processes have no certificate

    return min(one.not_valid_after_utc.timestamp() for one in x509.load_pem_x509_certificates(path.read_bytes()))


def free_bytes(path: Path) -> float:
    """Of the file system that has this file or folder, or will have it, for users that are not root; NaN if unknown."""
    for folder in (path, *path.parents):
        try:
            found = os.statvfs(folder)
        except FileNotFoundError:
            continue
        except (OSError, AttributeError):  # Windows has no statvfs
            break
        return float(found.f_bavail * found.f_frsize)
    return float("nan")


def _total(meminfo: Path) -> int | None:
    for line in _lines(meminfo):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) << 10  # kB
    return None


def _number(path: Path) -> int | None:
    text = next(iter(_lines(path)), "")
    return int(text) if text.isdecimal() else None  # "max": no limit


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text("ascii").splitlines()
    except (OSError, ValueError):
        return []
