"""Which cards an administrator has closed, and why: kept over restarts, until he opens them again."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from furiosa.broker.log import event

log = logging.getLogger(__name__)


class Cordons:
    """Reasons by card, in the file `path`, which is replaced in one step."""

    def __init__(self, path: Path) -> None:
        """A file that cannot be read is logged: the broker must start without it."""
        self._path = path
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

    def set(self, npu: int, reason: str | None) -> None:
        """None opens the card. Raises: OSError; then nothing has changed."""
        changed = {other: why for other, why in self._reasons.items() if other != npu}
        if reason is not None:
            changed[npu] = reason
        fresh = self._path.with_suffix(".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump(changed, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)
        self._reasons = changed
