"""Settings: ``model`` declares them, ``sources`` reads file and variables, ``checks`` checks them against each other,
``load`` does all of it."""

from app.settings.load import describe, load
from app.settings.model import (
    AlertingSettings,
    ChannelSettings,
    Detection,
    DetectorSettings,
    DriftSettings,
    HolidaySettings,
    InputSettings,
    KafkaSettings,
    MaintenanceSpan,
    RuleSettings,
    Settings,
    SilentSettings,
    SourceOverride,
    StorageSettings,
)

__all__ = [
    "AlertingSettings",
    "ChannelSettings",
    "Detection",
    "DetectorSettings",
    "DriftSettings",
    "HolidaySettings",
    "InputSettings",
    "KafkaSettings",
    "MaintenanceSpan",
    "RuleSettings",
    "Settings",
    "SilentSettings",
    "SourceOverride",
    "StorageSettings",
    "describe",
    "load",
]
