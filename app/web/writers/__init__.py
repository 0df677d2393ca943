"""Writes what comes over HTTP to Kafka: points, reports of other programs, decisions of people."""
