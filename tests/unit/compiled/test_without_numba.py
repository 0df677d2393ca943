"""The program where numba and uvloop cannot be installed: the same results, and a line that says so."""

import json
import os
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[3]
WITHOUT = """
import sys
from importlib.machinery import PathFinder

class Without(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        missing = name.partition(".")[0] in ("numba", "llvmlite", "uvloop")
        return None if missing else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Without
"""
DETECT = "from app.cli import main; main(['detect', 'a.ndjson', '--output', sys.argv[1]])"
WORKER = """
import app.worker, asyncio, logging
logging.basicConfig(format="%(levelname)s %(message)s", level="INFO")
async def main(): app.worker.log_engine(app.worker.app.job.pipeline.engine)
asyncio.run(main())
"""


def run(code, folder, *arguments):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANOMALY_")}
    environ["PYTHONPATH"] = str(ROOT)
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=True).stderr


def test_without_numba_and_uvloop_the_results_are_the_same_bytes(tmp_path):
    with (tmp_path / "a.ndjson").open("w") as file:
        for i in range(700):
            value = 50 + i * 7919 % 13 + 60 * (i in (400, 401, 402)) - 30 * (i > 600)
            file.write(json.dumps({"source": "a", "timestamp": 60 * i, "value": value}) + "\n")
            file.write(json.dumps({"source": "b", "timestamp": 60 * i, "values": {"x": i % 24, "y": value}}) + "\n")
    said = run(WITHOUT + DETECT, tmp_path, "plain.ndjson")
    assert "numba is not installed" in said
    assert "numba" not in run("import sys; " + DETECT, tmp_path, "compiled.ndjson")
    plain, compiled = ((tmp_path / f"{name}.ndjson").read_bytes() for name in ("plain", "compiled"))
    assert plain == compiled
    assert b'"is_anomaly":true' in plain


def test_a_worker_says_what_it_runs_on(tmp_path):
    expected = "WARNING engine python, event loop asyncio: numba and uvloop not installed, results are the same"
    assert expected in run(WITHOUT + WORKER, tmp_path)
    assert "INFO engine numba, event loop uvloop\n" in run(WORKER, tmp_path)


def test_packages_are_required_only_where_they_have_wheels():
    def needed(**where):
        environment = {**default_environment(), "extra": "", "implementation_name": "cpython", **where}
        found = map(Requirement, requires("faust-anomaly"))
        return {each.name for each in found if not each.marker or each.marker.evaluate(environment)}

    linux = {"sys_platform": "linux", "platform_machine": "x86_64", "python_version": "3.14"}
    assert {"numba", "uvloop"} <= needed(**linux)
    windows = needed(**linux | {"sys_platform": "win32", "platform_machine": "AMD64"})
    assert "numba" in windows and "uvloop" not in windows
    for elsewhere in ({"platform_machine": "riscv64"}, {"sys_platform": "darwin"}):
        assert "numba" not in needed(**linux | elsewhere)
    assert "numba" in needed(**linux | {"sys_platform": "darwin", "platform_machine": "arm64"})
    assert "numba" not in needed(**linux | {"python_version": "3.15"})
