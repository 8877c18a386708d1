"""Structured logs: one line an event, fields as key=value, e.g.

2026-01-02T03:04:05.678Z INFO  lease.granted lease=5f3a device=npu0pe0-1 pid=4242
"""

import json
import logging
import sys
import time

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/:,+*()")


def event(
    logger: logging.Logger, name: str, level: int = logging.INFO, /, **fields: object
) -> None:
    """Log `name` with its fields; ids are `lease`, `device`, `pid`, `session`."""
    if logger.isEnabledFor(level):
        text = " ".join((name, *(f"{key}={_value(value)}" for key, value in fields.items())))
        logger.log(level, "%s", text)


def _value(value: object) -> str:
    text = str(value)
    return text if text and _PLAIN.issuperset(text) else json.dumps(text, ensure_ascii=False)


class _Formatter(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(
            "%(asctime)s.%(msecs)03dZ %(levelname)-5s %(message)s", "%Y-%m-%dT%H:%M:%S"
        )


def set_up(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
