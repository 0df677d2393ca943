"""The pipeline: points of one partition in, what was found in them out. No clock, Kafka or environment."""

from app.pipeline.pipeline import Pipeline

__all__ = ["Pipeline"]
