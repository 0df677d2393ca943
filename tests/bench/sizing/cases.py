"""What is measured with whole workers: few cases that differ in one thing, and others to hold the model against."""

from tests.bench.sizing.measured import Case

STEADY = (0.0, 50.0, 400.0, 2000.0, 15_000.0)

CASES = (
    Case("default set", rates=STEADY),
    Case("window set", "window", rates=(2000.0, 15_000.0)),
    Case("many series", series=30_000, prefill=40, rates=(8000.0,)),
    Case("metrics", metrics=5, rates=(400.0, 5000.0)),
    Case("partitions", partitions=16, rates=(0.0, 400.0, 4000.0)),
    Case("view", view=True, rates=(0.0, 400.0, 8000.0)),
    Case("rekey", rekey=True, rates=(0.0, 2000.0, 8000.0)),
    Case("backlog", backlog=600_000, rates=()),
    Case("backlog, window set", "window", backlog=600_000, rates=()),
    Case("backlog, many series", series=10_000, backlog=1_000_000, rates=()),
    Case("backlog, 2 metrics", metrics=2, backlog=200_000, rates=()),
    Case("backlog, 5 metrics", metrics=5, backlog=200_000, rates=()),
    Case("backlog, rekey", rekey=True, backlog=300_000, rates=()),
    Case("check: default set", series=6000, partitions=8, rates=(1000.0, 12_000.0), checks=True),
    Case("check: window set", "window", series=12_000, metrics=3, view=True, rates=(3000.0,), checks=True),
    Case("check: backlog", series=1000, partitions=6, metrics=3, backlog=300_000, rates=(), checks=True),
    Case("check: rekey", rekey=True, series=3000, partitions=6, rates=(4000.0,), checks=True),
    Case("check: scikit-learn", "heavy", series=40, prefill=200, rates=(300.0,), seconds=30.0, checks=True),
)
