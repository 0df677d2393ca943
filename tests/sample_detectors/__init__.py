"""Detectors of the tests: each does one thing that a law or a checker needs."""
