from collections.abc import Iterator

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
