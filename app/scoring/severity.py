"""Severity: a word for an alert score."""

import numpy as np

from app.scoring.episodes import SEVERE as ABOVE

NAMES = ("low", "medium", "high", "critical")
_ABOVE = np.array(ABOVE)


def severity(alert: float) -> str:
    """critical above .95, high above .9, medium above .8, else low."""
    return NAMES[(alert > ABOVE[0]) + (alert > ABOVE[1]) + (alert > ABOVE[2])]


def severities(alerts: np.ndarray) -> np.ndarray:
    """Indices into NAMES of many alert scores."""
    return _ABOVE.searchsorted(alerts, side="left")
