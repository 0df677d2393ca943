"""``python -m app``: the console script ``faust-anomaly`` without its place on the PATH."""

from app.cli import main

main()
