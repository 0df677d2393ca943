"""Measured costs, as ``python -m tests.bench.sizing --write`` writes them to measured.json."""

from __future__ import annotations

from importlib import resources

import msgspec

FILE = "measured.json"


class Cpu(msgspec.Struct, forbid_unknown_fields=True):
    """CPU time of a worker; us: microseconds of one core of the named machine."""

    idle_cores: float  # without a record
    idle_partition_cores: float  # more, for each partition
    view_cores: float  # more, with view, alerting and history, while results come
    batch_cores: float  # of one batch a second, however few records it has, but see ``batch_power``
    batch_power: float  # n batches a second cost batch_cores n ** batch_power, as they share requests,
    partition_power: float  # x (4 / partitions) ** partition_power, for the same reason
    record_us: float  # of a record of one metric, without its detectors and snapshots
    vector_us: float  # more of a record of several metrics
    metric_us: float  # of each further metric of a record
    snapshot_us_kb: float  # of a snapshot, for each kB of it
    tenfold_us: float  # more of a record, for each factor of ten by which a worker has more than 1,000 series
    rekey_us: float  # more of a record, with input.rekey
    rekey_batch_cores: float  # more of a batch then: batch_cores of the batches before the hop
    batches_per_s: float  # most of one partition, while there is time
    rekey_batches_per_s: float  # the same of the topic by source, with input.rekey
    full_batch: float  # records in a batch while more wait than can be scored
    usable_cores: float  # that one worker can use: its busiest thread is the limit


class Restart(msgspec.Struct, forbid_unknown_fields=True):
    """From a start until records are scored: CPU time, which is the time it takes where nothing else runs."""

    start_s: float  # of a process with nothing to recover, its code compiled before
    series_us: float  # of a series that is recovered
    byte_ns: float  # more, of a byte of its snapshot
    replay_us: float  # of a record that is read again


class Memory(msgspec.Struct, forbid_unknown_fields=True):
    base_mb: float  # of a worker without series, probes and metrics served
    libraries_mb: float  # more, with detectors of a library
    view_mb: float  # more, with view, alerting and history: when all of it is full
    series_bytes: float  # of a series beside its rows
    backlog_mb: float  # of a partition, while more records wait than can be scored


class AdapterCost(msgspec.Struct, forbid_unknown_fields=True):
    """A detector of a library."""

    us: float  # of a point, with its share of the fits
    bytes: float  # of a model in memory


class Range(msgspec.Struct, forbid_unknown_fields=True):
    """The ranges in which a worker was measured."""

    records_per_s: float
    series: float
    metrics: float
    partitions: float


class Check(msgspec.Struct, forbid_unknown_fields=True):
    """A measurement that was not used for the model, and the calculated figure."""

    case: str
    what: str
    unit: str
    measured: float
    predicted: float

    @property
    def error(self) -> float:
        """Error of the calculation, as a share of the measured figure."""
        return self.predicted / self.measured - 1.0


class Measured(msgspec.Struct, forbid_unknown_fields=True):
    machine: str
    date: str
    versions: dict[str, str]
    cpu: Cpu
    restart: Restart
    memory: Memory
    kernels_us: dict[str, float]  # of a point, by detector
    adapters: dict[str, AdapterCost]
    most: Range
    checks: list[Check]


def load() -> Measured:
    """The measurements that this version of the program includes."""
    return msgspec.json.decode(resources.files(__package__).joinpath(FILE).read_bytes(), type=Measured)
