"""Lowerings, one a file: <from>_to_<to>."""
