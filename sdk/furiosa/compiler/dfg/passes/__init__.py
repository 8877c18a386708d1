"""Passes on dfg, one verb a file."""
