"""From settings to scores: ``profile`` (one set of detection settings), ``calibration`` (raw scores to votes),
``ensemble`` (votes to one score), ``episodes``, ``deviation_rules``, ``severity``."""
