"""Where results are kept and how long they live. Source: compiler reference 3.3.

    FC_CACHE_ENABLED     1 (default) or 0
    FC_CACHE_STORE_URL   a folder (default: $HOME/.cache/furiosa/compiler),
                         redis://[user]:<password>@host:port[/db] or the same with rediss:// for TLS
    FC_CACHE_LIFETIME    seconds (default: 30 days); 0: no earlier result is valid; below 0: none expires

A variable that is empty counts as not set. Without HOME and FC_CACHE_STORE_URL there is no cache.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from urllib.parse import unquote, urlsplit

from furiosa.compiler import InvalidConfig

DEFAULT_LIFETIME: Final = 30 * 24 * 60 * 60
_REDIS_PORT: Final = 6379
_FORMS: Final = "a folder, redis://:<password>@host:port or rediss://:<password>@host:port"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """`tls` is what the second s of rediss:// asks for."""

    host: str
    port: int
    database: int
    username: str | None
    password: str | None = field(repr=False)
    tls: bool

    def __str__(self) -> str:
        """For messages: never with the password."""
        return f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}/{self.database}"


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """`lifetime` is in seconds; 0 makes every earlier result invalid, below 0 none ever expires."""

    place: Path | RedisAddress
    lifetime: int = DEFAULT_LIFETIME

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self | None:
        """None when the cache is switched off, and the other variables are not looked at, or has no place.

        Raises: InvalidConfig.
        """
        enabled = environment.get("FC_CACHE_ENABLED") or "1"
        if enabled not in ("0", "1"):
            raise InvalidConfig(f"FC_CACHE_ENABLED: expected 1 or 0, found {enabled!r}")
        if enabled == "0":
            return None
        lifetime = _lifetime(environment.get("FC_CACHE_LIFETIME", ""))
        if url := environment.get("FC_CACHE_STORE_URL"):
            return cls(_place(url), lifetime)
        if home := environment.get("HOME"):
            return cls(Path(home, ".cache/furiosa/compiler"), lifetime)
        return None


def _place(text: str) -> Path | RedisAddress:
    if "://" not in text:
        return Path(text)
    try:
        return _redis(text)
    except ValueError as exc:  # the text itself may hold a password: it is not shown
        raise InvalidConfig(f"FC_CACHE_STORE_URL: {exc}; expected {_FORMS}") from None


def _redis(text: str) -> RedisAddress:
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError(
            "this is no URL (special characters of a password are %-encoded)"
        ) from None
    if url.scheme not in ("redis", "rediss"):
        raise ValueError(f"there is no store of the kind {url.scheme}://")
    if not url.hostname:
        raise ValueError("it names no host")
    database = url.path.removeprefix("/") or "0"
    if url.query or url.fragment or not (database.isascii() and database.isdecimal()):
        raise ValueError("only the number of a database may follow the port")
    return RedisAddress(
        host=url.hostname,
        port=_REDIS_PORT if port is None else port,
        database=int(database),
        username=unquote(url.username) if url.username else None,
        password=unquote(url.password) if url.password else None,
        tls=url.scheme == "rediss",
    )


def _lifetime(text: str) -> int:
    try:
        return int(text) if text else DEFAULT_LIFETIME
    except ValueError:
        raise InvalidConfig(
            f"FC_CACHE_LIFETIME: expected a whole number of seconds, found {text[:40]!r}"
        ) from None
