"""What a broker writes down, for auditors and for itself, also when it cannot write."""

import contextlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from furiosa.client.sync import Connection
from furiosa.common.errors import DeviceBusy, NotRecorded
from furiosa.common.selector import DeviceSpec
from support import failing_fsync
from support.clients import Raised, Steered
from support.daemon import BROKER, Daemon
from support.waiting import until

PE0, PE1 = DeviceSpec.parse("npu:0:0"), DeviceSpec.parse("npu:0:1")
TENANT = f"uid:{os.getuid()}"
ON_TMPFS = 'mount -t tmpfs -o size={size} tmpfs {folder} && exec "$@"'


def records(path: Path) -> list[dict[str, Any]]:
    """All that are whole."""
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    daemon = Daemon(1, "--recall-grace", "60")
    daemon.set("--audit-log", str(daemon.folder / "audit"))
    daemon.start()
    monkeypatch.setenv("FURIOSA_BROKER", daemon.environ["FURIOSA_BROKER"])
    yield daemon
    daemon.stop()


@pytest.fixture
def small() -> Iterator[Path]:
    """A folder on which a broker may mount a file system of its own; that ends with it."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts a small file system")
    folder = Path(tempfile.mkdtemp(prefix="fb"))
    yield folder
    folder.rmdir()


def on_tmpfs(folder: Path, size: str) -> tuple[str, ...]:
    """The broker as a program that sees an empty file system there."""
    return (
        *("unshare", "--mount", "sh", "-c", ON_TMPFS.format(size=size, folder=folder), "sh"),
        *BROKER,
    )


def come_and_go(connection: Connection) -> None:
    """Without end, for the last page of a file has room for some records on a full disk, too."""
    while True:
        lease = connection.acquire(PE1, 60)
        connection.release(lease.id)


def fill(path: Path) -> None:
    """As long as there is room for a byte."""
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


def test_grants_refusals_revocations_and_ends_are_written_down_with_their_facts(
    daemon: Daemon,
) -> None:
    with (
        Steered(daemon.environ) as owner,
        Steered(daemon.environ) as other,
        Connection.open(client="test") as connection,
    ):
        lease = owner.ask("acquire('npu:0:0', linger=60)")
        with pytest.raises(DeviceBusy):
            connection.acquire(PE0)
        secret = owner.ask(f"connection.secret({lease!r})")
        other.ask(f"connection.resume({lease!r}, {secret!r})")
        connection.revoke(lease, reason="an audit")
        other.ask(f"connection.release({lease!r})")
        assert connection.acquire(PE1)
    daemon.signal(signal.SIGTERM)
    daemon.wait()
    assert secret not in (daemon.folder / "audit").read_text()
    found = records(daemon.folder / "audit")
    times = [record.pop("at") for record in found]
    assert times == sorted(times)
    held = {"tenant": TENANT, "lease": lease, "devices": ["npu0pe0"]}
    first, second = ({"pid": client.pid, "uid": os.getuid()} for client in (owner, other))
    me = {"pid": os.getpid(), "uid": os.getuid()}
    cause = "revoked by an administrator: an audit"
    assert found[0] == {"event": "lease.granted", **first, **held, "waited": found[0]["waited"]}
    assert (
        found[1].pop("cause").startswith("Device npu:0:0 found but still in use: npu0pe0 is held")
    )
    refused = {"tenant": TENANT, "spec": "npu:0:0", "reason": "DEVICE_BUSY"}
    assert found[1] == {"event": "lease.refused", **me, **refused}
    assert found[2] == {"event": "lease.handed", **second, **held, "cause": ""}
    assert found[3] == {"event": "admin.revoke", **me, "tenant": TENANT, "lease": lease}
    assert found[4] == {"event": "lease.recalled", **second, **held, "cause": cause}
    ended = {"cause": "released by its owner", "held": found[5]["held"]}
    assert found[5] == {"event": "lease.ended", **second, **held, **ended}
    assert 0 <= found[0]["waited"] <= found[5]["held"]
    assert [record["event"] for record in found[6:]] == ["lease.granted", "lease.ended"]


async def test_a_renamed_file_is_followed_by_a_new_one(daemon: Daemon) -> None:
    path, old = daemon.folder / "audit", daemon.folder / "audit.1"
    with Connection.open(client="test") as connection:
        first = connection.acquire(PE0)
        await until(lambda: first.id in path.read_text())
        path.rename(old)
        second = connection.acquire(PE1)
        await until(lambda: second.id in old.read_text())
        daemon.signal(signal.SIGHUP)
        await until(path.exists)
        connection.release(first.id)
        await until(lambda: first.id in path.read_text())
        assert [record["event"] for record in records(path)] == ["lease.ended"]
        assert [record["lease"] for record in records(old)] == [first.id, second.id]


def test_a_full_disk_stops_no_grant_and_loses_no_record(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon(1, "--audit-log", str(small / "audit"), program=on_tmpfs(small, "64k"))
    daemon.start()
    monkeypatch.setenv("FURIOSA_BROKER", daemon.environ["FURIOSA_BROKER"])
    try:
        seen = Path(f"/proc/{daemon.pid}/root{small}")
        granted = []
        with Connection.open(client="test") as connection:
            fill(seen / "filler")
            while "audit.failed" not in daemon.log:
                granted.append(connection.acquire(PE0, 60).id)
                connection.release(granted[-1])
            granted.append(connection.acquire(PE0, 60).id)
            (seen / "filler").unlink()
            assert daemon.logged("audit.works").count("audit.failed") == 1
            found = records(seen / "audit")
        assert [r["lease"] for r in found if r["event"] == "lease.granted"] == granted
    finally:
        daemon.stop()


def test_without_room_for_the_journal_nothing_is_granted_and_nobody_is_hurt(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon = Daemon(1, "--state", str(small), program=on_tmpfs(small, "1m"))
    daemon.start()
    monkeypatch.setenv("FURIOSA_BROKER", daemon.environ["FURIOSA_BROKER"])
    try:
        seen = Path(f"/proc/{daemon.pid}/root{small}")
        with Connection.open(client="test") as connection, Steered(daemon.environ) as other:
            kept = other.ask("acquire('npu:0:0')")
            fill(seen / "filler")
            with pytest.raises(NotRecorded, match="No space left on device"):
                come_and_go(connection)
            assert [lease.id for lease in connection.leases()] == [kept], "no lease without record"
            daemon.logged("reason=NOT_RECORDED")
            other.ask(f"connection.release({kept!r})")
            (seen / "filler").unlink()
            connection.acquire(DeviceSpec.parse("npu:0:0-1"), 60)
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0
    finally:
        daemon.stop()


@pytest.fixture
def synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """Its disk fails as long as `tmp_path / "broken"` exists."""
    program = sys.executable, failing_fsync.__file__, str(tmp_path / "broken")
    daemon = Daemon(1, "--journal-sync", "always", program=program)
    daemon.start()
    monkeypatch.setenv("FURIOSA_BROKER", daemon.environ["FURIOSA_BROKER"])
    yield daemon
    daemon.stop()


def test_what_the_disk_does_not_confirm_is_not_granted(synced: Daemon, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    with Connection.open(client="test") as connection:
        first = connection.acquire(PE0)
        assert first.id in (synced.folder / "journal").read_text()
        broken.touch()
        for _ in range(2):
            with pytest.raises(NotRecorded, match="Input/output error"):
                connection.acquire(PE1, 60)
        synced.logged("journal.not_synced")
        assert first.id in {lease.id for lease in connection.leases()}
        broken.unlink()
        second = connection.acquire(PE1, 60)
        synced.signal(signal.SIGKILL)
        synced.wait()
    synced.start()
    with Connection.open(client="test") as connection:
        assert {lease.id for lease in connection.leases()} == {first.id, second.id}
        for lease in (first, second):
            connection.resume(lease.id)


def test_many_at_once_are_all_confirmed(synced: Daemon) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Steered(synced.environ)) for _ in range(4)]
        for client in clients:
            client.order("[connection.release(acquire('warboy(1)*1', 60)) for _ in range(20)]")
        assert [len(client.answer()) for client in clients] == [20] * 4
        with pytest.raises(Raised, match="UnknownDevice"):
            clients[0].ask("acquire('npu:9')")
