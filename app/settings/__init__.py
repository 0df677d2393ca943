"""Settings: ``model`` says what there is, ``load`` reads and checks it."""

from app.settings.load import describe, load
from app.settings.model import (
    Detection,
    DetectorSettings,
    DriftSettings,
    InputSettings,
    KafkaSettings,
    Settings,
    SourceOverride,
)

__all__ = [
    "Detection",
    "DetectorSettings",
    "DriftSettings",
    "InputSettings",
    "KafkaSettings",
    "Settings",
    "SourceOverride",
    "describe",
    "load",
]
