"""Who is at the other end of a socket, and that it is nobody else."""

import os
import shutil
import signal
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from furiosa.broker import owners
from furiosa.broker.deathwatch import CHECKS
from furiosa.broker.owners import Owner, Unidentified, identify
from support.mortal_client import MortalClient, mortal_client
from support.queues import open_descriptors


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="fb", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def client(folder: Path) -> Iterator[MortalClient]:
    with mortal_client(folder, "first", "two words", "ä") as client:
        yield client


@pytest.fixture
def sock(client: MortalClient) -> Iterator[socket.socket]:
    with client.accept() as sock:
        yield sock


@pytest.fixture
def owner(sock: socket.socket) -> Iterator[Owner]:
    owner = identify(sock)
    yield owner
    owner.close()


def ticks(pid: int) -> int:
    """Start time, read the simple way: only for a name without blanks and parentheses."""
    return int(Path(f"/proc/{pid}/stat").read_text().split()[21])


def test_the_kernel_names_the_peer(client: MortalClient, owner: Owner) -> None:
    assert (owner.pid, owner.uid, owner.gid) == (client.pid, os.geteuid(), os.getegid())
    assert owner.start_time_ticks == ticks(client.pid)
    assert owner.is_alive
    assert not os.get_inheritable(owner.pidfd)


def test_one_process_has_one_key_and_another_process_another(
    client: MortalClient, owner: Owner
) -> None:
    with client.accept() as second, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ours:
        ours.connect(client.listener.getsockname())
        accepted, _ = client.listener.accept()
        same, other = identify(second), identify(accepted)
        accepted.close()
    assert same.key == owner.key
    assert same.pidfd != owner.pidfd
    assert other.key != owner.key
    assert other.pid == os.getpid()
    same.close()
    other.close()


# a child with all descriptors of its parent
FORK = """
import os, signal
answer = os.fork()
if answer == 0:
    signal.alarm(60)
    signal.pause()
"""


def test_key_is_not_the_pid_which_comes_round_again(client: MortalClient, owner: Owner) -> None:
    inode = os.fstat(owner.pidfd).st_ino
    if (os.fstat(owner.pidfd).st_dev, inode) == owners._anonymous_inode():
        assert owner.key == ticks(client.pid) << 32 | client.pid  # before Linux 6.9
    else:
        assert owner.key == inode


def test_who_connected_counts_not_who_inherited(client: MortalClient, sock: socket.socket) -> None:
    child = int(client.run(FORK))
    owner = identify(sock)
    assert owner.pid == client.pid
    client.kill()
    client.process.wait()
    assert not owner.is_alive
    with pytest.raises(Unidentified, match=f"pid {client.pid}, which has ended"):
        identify(sock)
    os.kill(child, signal.SIGKILL)
    owner.close()


def test_name_with_blanks_and_parentheses_does_not_confuse(
    client: MortalClient, sock: socket.socket
) -> None:
    start = ticks(client.pid)
    client.run("open('/proc/self/comm', 'w').write('a) S 1 (b')")
    owner = identify(sock)
    assert owner.start_time_ticks == start
    owner.close()


def test_command_line_has_its_arguments_joined_with_blanks(owner: Owner) -> None:
    assert owner.command_line.endswith(" first two words ä")


