import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.daemon import Daemon

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="session")
def daemon() -> Iterator[Daemon]:
    """A broker with one virtual card, for all examples, one after another."""
    made = Daemon(1)
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="session")
def environ(daemon: Daemon, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a user whose compiled programs are kept from one example to the next."""
    return {
        **daemon.environ,
        "FC_CACHE_ENABLED": "1",
        "FC_CACHE_STORE_URL": str(tmp_path_factory.mktemp("cache")),
        "PYTHONUNBUFFERED": "1",
    }


@pytest.fixture
def run(environ: dict[str, str]) -> Callable[..., str]:
    """Runs an example as its docstring says and returns what it prints."""

    def run(name: str, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, os.fspath(EXAMPLES / name), *arguments],
            env=environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
