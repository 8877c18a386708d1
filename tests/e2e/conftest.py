import threading
from collections.abc import Callable, Iterator

import pytest

from support.daemon import Daemon


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A broker with one virtual card; this process's default one, too."""
    made = Daemon(1)
    made.start()
    monkeypatch.setenv("FURIOSA_BROKER", made.environ["FURIOSA_BROKER"])
    yield made
    made.stop()


@pytest.fixture
def in_thread() -> Iterator[Callable[[Callable[[], object]], threading.Thread]]:
    """Starts what it is given in a thread, which has ended when the test has."""
    threads: list[threading.Thread] = []

    def start(run: Callable[[], object]) -> threading.Thread:
        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join()
