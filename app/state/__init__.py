"""The state of the sources of one partition: ``sources`` holds it, ``snapshot`` writes one source to bytes and reads
it back, ``bulk_restore`` reads many at once, ``expiry`` decides when a silent source is forgotten."""
