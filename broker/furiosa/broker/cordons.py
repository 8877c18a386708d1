"""Which cards an administrator has closed, and why: kept over restarts, until he opens them again."""

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from furiosa.broker.log import event
from furiosa.common.files import replace_file

log = logging.getLogger(__name__)


class Cordons:
    """Reasons by card, in the file `path`, which is replaced in one step.

    `on_change(npu, reason)` is told of each change once it is on the disk, in the event loop.
    """

    def __init__(self, path: Path, on_change: Callable[[int, str | None], None]) -> None:
        """A file that cannot be read is logged: the broker must start without it."""
        self._path = path
        self._on_change = on_change
        self._writing = asyncio.Lock()
        self._reasons: dict[int, str] = {}
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            self._reasons = {int(npu): str(reason) for npu, reason in values.items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, AttributeError) as exc:
            event(log, "cordons.not_read", logging.ERROR, file=path, cause=exc)

    @property
    def reasons(self) -> Mapping[int, str]:
        return self._reasons

    async def set(self, npu: int, reason: str | None) -> None:
        """None opens the card. Raises: OSError; then nothing has changed.

        One change after the other; what has begun is brought to its end, whoever gives up waiting.
        """
        await asyncio.shield(self._set(npu, reason))

    async def _set(self, npu: int, reason: str | None) -> None:
        async with self._writing:
            changed = {other: why for other, why in self._reasons.items() if other != npu}
            if reason is not None:
                changed[npu] = reason
            await asyncio.to_thread(self._write, changed)
            self._reasons = changed
            self._on_change(npu, reason)

    def _write(self, reasons: Mapping[int, str]) -> None:
        replace_file(self._path, json.dumps(reasons).encode(), mode=0o600)
