"""Bytes of the topics: ``reader`` (raw-data to points; ``schema``, ``malformed``, ``dead_letters``) and ``results``
(results and episodes to bytes; ``result_json`` is the compiled part of it)."""
