"""The three variables of the compiler cache."""

from pathlib import Path

import pytest

from furiosa.compiler import InvalidConfig
from furiosa.tools.compiler.cache import CacheSettings
from furiosa.tools.compiler.cache.settings import RedisAddress

HOME = {"HOME": "/home/a"}


def place(url: str) -> object:
    settings = CacheSettings.from_environment({**HOME, "FC_CACHE_STORE_URL": url})
    assert settings
    return settings.place


@pytest.mark.parametrize("empty", [{}, {"FC_CACHE_ENABLED": "", "FC_CACHE_LIFETIME": ""}])
def test_defaults_are_the_published_ones(empty: dict[str, str]) -> None:
    found = CacheSettings.from_environment(HOME | empty)
    assert found == CacheSettings(Path("/home/a/.cache/furiosa/compiler"), 2_592_000)


def test_what_is_switched_off_is_not_looked_at() -> None:
    off = {"FC_CACHE_ENABLED": "0", "FC_CACHE_LIFETIME": "x", "FC_CACHE_STORE_URL": "ftp://x"}
    assert CacheSettings.from_environment(off) is None


def test_without_a_home_there_is_no_cache() -> None:
    assert CacheSettings.from_environment({}) is None


@pytest.mark.parametrize(("text", "seconds"), [("60", 60), ("0", 0), ("-1", -1)])
def test_a_lifetime_has_a_sign(text: str, seconds: int) -> None:
    found = CacheSettings.from_environment({**HOME, "FC_CACHE_LIFETIME": text})
    assert found
    assert found.lifetime == seconds


def test_places_are_folders_and_redis() -> None:
    assert place("/var/cache/npu") == Path("/var/cache/npu")
    assert place("redis://:p%40ss@host:7000") == RedisAddress(
        "host", 7000, 0, username=None, password="p@ss", tls=False
    )
    assert place("rediss://me:pw@[::1]/3") == RedisAddress(
        "::1", 6379, 3, username="me", password="pw", tls=True
    )


@pytest.mark.parametrize(
    ("variable", "text", "said"),
    [
        ("FC_CACHE_ENABLED", "yes", "expected 1 or 0, found 'yes'"),
        ("FC_CACHE_LIFETIME", "1.5", "expected a whole number of seconds, found '1.5'"),
        ("FC_CACHE_LIFETIME", "9" * 5000, "expected a whole number of seconds"),
        ("FC_CACHE_STORE_URL", "ftp://:secret@h", "no store of the kind ftp://"),
        ("FC_CACHE_STORE_URL", "redis://:secret@", "it names no host"),
        ("FC_CACHE_STORE_URL", "redis://:secret@h:port", "this is no URL"),
        ("FC_CACHE_STORE_URL", "redis://:secret@h:99999", "this is no URL"),
        ("FC_CACHE_STORE_URL", "redis://:se#cret@h", "this is no URL"),
        ("FC_CACHE_STORE_URL", "redis://:secret@h/db", "only the number of a database"),
        ("FC_CACHE_STORE_URL", "redis://:secret@h?timeout=0", "only the number of a database"),
    ],
)
def test_a_wrong_value_is_an_error_that_tells_no_password(
    variable: str, text: str, said: str
) -> None:
    with pytest.raises(InvalidConfig) as caught:
        CacheSettings.from_environment({**HOME, variable: text})
    assert str(caught.value).startswith(f"{variable}: ")
    assert said in str(caught.value)
    assert "cret" not in str(caught.value)


def test_an_address_is_shown_without_its_password() -> None:
    address = place("rediss://:secret@host:7000/2")
    assert str(address) == "rediss://host:7000/2"
    assert "secret" not in repr(address)
