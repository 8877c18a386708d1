"""The source of both twins; `_sync` is made from it by scripts/unasync.py, except `io`."""
