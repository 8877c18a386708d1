"""Passes on gir, one verb a file."""
