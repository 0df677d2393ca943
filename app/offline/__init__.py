"""Series in files, without Kafka: ``files`` and ``csv_columns`` read them, ``scored_series`` keeps their results,
``evaluation`` compares results with labels, ``report`` shows them in an HTML page."""
