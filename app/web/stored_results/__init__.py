"""Reads results back from Kafka: by id, by source and time, and those of points that were just written.

``queries`` has all that the API calls; it uses the other modules.
"""
