"""Limits as Linux writes them: in containers, in services, on machines without any."""

import math

import pytest

from app.metrics.machine import free_bytes, memory_limit_bytes

MACHINE = {"proc/meminfo": "MemTotal:        8000000 kB\nMemFree: 100 kB\n"}
OF_MACHINE = 8_000_000 << 10
SERVICE = {"proc/self/cgroup": "0::/system.slice/faust-anomaly.service\n"}


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, math.nan),
        (MACHINE, OF_MACHINE),
        (MACHINE | {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "536870912\n"}, 512 << 20),
        (MACHINE | {"proc/self/cgroup": "0::/../../a\n", "sys/fs/cgroup/memory.max": "536870912\n"}, 512 << 20),
        (MACHINE | {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, OF_MACHINE),
        (MACHINE | SERVICE | {"sys/fs/cgroup/system.slice/memory.max": "1000\n"}, 1000),
        (
            MACHINE | SERVICE | {
                "sys/fs/cgroup/system.slice/memory.max": "3000\n",
                "sys/fs/cgroup/system.slice/faust-anomaly.service/memory.max": "2000\n",
            },
            2000,
        ),
        (
            MACHINE | {
                "proc/self/cgroup": "12:cpu:/docker/ab\n9:memory:/docker/ab\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "4000\n",  # as the container sees it
            },
            4000,
        ),
        (
            MACHINE | {
                "proc/self/cgroup": "9:memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",  # none
            },
            OF_MACHINE,
        ),
    ],
)  # fmt: skip
def test_the_least_limit_counts(tmp_path, files, limit):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert memory_limit_bytes(tmp_path) == pytest.approx(limit, abs=0, nan_ok=True)


def test_space_is_that_of_the_folder_that_will_have_the_file(tmp_path):
    free = free_bytes(tmp_path / "not" / "yet" / "there.db")
    assert 0 < free == pytest.approx(free_bytes(tmp_path), rel=0.2)
