"""Code that numba compiles, with no knowledge of detectors or Kafka: ``rows`` of state, columns of bytes
(``byte_columns``), arithmetic with the same bits everywhere (``numeric``), ``checksum``. How it is compiled: ``jit``,
``stages`` (of numba), ``native`` (addresses in place of objects), ``code_cache`` (on disk), ``patches``."""
