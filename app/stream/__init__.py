"""The worker's work on partitions, with Faust: ``compute`` scores a batch, ``partition`` sends its output, ``ledger``
knows what may be committed and ``committer`` commits it, ``takeover`` and ``recovery`` restore a partition,
``stall_detector`` and ``watchdog`` end a worker that is stuck."""
