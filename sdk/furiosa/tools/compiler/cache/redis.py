"""Entries in Redis, shared between machines. What it may hold is the server's own `maxmemory`.

The package redis is imported on use: most installations do without.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from furiosa.tools.compiler.cache.settings import DEFAULT_LIFETIME, RedisAddress
from furiosa.tools.compiler.cache.store import StoreUnavailable

if TYPE_CHECKING:
    from redis import Redis

CONNECT_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 5.0
_PREFIX: Final = "furiosa:compiler:"
_MAX_VALUE: Final = 512 << 20  # of one value, by Redis
_MAX_EXPIRY: Final = 1 << 31  # seconds; larger numbers overflow in the server


class RedisStore:
    """One connection for each call: calls are rare, and seconds apart."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address

    def read(self, key: str, head: int) -> tuple[bytes, bytes] | None:
        with self._connected() as redis:
            found = redis.get(_PREFIX + key)
        return (found[:head], found[head:]) if isinstance(found, bytes) else None

    def write(self, key: str, data: bytes, lifetime: int) -> None:
        if len(data) > _MAX_VALUE:
            return
        # an entry that is not valid for its maker may be for others
        expiry = None if lifetime < 0 else min(lifetime or DEFAULT_LIFETIME, _MAX_EXPIRY)
        with self._connected() as redis:
            redis.set(_PREFIX + key, data, ex=expiry)

    def remove(self, key: str) -> None:
        with self._connected() as redis:
            redis.delete(_PREFIX + key)

    @contextmanager
    def _connected(self) -> Iterator["Redis"]:
        try:
            from redis import Redis, RedisError
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise StoreUnavailable(
                f"{self._address} needs the package redis: pip install 'furiosa-broker[redis]'"
            ) from None
        address = self._address
        try:
            with Redis(
                host=address.host,
                port=address.port,
                db=address.database,
                username=address.username,
                password=address.password,
                ssl=address.tls,
                ssl_cert_reqs="required",
                ssl_check_hostname=True,
                socket_connect_timeout=CONNECT_SECONDS,
                socket_timeout=ANSWER_SECONDS,
                retry=Retry(NoBackoff(), 0),
                protocol=2,
            ) as redis:
                yield redis
        except (RedisError, OSError, UnicodeError) as exc:  # the last: no name of a host
            raise StoreUnavailable(f"{address}: {exc}") from exc
