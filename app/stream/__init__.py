"""The worker's work on partitions, with Faust: ``partition`` scores and sends, ``ledger`` knows what may be committed,
``takeover`` and ``recovery`` restore a partition, ``stall_detector`` and ``watchdog`` end a worker that is stuck."""
