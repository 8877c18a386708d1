"""Passes on lir, one verb a file."""
