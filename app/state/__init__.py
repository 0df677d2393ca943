"""The state of the series of one partition.

``series`` names them, ``sources`` holds their state, ``snapshot`` writes the state of one to bytes and reads it back,
``bulk_restore`` reads many at once, ``expiry`` decides when a silent one is forgotten.
"""
