"""schemathesis against a server that listens."""

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

SCHEMATHESIS = Path(sys.executable).with_name("st")
CONFIG = Path(__file__).with_name("schemathesis.toml")
HANG_S = 240  # for an answer
HARD = ["--request-timeout", str(HANG_S)]
HARD += ["--checks", "all", "--continue-on-failure", "--no-color", "--generation-database", "none"]


async def reported(url: str, *options: str, cases: int = 10, seed: int = 1) -> dict[str, Any]:
    """What it found at this address, as its report says: ``failures``, ``errors``, ``test_cases`` and more.

    ``options`` are its own. The same seed makes the same requests. Raises RuntimeError when it could not run.
    """
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "report.json"
        report = ["--report", "json", "--report-json-path", str(file)]
        amount = ["--seed", str(seed), "--max-examples", str(cases)]
        process = await asyncio.create_subprocess_exec(
            str(SCHEMATHESIS), "--config-file", str(CONFIG), "run", f"{url}/api/openapi.json",
            *HARD, *report, *amount, *options,
            cwd=place, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        said, _ = await process.communicate()
        if not file.exists():
            raise RuntimeError(f"schemathesis ended with {process.returncode}: {said.decode(errors='replace')}")
        return {"said": said.decode(errors="replace"), **json.loads(file.read_bytes())}


def findings(report: dict[str, Any]) -> list[str]:
    """What it complains of, each in a line or more; an error of its own too."""
    return [json.dumps(one) for one in [*report["failures"], *report["errors"]]]
