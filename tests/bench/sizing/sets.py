"""The sets of detectors that whole workers are measured with."""

from typing import Any

AUTO = ("prediction_interval", "residual", "level", "novelty", "StandardAbsoluteDeviation")
SETS: dict[str, dict[str, Any]] = {  # detection.detectors
    "default": {},
    "window": {"moving_average": {}, "zscore": {}},
    "few": {"residual": {}, "seasonal": {}},
    "heavy": {**{name: {} for name in AUTO}, "isolation_forest": {}},
}
