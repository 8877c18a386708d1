"""The broker that the first program of a user starts."""

import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from support.clients import Client

ATTACH = """
import sys
from furiosa.client.sync import Connection
with Connection.open(client="test") as connection:
    print(len(connection.devices()), flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Of a user who has nothing: no broker, an empty home."""
    home = tmp_path_factory.mktemp("h")
    home.chmod(0o700)
    removed = ("FURIOSA_BROKER", "FURIOSA_EMULATE")
    kept = {key: value for key, value in os.environ.items() if key not in removed}
    return {**kept, "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}


def log(environ: dict[str, str]) -> str:
    return Path(environ["XDG_RUNTIME_DIR"], "furiosa", "broker.log").read_text()


def broker_pids(environ: dict[str, str]) -> list[int]:
    """Of the brokers that said they are ready."""
    lines = [line for line in log(environ).splitlines() if "broker.ready" in line]
    return [int(line.rpartition("pid=")[2]) for line in lines]


def stop(environ: dict[str, str]) -> None:
    for pid in broker_pids(environ):
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        os.kill(pid, 15)
        assert select.select([pidfd], [], [], 60)[0]
        os.close(pidfd)


def test_ten_clients_at_once_start_one_broker(environ: dict[str, str]) -> None:
    clients = [Client(ATTACH, {**environ, "FURIOSA_EMULATE": "3"}) for _ in range(10)]
    try:
        assert [client.line() for client in clients] == ["3"] * 10
        assert len(broker_pids(environ)) == 1
    finally:
        for client in clients:
            with client:
                pass
        stop(environ)


def test_the_first_client_says_so_once(environ: dict[str, str]) -> None:
    try:
        script = ATTACH.replace("sys.stdin.read()", "")
        said = [
            subprocess.run(
                [sys.executable, "-c", script],
                env=environ,
                capture_output=True,
                text=True,
                check=True,
            )
            for _ in range(2)
        ]
        assert [done.stdout for done in said] == ["1\n", "1\n"]
        assert "started a broker with 1 emulated Warboy card(s)" in said[0].stderr
        assert said[1].stderr == ""
    finally:
        stop(environ)


def test_a_broker_that_cannot_start_says_why(environ: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ATTACH],
        env={**environ, "FURIOSA_BROKERD_DRAIN_GRACE": "soon"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "FURIOSA_BROKERD_DRAIN_GRACE is 'soon'" in done.stderr


def test_it_leaves_when_nobody_has_come_for_a_while(environ: dict[str, str]) -> None:
    """The time is a setting, here none to speak of; the real one is a minute."""
    folder = Path(environ["XDG_RUNTIME_DIR"])
    command = [
        *(sys.executable, "-m", "furiosa.broker", "--embedded", "--emulate", "1"),
        *("--socket", str(folder / "b.sock"), "--state", str(folder), "--idle-exit", "0.01"),
    ]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=60, check=True
    )
    assert "broker.ready" in done.stderr
    assert "broker.stopped" in done.stderr
    assert not (folder / "b.sock").exists()
