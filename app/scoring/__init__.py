"""From settings to scores: ``profile`` (one set of detection settings), ``passes`` (the loops over points), ``tables``
(what they know of a profile), ``cells`` (how they find the parts of a row), ``calibration`` (raw scores to votes),
``ensemble`` (votes to one score), ``episodes``, ``deviation_rules``, ``severity``."""
