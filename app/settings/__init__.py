"""Settings: ``model`` declares them, ``sources`` reads file and variables, ``checks`` compares them with each other;
``loading`` calls these.

The names below are imported on first use (PEP 562): all models together take a tenth of a second of a core, and
`faust-anomaly probe`, which runs every few seconds, does not need them.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.settings.alerting import AlertingSettings, ChannelSettings, RuleSettings, SilentSettings
    from app.settings.loading import as_text, describe, load
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
MODULES = ("web", "alerting", "model", "loading")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in MODULES:
            if hasattr(found := import_module(f"{__name__}.{module}"), name):
                return globals().setdefault(name, getattr(found, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
