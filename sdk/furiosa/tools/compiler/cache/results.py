"""Results by key, in whatever store; no trouble of a store is a trouble of the caller."""

import errno
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from furiosa.tools.compiler.cache.entry import HEADER_BYTES, CorruptEntry, Entry, pack, unpack
from furiosa.tools.compiler.cache.folder import FolderStore
from furiosa.tools.compiler.cache.redis import RedisStore
from furiosa.tools.compiler.cache.settings import CacheSettings
from furiosa.tools.compiler.cache.store import Store, StoreUnavailable

_log = logging.getLogger(__name__)


class Results:
    """After its first failure the store is left alone, so that it costs one time limit and not three.

    `lifetime` as in CacheSettings; `clock` gives ns since 1970.
    """

    def __init__(
        self, store: Store, lifetime: int, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._store: Store | None = store
        self._lifetime = lifetime
        self._clock = clock

    def get(self, key: str) -> bytes | None:
        """None when there is no valid one; a corrupt one is removed."""
        if self._store is None or self._lifetime == 0:
            return None
        try:
            found = self._store.read(key, HEADER_BYTES)
            if found is None:
                return None
            try:
                entry = unpack(key, *found)
            except CorruptEntry as exc:
                _log.warning(
                    "entry %s of the compiler cache is corrupt and is removed: %s", key, exc
                )
                self._store.remove(key)
                return None
        except (StoreUnavailable, OSError) as exc:
            self._give_up(exc)
            return None
        return entry.result if entry.is_valid(self._clock(), self._lifetime) else None

    def put(self, key: str, result: bytes) -> None:
        if self._store is None:
            return
        try:
            data = pack(key, Entry(self._clock(), result))
            self._store.write(key, data, self._lifetime)
        except (StoreUnavailable, OSError) as exc:
            self._give_up(exc)

    def _give_up(self, exc: Exception) -> None:
        """A folder that can only be read is a way to use a cache, and nothing to warn of."""
        self._store = None
        code = exc.errno if isinstance(exc, OSError) else None
        level = (
            logging.DEBUG if code in (errno.EROFS, errno.EACCES, errno.EPERM) else logging.WARNING
        )
        _log.log(level, "the compiler cache is not used: %s", exc)


def open_results(environment: Mapping[str, str]) -> Results | None:
    """What the environment says, or None where it switches the cache off. Reaches for no store yet.

    Raises: InvalidConfig.
    """
    settings = CacheSettings.from_environment(environment)
    if settings is None:
        return None
    place = settings.place
    store = FolderStore(place) if isinstance(place, Path) else RedisStore(place)
    return Results(store, settings.lifetime)
