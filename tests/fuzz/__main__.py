"""Requests of every kind against a worker, as its own document of the API describes them and as it does not.

    python -m tests.fuzz                       a broker and a worker of its own; 200 cases an operation: some minutes
    python -m tests.fuzz --cases 2000 --seed 7
    python -m tests.fuzz --url http://127.0.0.1:8000 --only /api/sources     a server that runs already

schemathesis makes the requests from /api/openapi.json and holds the answers to it: statuses, media types, schemas, what
must be refused, methods that are not there. It prints what does not fit, with a curl command for each, and ends with 1.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


if __name__ == "__main__":
    from tests.fuzz.command import main

    main()
