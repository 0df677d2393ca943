"""faust-anomaly: scores every point of many time series as it arrives in Kafka.

``app`` is an attribute made on first use (PEP 562), so that ``faust -A app worker`` finds the Faust
application here while ``import app.detectors`` loads neither Faust nor a configuration.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "app":
        # Not an import statement: the worker imports all of the program, which reads __version__ here.
        return import_module("app.worker").app
    raise AttributeError(f"module 'app' has no attribute {name!r}")
