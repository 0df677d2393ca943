"""Shared by several detectors: ``window`` (last values), ``forecast``, ``exponentially_weighted``, ``seeded_uniform``;
for detectors that are Python objects ``refitted``, ``background`` and ``river_state`` (River models to bytes)."""
