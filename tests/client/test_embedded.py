"""The user's own broker: whose folder, started once, and what is said when it does not start."""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from furiosa.client import embedded
from furiosa.client._async import attach as async_attach
from furiosa.client._sync.attach import attach_embedded
from furiosa.client.embedded import Home
from furiosa.common.errors import BadArgument, BrokerDraining, BrokerUnavailable
from support.fake_broker import FakeBroker, Peer

SAID = "furiosa: started a broker with"


@pytest.fixture
def runtime_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """$XDG_RUNTIME_DIR of a user who has nothing yet; ends the daemons that a test started there."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    path = Path(tempfile.mkdtemp(prefix="fb", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    monkeypatch.delenv("FURIOSA_EMULATE", raising=False)
    yield path
    for start in starts(path):
        try:
            pidfd = os.pidfd_open(start["pid"])
        except ProcessLookupError:
            continue
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        select.select([pidfd], [], [])
        os.close(pidfd)
    shutil.rmtree(path)


def starts(runtime_folder: Path) -> list[dict[str, Any]]:
    file = runtime_folder / "furiosa" / "starts"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def fake(home: Home, ready_fd: int) -> Sequence[str]:
    return sys.executable, "-m", "support.fake_daemon", home.address.path, str(ready_fd)


def python(code: str) -> embedded.Command:
    return lambda home, ready_fd: (sys.executable, "-c", code, str(ready_fd))


# the folder


def test_folder_is_made_for_the_user_alone(runtime_folder: Path) -> None:
    home = embedded.home(os.environ)
    assert home.folder == str(runtime_folder / "furiosa")
    assert home.address.path == str(runtime_folder / "furiosa" / "broker.sock")
    assert os.stat(home.folder).st_mode & 0o777 == 0o700
    assert embedded.home(os.environ) == home  # and then it is there


def test_without_a_runtime_folder_of_our_own_the_temp_folder_serves(
    runtime_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(runtime_folder))
    expected = str(runtime_folder / f"furiosa-{os.geteuid()}")
    shared = runtime_folder / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    for value in (str(shared), str(runtime_folder / "absent"), "relative", ""):
        assert embedded.home({"XDG_RUNTIME_DIR": value}).folder == expected
    assert embedded.home({}).folder == expected


def replace_by_link(folder: Path) -> None:
    target = folder.parent / "elsewhere"
    target.mkdir(mode=0o700)
    folder.symlink_to(target)


def replace_by_file(folder: Path) -> None:
    folder.write_text("")
    folder.chmod(0o600)


def open_to_others(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o711)


@pytest.mark.parametrize("plant", [replace_by_link, replace_by_file, open_to_others])
def test_folder_that_somebody_else_could_have_planted_is_refused(
    runtime_folder: Path, plant: Callable[[Path], None]
) -> None:
    plant(runtime_folder / "furiosa")
    with pytest.raises(BrokerUnavailable, match="nobody else may enter"):
        embedded.home(os.environ)


def test_folder_of_another_user_is_refused(
    runtime_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(runtime_folder))
    someone_else = os.geteuid() + 1
    (runtime_folder / f"furiosa-{someone_else}").mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: someone_else)
    with pytest.raises(BrokerUnavailable, match=f"directory of user {someone_else}"):
        embedded.home({})


@pytest.mark.parametrize(("text", "number"), [(None, 1), ("", 1), ("1", 1), ("16", 16)])
def test_number_of_cards(text: str | None, number: int) -> None:
    assert embedded.cards({} if text is None else {"FURIOSA_EMULATE": text}) == number


@pytest.mark.parametrize("text", ["0", "17", "-1", "two", "1.0", "01", " 1", "²"])
def test_bad_number_of_cards_is_refused(text: str) -> None:
    with pytest.raises(BadArgument, match=r"FURIOSA_EMULATE is .* expected .* from 1 to 16"):
        embedded.cards({"FURIOSA_EMULATE": text})


def test_command_is_the_contract_with_the_daemon(runtime_folder: Path) -> None:
    home = embedded.home({**os.environ, "FURIOSA_EMULATE": "3"})
    assert " ".join(embedded.command(home, 9)) == (
        f"{sys.executable} -P -m furiosa.broker --embedded --socket {home.address.path} "
        f"--state {home.folder} --emulate 3 --ready-fd 9 --idle-exit 60"
    )


# the start


def test_first_use_starts_a_broker_and_the_next_finds_it(
    runtime_folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first = attach_embedded("one", os.environ, fake)
    second = attach_embedded("two", os.environ, fake)
    first.close()
    second.close()
    assert len(starts(runtime_folder)) == 1
    log = runtime_folder / "furiosa" / "broker.log"
    assert (
        capfd.readouterr().err == f"{SAID} 1 emulated Warboy card(s) for this user (log: {log})\n"
    )


def test_async_twin_starts_one_too(runtime_folder: Path) -> None:
    async def main() -> None:
        session = await async_attach.attach_embedded("one", os.environ, fake)
        session.close()

    anyio.run(main)
    assert len(starts(runtime_folder)) == 1


def test_ten_processes_at_once_start_one_broker(runtime_folder: Path) -> None:
    code = (
        "import os, sys\n"
        "from furiosa.client._sync.attach import attach_embedded\n"
        "def fake(home, fd):\n"
        "    return sys.executable, '-m', 'support.fake_daemon', home.address.path, str(fd)\n"
        "sys.stdin.read()\n"  # all begin when the pipe closes
        "session = attach_embedded('one of ten', os.environ, fake)\n"
        "print(session.welcome.session_token)\n"
        "session.close()\n"
    )
    reading, writing = os.pipe()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=reading,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(10)
    ]
    os.close(reading)
    os.close(writing)
    said = [process.communicate(timeout=60) for process in started]
    assert [len(out.strip()) for out, _ in said] == [64] * 10
    assert sorted(SAID in err for _, err in said) == [False] * 9 + [True]
    assert len(starts(runtime_folder)) == 1


def test_broker_inherits_nothing_and_is_nobodys_child(runtime_folder: Path) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    before = children.read_text()
    try:
        attach_embedded("one", os.environ, fake).close()
    finally:
        os.close(reading)
        os.close(writing)
    assert children.read_text() == before
    (start,) = starts(runtime_folder)
    log = str(runtime_folder / "furiosa" / "broker.log")
    assert start["files"][:3] == ["/dev/null", log, log]
    assert [file.partition(":")[0] for file in start["files"][3:]] == ["pipe"]
    assert start["session"] != os.getsid(0)
    assert Path(f"/proc/{start['pid']}/cwd").readlink() == runtime_folder / "furiosa"


def test_broker_that_ends_at_once_is_reported_with_its_last_words(runtime_folder: Path) -> None:
    log = runtime_folder / "furiosa" / "broker.log"
    log.parent.mkdir(mode=0o700)
    log.write_text("an older line\n")
    command = python("import sys; print('first'); sys.exit('no card reader found')")
    with pytest.raises(BrokerUnavailable) as caught:
        attach_embedded("one", os.environ, command)
    assert caught.value.address == f"unix:{runtime_folder}/furiosa/broker.sock"
    assert "ended before it was ready" in caught.value.cause
    assert caught.value.cause.endswith(f"{log}:\nfirst\nno card reader found")


def test_command_that_does_not_exist_is_reported(runtime_folder: Path) -> None:
    with pytest.raises(BrokerUnavailable, match="No such file or directory"):
        attach_embedded("one", os.environ, lambda home, fd: ("/nonexistent/broker", str(fd)))


def test_broker_that_never_gets_ready_is_killed(
    runtime_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START_SECONDS", 0.5)
    command = python(
        "import os, sys, signal\n"
        "open('pid', 'w').write(str(os.getpid()))\n"
        "os.write(int(sys.argv[1]), b'REA')\n"
        "signal.pause()\n"
    )
    with pytest.raises(BrokerUnavailable, match=r"not ready within 0\.5 s; .*log is empty"):
        attach_embedded("one", os.environ, command)
    pid = int((runtime_folder / "furiosa" / "pid").read_text())
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    assert select.select([pidfd], [], [], 20)[0], "it was left running"
    os.close(pidfd)


def test_cancelled_start_leaves_neither_broker_nor_lock(runtime_folder: Path) -> None:
    reading, writing = os.pipe()
    command = python("import signal; signal.pause()")

    def noticed(home: Home, ready_fd: int) -> Sequence[str]:
        os.write(writing, b"x")
        return command(home, ready_fd)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(async_attach.attach_embedded, "one", os.environ, noticed)
            await anyio.wait_readable(reading)
            group.cancel_scope.cancel()

    anyio.run(main)
    os.close(reading)
    os.close(writing)
    lock = embedded.try_lock(embedded.home(os.environ))
    assert lock is not None
    os.close(lock)
    attach_embedded("two", os.environ, fake).close()


def leave(peer: Peer) -> None:
    peer.hang_up()


def leave_politely(peer: Peer) -> None:
    peer.fail(BrokerDraining())


@pytest.mark.parametrize("last_words", [leave, leave_politely])
def test_broker_that_is_just_leaving_is_replaced(
    runtime_folder: Path, last_words: Callable[[Peer], None]
) -> None:
    home = embedded.home(os.environ)

    def greet(peer: Peer) -> None:
        os.unlink(home.address.handoff)
        last_words(peer)

    with FakeBroker(home.address.path, greet=greet) as leaving:
        attach_embedded("one", os.environ, fake).close()
        assert leaving.hellos == ["one"]
        assert len(starts(runtime_folder)) == 1


def test_who_waits_for_the_lock_uses_the_broker_that_was_started_meanwhile(
    runtime_folder: Path,
) -> None:
    home = embedded.home(os.environ)
    lock = embedded.try_lock(home)
    assert lock is not None
    assert embedded.try_lock(home) is None

    async def main() -> None:
        with contextlib.ExitStack() as stack:
            async with anyio.create_task_group() as group:
                group.start_soon(attach_and_close)
                await anyio.lowlevel.checkpoint()  # it finds nobody, and the lock taken
                stack.enter_context(FakeBroker(home.address.path))
                os.close(lock)

    async def attach_and_close() -> None:
        session = await async_attach.attach_embedded("late", os.environ, fake)
        session.close()

    anyio.run(main)
    assert starts(runtime_folder) == []
