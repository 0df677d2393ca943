"""Calculates workers, cores and bytes for a load, from measured costs (measured.json) and settings.

``measured``   what a record, a batch, a snapshot, a series cost; written by ``python -m tests.bench.sizing``
``footprint``  bytes of state, snapshots and results with these settings, made by the program itself
``model``      both and what is asked for -> what is needed
"""
