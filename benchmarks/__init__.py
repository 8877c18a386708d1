"""Measurements: each figure beside its limit or alternative, in one run, as a ratio."""
