"""``python -m tests.golden`` writes the golden files of this release that are missing or rightly different.

State that has changed under the same version is refused: see ``files.check``. Files of releases that are out stay
as they are. Ends with status 1 when anything was refused.
"""

import sys

from tests.golden.cases import CASES
from tests.golden.files import NOW, Unversioned, check, made, paths


def main() -> int:
    NOW.mkdir(exist_ok=True)
    refused = 0
    for name in CASES:
        both, new = paths(name), made(name)
        old = tuple(path.read_bytes() for path in both) if all(path.exists() for path in both) else None
        if old == new:
            continue
        try:
            if old:
                check(old, new)
        except Unversioned as error:
            print(f"{name}: refused: {error}", file=sys.stderr)
            refused = 1
            continue
        for path, data in zip(both, new):
            path.write_bytes(data)
        print(f"{name}: {len(new[0])} bytes of state, {len(new[1])} of results")
    return refused


if __name__ == "__main__":
    sys.exit(main())
