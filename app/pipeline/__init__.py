"""The pipeline: points of one partition in, an Outcome out. No clock, Kafka or environment. ``placement`` finds the
rows of each point, ``pipeline`` scores, ``adapters`` runs Python-object detectors, ``explain`` explains anomalies."""

from app.pipeline.pipeline import Pipeline

__all__ = ["Pipeline"]
