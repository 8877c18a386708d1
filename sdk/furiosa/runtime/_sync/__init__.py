"""The blocking twin of `_async`, made by scripts/unasync.py, except `io`."""
