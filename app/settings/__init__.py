"""Settings: ``model`` declares them, ``sources`` reads file and variables, ``checks`` checks them against each other,
``load`` does all of it."""

from app.settings.alerting import AlertingSettings, ChannelSettings, RuleSettings, SilentSettings
from app.settings.load import as_text, describe, load
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
    StorageSettings,
)
from app.settings.web import ApiSettings, DashboardSettings

__all__ = [
    "AlertingSettings",
    "ApiSettings",
    "ChannelSettings",
    "DashboardSettings",
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
    "as_text",
    "describe",
    "load",
]
