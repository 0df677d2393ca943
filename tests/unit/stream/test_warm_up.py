import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from click.testing import CliRunner
from support.points import gaussian, points, states
from unit.wire.test_result_json import made

from app.cli import main
from app.compiled import byte_columns, murmur2
from app.compiled.byte_columns import Column, Encoded, Header, RecordColumns
from app.kafka import fetched, record_batch
from app.pipeline import Pipeline
from app.scoring import tables
from app.settings import load
from app.state import bulk_restore
from app.stream import origins, output_watermark
from app.stream.warm_up import warm_up
from app.wire import by_source, result_json
from app.wire.results import encode_columns
from tables.sources import SourcesTable

ROOT = Path(__file__).parents[3]
LATER_OR_NEVER = [
    *("alembic", "sqlalchemy", "psycopg", "apprise", "aiosmtplib", "PIL", "joserfc", "holidays", "re2"),
    *("sklearn", "river", "pyarrow", "pandas", "scipy.linalg", "numba.np.linalg"),
]
KERNELS = [
    *(result_json._write, record_batch._frame, fetched._survey, fetched._read),
    *(bulk_restore._examine, bulk_restore._copy, tables._learn, tables._judge),
]
OF_THE_HOP = [
    *(murmur2._place, byte_columns._order, by_source._write, by_source._numbers),
    *(origins._look, output_watermark._highest_of_headers),
]


def test_after_warming_nothing_is_left_to_compile():
    pipeline = Pipeline(load(environ={}).detection)
    warm_up(pipeline)
    before = [set(kernel.signatures) for kernel in KERNELS]
    sent, outcome = made(5, 600, detectors={"moving_average": {"warmup": 5}})
    list(record_batch.framed(encode_columns(sent, outcome, "raw-data", 3), 10_000, 0))
    list(record_batch.framed(encode_columns(sent, outcome, "raw-data", 3, 590), 10_000, 0))
    original = pipeline.sources()
    pipeline.run(original, points(gaussian(60), ["a", "b"] * 30))
    saved = [(name.encode() + b"\0" + bytes(8), data) for name, data in states(original, 60).items()]
    [batch] = record_batch.framed(Encoded.of(saved), 1_000_000, 0)
    restored = SourcesTable(pipeline).take_over()
    restored.load(fetched.Fetched.of(bytes(batch._build()), 0).records())
    restored.load(RecordColumns.of((at, *record) for at, record in enumerate(saved)))
    assert states(restored.rows, 60) == states(original, 60)
    assert all(before) and [set(kernel.signatures) for kernel in KERNELS] == before


def test_nor_behind_the_hop_by_source():
    warm_up(Pipeline(load(environ={}).detection, engine="python"), rekeys=True)
    before = [set(kernel.signatures) for kernel in [*OF_THE_HOP, *KERNELS[:4]]]
    sent, _ = made(5, 600)
    at = by_source.Times(np.array(sent.offset), np.full(600, 7))
    kafka = SimpleNamespace(output_topic="results", rekeys=True, log_topic="by-source")
    for records in by_source.encoded(sent, 3, at, 4).values():
        found = [SimpleNamespace(offset=i, value=one[1], headers=one[2]) for i, one in enumerate(records.records())]
        reader = by_source.BySourceReader(load(environ={}).input, "by-source", 0, "raw-data")
        read = origins.Origins(0, "", 1000).fresh(reader.read(found).points)
        pipeline = Pipeline(load(environ={}, detection={"detectors": {"moving_average": {}}}).detection)
        results = encode_columns(read, pipeline.run(pipeline.sources(), read), "raw-data", 3)
        results = Encoded(*results[:2], Header("by-source", Column.of([b"7"] * len(results))))
        for batch in record_batch.framed(results, 10_000, 0):
            output_watermark.last_emitted(kafka, 0, [fetched.Fetched.of(bytes(batch._build()), 0)])
    assert all(before) and [set(kernel.signatures) for kernel in [*OF_THE_HOP, *KERNELS[:4]]] == before


def test_what_the_helping_process_compiles_is_what_the_worker_needs(tmp_path):
    """And what the command compiles that images are built with."""
    environ = {**os.environ, "FAUST_ANOMALY_CACHE": str(tmp_path), "ANOMALY_DETECTION__METHOD": "zscore"}
    command = [sys.executable, "-m", "app.stream.warm_up"]
    subprocess.run(command, env=environ, cwd=ROOT, check=True, timeout=500)
    done = set(tmp_path.iterdir())
    command = [Path(sys.executable).with_name("faust-anomaly"), "compile", "--into", tmp_path]
    said = subprocess.run(command, env=environ, check=True, timeout=500, capture_output=True, text=True).stdout
    more = {".".join(path.name.split(".")[:-2]) for path in set(tmp_path.iterdir()) - done}
    assert said.startswith(f"{tmp_path}: {len(more)} functions compiled, in ")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o644}, "other users can read it"
    of_the_hop = {f"{one.__module__}.{one.__name__}" for one in OF_THE_HOP}
    assert len(done) > 10 and more - of_the_hop == {"app.scoring.passes.judge"}


def test_a_worker_that_finds_all_compiled_loads_only_what_it_needs_at_once():
    """A package that is loaded in vain costs each start up to half a second of computing."""
    warm_up(Pipeline(load(environ={}).detection))
    code = "import sys; from app.worker import app; from app.stream.warm_up import warm_up; warm_up(app.job.pipeline)\n"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANOMALY_")}
    command = [sys.executable, "-c", f"{code}print(*(name for name in {LATER_OR_NEVER} if name in sys.modules))"]
    done = subprocess.run(command, env=environ, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_nothing_is_compiled_for_a_folder_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file is no directory")
    done = CliRunner(env={"FAUST_ANOMALY_CACHE": None}).invoke(main, ["compile", "--into", str(blocked / "folder")])
    assert done.exit_code == 1 and str(blocked) in done.stderr
