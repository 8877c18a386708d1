"""Passes on ldfg, one verb a file."""
