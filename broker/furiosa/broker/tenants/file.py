"""The tenants file on disk: who may write it, when it is read, and what is in force meanwhile.

It is read in a thread, since names of users may come over the network.
"""

import asyncio
import contextlib
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from furiosa.broker.log import event
from furiosa.broker.tenants.parse import BadTenants, parse
from furiosa.broker.tenants.policy import ROOT, Tenants

log = logging.getLogger(__name__)

MOST_BYTES: Final = 1024 * 1024
LOOK_SECONDS: Final = 1.0

_Stamp = tuple[int, ...] | None  # None: it cannot be looked at


class TenantsFile:
    """`current` is what is in force; without a path each user is a tenant and nothing is read, ever.

    `on_change(tenants)` is told in the loop's thread of each new `current`, `on_refusal(problems)` of a
    bad file, which changes nothing. `embedded`: it does not matter who else may write it.
    """

    def __init__(
        self,
        path: Path | None,
        *,
        own_uid: int | None = None,
        embedded: bool = False,
        on_change: Callable[[Tenants], None] = lambda tenants: None,
        on_refusal: Callable[[str], None] = lambda problems: None,
    ) -> None:
        """Raises: BadTenants; there is nothing older that could stay in force."""
        self.path = path
        self._own_uid = os.geteuid() if own_uid is None else own_uid
        self._embedded = embedded
        self._on_change = on_change
        self._on_refusal = on_refusal
        self._asked = asyncio.Event()
        self._reading = asyncio.Lock()
        self._read_stamp = self._seen_stamp = _stamp(path)
        self.current = Tenants(own_uid=self._own_uid) if path is None else self._load(path)

    async def watch(self) -> None:
        """Read the file whenever it has changed or `ask` was called. Runs until it is cancelled."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._asked.wait()
            except TimeoutError:
                await self.check()
                continue
            self._asked.clear()
            with contextlib.suppress(BadTenants):  # it is in the log
                await self.reload()

    def ask(self) -> None:
        """Have the file read soon, changed or not; for a signal handler."""
        self._asked.set()

    async def check(self) -> None:
        """Read the file if it has changed, but not before two looks in a row have found it the same:
        the first half of a file that is being written may be a sound file with other rules."""
        seen, self._seen_stamp = self._seen_stamp, _stamp(self.path)
        if self._seen_stamp != self._read_stamp and self._seen_stamp == seen:
            with contextlib.suppress(BadTenants):  # it is in the log
                await self.reload()

    async def reload(self) -> Tenants:
        """What is in force now. Raises: BadTenants; then the old stays in force."""
        path = self.path
        if path is None:
            return self.current
        async with self._reading:
            self._read_stamp = self._seen_stamp = _stamp(path)
            try:
                tenants = await asyncio.to_thread(self._load, path)
            except (BadTenants, RuntimeError) as exc:  # the latter: there is no thread to be had
                event(log, "tenants.not_reloaded", logging.ERROR, file=path, cause=exc)
                self._on_refusal(str(exc))
                raise exc if isinstance(exc, BadTenants) else BadTenants([str(exc)]) from None
            self.current = tenants
            event(log, "tenants.reloaded", file=path, tenants=len(tenants.names))
            self._on_change(tenants)
            return tenants

    def _load(self, path: Path) -> Tenants:
        try:
            document = self._read(path)
        except (OSError, ValueError) as exc:
            raise BadTenants([f"{path}: {exc}"]) from None
        return parse(document, own_uid=self._own_uid)

    def _read(self, path: Path) -> str:
        with open(path, "rb", opener=_opener) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("is not a file")
            if not self._embedded:
                self._check_writers(status)
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise ValueError(f"has more than {MOST_BYTES} bytes")
        return data.decode("utf-8")

    def _check_writers(self, status: os.stat_result) -> None:
        """Who may write the file may make himself an administrator. Raises: ValueError."""
        owners = (ROOT, self._own_uid)
        if status.st_uid not in owners:
            expected = " or ".join(map(str, sorted(set(owners))))
            raise ValueError(f"belongs to uid {status.st_uid}, expected {expected}")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            mode = stat.S_IMODE(status.st_mode)
            raise ValueError(f"others than its owner may write it, mode {mode:04o}, expected 0644")


def _opener(path: str, flags: int) -> int:
    """Not to wait for somebody to write, should it be a pipe."""
    return os.open(path, flags | os.O_NONBLOCK)


def _stamp(path: Path | None) -> _Stamp:
    if path is None:
        return None
    try:
        status = path.stat()
    except OSError:
        return None
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_uid,
        status.st_mode,
    )
