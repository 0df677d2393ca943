"""Settings: ``model`` declares them, ``sources`` reads file and variables, ``checks`` checks them against each other,
``load`` does all of it."""

from app.settings.load import describe, load
from app.settings.model import (
    Detection,
    DetectorSettings,
    DriftSettings,
    HolidaySettings,
    InputSettings,
    KafkaSettings,
    MaintenanceSpan,
    Settings,
    SourceOverride,
)

__all__ = [
    "Detection",
    "DetectorSettings",
    "DriftSettings",
    "HolidaySettings",
    "InputSettings",
    "KafkaSettings",
    "MaintenanceSpan",
    "Settings",
    "SourceOverride",
    "describe",
    "load",
]
