"""The report of ``detect --report``: one HTML file of scored series, without server or network; ``page`` writes it."""
