"""The version of this release: in its package, its metrics, its reports and its pages."""

__version__ = "0.1.0"
