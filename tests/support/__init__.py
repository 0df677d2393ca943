"""What tests of several kinds share: one module for each thing, imported as ``support.NAME``."""