def test_command_line_of_a_dead_process_is_the_last_one_known(
    client: MortalClient, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = owner.command_line
    client.kill()
    client.process.wait()
    monkeypatch.setattr(owners, "COMMAND_LINE_SECONDS", 0.0)
    assert not owner.is_alive
    assert owner.command_line == known


def test_command_line_is_read_again_when_it_is_old(
    client: MortalClient, owner: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "first" in owner.command_line
    client.order("import os; os.execlp('cat', 'cat', '-')")
    while Path(f"/proc/{client.pid}/cmdline").read_bytes() != b"cat\0-\0":
        pass
    assert "first" in owner.command_line  # for a second
    monkeypatch.setattr(owners, "COMMAND_LINE_SECONDS", 0.0)
    assert owner.command_line == "cat -"


def test_command_line_is_bounded_and_always_text(folder: Path) -> None:
    with mortal_client(folder, "\udcff\udcfe", "x" * 10_000) as client, client.accept() as sock:
        owner = identify(sock)
        assert len(owner.command_line) <= owners.COMMAND_LINE_BYTES
        assert " \ufffd\ufffd xxx" in owner.command_line
        owner.close()


def test_peer_that_died_before_it_was_asked_for_is_refused(
    client: MortalClient, sock: socket.socket
) -> None:
    client.kill()
    client.process.wait()
    with pytest.raises(Unidentified, match=f"pid {client.pid}, which has ended"):
        identify(sock)


def test_zombie_is_refused(client: MortalClient, sock: socket.socket) -> None:
    pidfd = os.pidfd_open(client.pid)
    client.kill()
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    os.close(pidfd)
    with pytest.raises(Unidentified, match="which has ended"):
        identify(sock)


def test_refusals_leave_no_descriptor(client: MortalClient, sock: socket.socket) -> None:
    client.kill()
    client.process.wait()
    before = open_descriptors()
    for _ in range(3):
        with pytest.raises(Unidentified):
            identify(sock)
    assert open_descriptors() == before


class SocketFromAnotherNamespace(socket.socket):
    def getsockopt(self, level: int, name: int, length: int = 0) -> bytes:  # type: ignore[override]  # only for SO_PEERCRED
        return struct.pack("3i", 0, 65534, 65534)


def test_peer_in_a_namespace_out_of_sight_is_refused_with_the_remedy() -> None:
    with SocketFromAnotherNamespace(socket.AF_UNIX) as sock, pytest.raises(Unidentified) as caught:
        identify(sock)
    assert "hostPID" in str(caught.value)


# a kernel that has no SO_PEERPIDFD


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(owners, "SO_PEERPIDFD", 9999)


@pytest.mark.usefixtures("old_kernel")
def test_pid_is_as_good_while_the_peer_is_connected(
    client: MortalClient, sock: socket.socket
) -> None:
    owner = identify(sock)
    assert (owner.pid, owner.is_alive) == (client.pid, True)
    owner.close()


@pytest.mark.usefixtures("old_kernel")
def test_peer_that_hung_up_is_refused_for_its_pid_may_be_another_process(
    client: MortalClient, sock: socket.socket
) -> None:
    client.run(
        "sessions[0].close(); print()"
    )  # its pid is still there, as a new process's would be
    with pytest.raises(Unidentified, match="which has ended"):
        identify(sock)


@pytest.mark.usefixtures("old_kernel")
def test_dead_peer_is_refused(client: MortalClient, sock: socket.socket) -> None:
    client.kill()
    client.process.wait()
    with pytest.raises(Unidentified, match="which has ended"):
        identify(sock)


def test_key_without_inodes_of_pidfds_is_made_of_start_time_and_pid(
    client: MortalClient, sock: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = identify(sock)
    status = os.fstat(real.pidfd)
    monkeypatch.setattr(owners, "_anonymous_inode", lambda: (status.st_dev, status.st_ino))
    owner = identify(sock)
    assert owner.key == ticks(client.pid) << 32 | client.pid
    owner.close()
    real.close()


# on the way out


THREADS = """
import threading
for _ in range(8):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""


def test_living_process_is_not_ending(client: MortalClient, owner: Owner) -> None:
    client.run(THREADS)
    assert not owners.is_ending(owner)


def test_process_whose_first_thread_alone_has_ended_is_not_ending(
    client: MortalClient, owner: Owner
) -> None:
    client.run(THREADS)
    client.order("import ctypes; ctypes.CDLL(None).pthread_exit(None)")
    while " Z " not in Path(f"/proc/{client.pid}/stat").read_text():
        pass
    assert Path(f"/proc/{client.pid}/cmdline").read_bytes() == b""  # as if it were dead
    assert not owners.is_ending(owner)


def test_killed_process_is_ending_before_and_after_it_is_reaped(
    client: MortalClient, owner: Owner
) -> None:
    client.run(THREADS)
    client.kill()
    # at once: the kernel has marked every thread, but for some microseconds of each one's way out
    assert any(owners.is_ending(owner) for _ in range(CHECKS))
    client.process.wait()
    assert owners.is_ending(owner)


def test_stopped_process_is_not_ending(client: MortalClient, owner: Owner) -> None:
    os.kill(client.pid, signal.SIGSTOP)
    assert not owners.is_ending(owner)


def test_first_thread_of_a_process_has_its_number() -> None:
    assert owners.first_thread_id(os.getpid()) == os.getpid()
    assert owners.first_thread_id(2**22 + 1) is None
