"""Entries in a real redis-server; and servers that are not there or do not answer."""

import logging
import socket
import sys
from collections.abc import Iterator

import pytest

from furiosa.tools.compiler.cache import compile_cached, open_results
from furiosa.tools.compiler.cache import redis as module
from furiosa.tools.compiler.cache.results import Results
from support import models
from support.redis_servers import PASSWORD, RedisServer, needs_redis, running

KEY = "a" * 64
NAME = f"furiosa:compiler:{KEY}"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running() as started:
        yield started


def results(url: str, lifetime: int = 60) -> Results:
    opened = open_results({"FC_CACHE_STORE_URL": url, "FC_CACHE_LIFETIME": str(lifetime)})
    assert opened
    return opened


@needs_redis
def test_a_result_is_found_by_the_next_one_who_asks(server: RedisServer) -> None:
    model = models.quantized(models.residual_cnn()).SerializeToString()
    made = compile_cached(model, results=results(server.url))
    assert compile_cached(model, results=results(server.url)) == made


@needs_redis
@pytest.mark.parametrize(("lifetime", "expiry"), [(60, 60), (-1, -1), (0, 2_592_000)])
def test_the_server_forgets_what_is_out_of_date(
    server: RedisServer, lifetime: int, expiry: int
) -> None:
    import redis

    results(server.url, lifetime).put(KEY, b"result")
    with redis.Redis(port=server.port, password=PASSWORD) as client:
        left = client.ttl(NAME)
    assert left == expiry or 0 <= expiry - left < 30
    assert results(server.url).get(KEY) == b"result"


@needs_redis
def test_an_endless_lifetime_is_no_error(server: RedisServer) -> None:
    results(server.url, 10**30).put(KEY, b"long")
    assert results(server.url, 10**30).get(KEY) == b"long"


@needs_redis
def test_a_corrupt_entry_is_removed(server: RedisServer) -> None:
    import redis

    with redis.Redis(port=server.port, password=PASSWORD) as client:
        client.set(NAME, b"garbage")
        assert results(server.url).get(KEY) is None
        assert client.get(NAME) is None


@needs_redis
def test_a_database_has_its_own_entries(server: RedisServer) -> None:
    results(f"{server.url}/1").put(KEY, b"one")
    results(f"{server.url}/2").put(KEY, b"two")
    assert results(f"{server.url}/1").get(KEY) == b"one"


@needs_redis
def test_a_wrong_password_is_a_warning_without_it(
    server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    cache = results(f"redis://:secret@127.0.0.1:{server.port}")
    assert cache.get(KEY) is None
    assert f"the compiler cache is not used: redis://127.0.0.1:{server.port}/0: " in caplog.text
    assert "secret" not in caplog.text


@needs_redis
def test_tls_is_spoken_with_a_server_whose_certificate_is_trusted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running(tls=True) as server:
        assert results(server.url).get(KEY) is None
        assert "certificate verify failed" in caplog.text
        caplog.clear()
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))
        results(server.url).put(KEY, b"result")
        assert results(server.url).get(KEY) == b"result"
        assert caplog.text == ""


@needs_redis
@pytest.mark.parametrize("host", ["127.0.0.1", "x" * 70])
def test_a_server_that_is_not_there_is_a_warning_and_a_miss(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as closed:  # bound, not listening: nobody else can take the port
        closed.bind(("127.0.0.1", 0))
        cache = results(f"redis://{host}:{closed.getsockname()[1]}")
        assert cache.get(KEY) is None
        cache.put(KEY, b"result")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@needs_redis
def test_a_server_that_does_not_answer_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        cache = results(f"redis://127.0.0.1:{silent.getsockname()[1]}")
        assert cache.get(KEY) is None
        cache.put(KEY, b"result")
        silent.settimeout(5)
        silent.accept()[0].close()
        silent.setblocking(False)
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert "Timeout" in caplog.text


def test_without_the_package_a_warning_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    assert results("redis://127.0.0.1:1").get(KEY) is None
    assert "pip install 'furiosa-broker[redis]'" in caplog.text
