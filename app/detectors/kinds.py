"""What an episode can be: see docs/records.md, which has a sentence on each.

Results and the rows of sources hold places in this tuple: a new kind goes to its end.
"""

VALUE = "value"  # unless a detector says otherwise
KINDS = (VALUE, "record", "season", "level", "noise", "stuck", "missing", "rate", "pair", "drift", "pause")
