"""Code that numba compiles, with no knowledge of detectors or Kafka: ``rows`` of state, columns of bytes
(``byte_columns``), arithmetic with the same bits everywhere (``numeric``), ``checksum``; ``jit`` compiles."""
