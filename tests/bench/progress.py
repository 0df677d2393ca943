"""What the bench is doing, on standard error: standard output is for the tables."""

import sys
import time

_begun = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - _begun:6.1f} s  {text}", file=sys.stderr, flush=True)
