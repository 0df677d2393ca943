"""faust-anomaly: scores every point of many time series as it arrives in Kafka.

``app`` is an attribute made on first use (PEP 562), so that ``faust -A app worker`` finds the Faust
application here while ``import app.detectors`` loads neither Faust nor a configuration.
"""

from typing import Any

from app.version import __version__

__all__ = ["__version__"]


def __getattr__(name: str) -> Any:
    if name == "app":
        from app.worker import app

        return app
    raise AttributeError(f"module 'app' has no attribute {name!r}")
