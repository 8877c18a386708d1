"""Learning of an owner's death: from both witnesses, once, and never from a liar."""

import asyncio
import dataclasses
import logging
import os
import platform
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from furiosa.broker import futex
from furiosa.broker.deathwatch import WORDS_PER_THREAD, DeathWatch
from furiosa.broker.owners import Owner, identify
from furiosa.common.channel import send
from support.mortal_client import MortalClient, mortal_client
from support.queues import open_descriptors

needs_futex = pytest.mark.skipif(
    not futex.is_supported(),
    reason="needs futex_waitv: Linux 5.16 and a seccomp filter that lets it",
)
THREADS = """
import threading
for _ in range(8):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
"""
FUTEX, SET_ROBUST_LIST = {"x86_64": (202, 273), "aarch64": (98, 99)}[platform.machine()]
WAKE = f"""
import ctypes
def wake():
    return ctypes.CDLL(None).syscall({FUTEX}, ctypes.byref(words[-1]), 1, 1)
"""

# what musl does: the lock word at offset 4, the list of robust mutexes at offset 16 (a pointer earlier or
# later makes no difference), and the distance between the two told to the kernel
MUSL = f"""
import ctypes, mmap, os
from furiosa.common.channel import receive
class Head(ctypes.Structure):
    _fields_ = ("next", ctypes.c_void_p), ("distance", ctypes.c_long), ("pending", ctypes.c_void_p)
_, (memory,) = receive(sessions[-1])
mapped = mmap.mmap(memory, 4096)
base = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
head = Head(base + 16, 4 - 16, None)
ctypes.c_void_p.from_address(base + 16).value = ctypes.addressof(head)
ctypes.c_uint32.from_address(base).value = 128 + 4
ctypes.c_uint32.from_address(base + 4).value = os.getpid()
answer = ctypes.CDLL(None).syscall({SET_ROBUST_LIST}, ctypes.byref(head), ctypes.sizeof(head))
"""


class Watch:
    """A DeathWatch with its sessions, and what it told."""

    def __init__(self) -> None:
        self.told: asyncio.Queue[int] = asyncio.Queue()
        self.deaths = DeathWatch(self.told.put_nowait)
        self.owners: list[Owner] = []

    def open(self, client: MortalClient, pidfd: int | None = None) -> Owner:
        """A session of `client` that has been given its memory; `pidfd` is watched instead of its own."""
        with client.accept() as sock:
            owner = identify(sock)
            if pidfd is not None:
                own, owner = owner, dataclasses.replace(owner, pidfd=pidfd)
                own.close()
            self.owners.append(owner)
            self.deaths.watch(owner)
            send(sock, b"\0", (self.deaths.memory_for(owner),))
        return owner

    async def next(self) -> int:
        return await asyncio.wait_for(self.told.get(), 20)

    async def close(self) -> None:
        await self.deaths.stop()
        for owner in self.owners:
            owner.close()


@pytest.fixture
async def watch() -> AsyncIterator[Watch]:
    before = open_descriptors()
    watch = Watch()
    await watch.deaths.start()
    yield watch
    await watch.close()
    assert open_descriptors() == before, "descriptors were left open"


@pytest.fixture
def client() -> Iterator[MortalClient]:
    folder = Path(tempfile.mkdtemp(prefix="fb", dir="/tmp"))
    with mortal_client(folder) as client:
        yield client
    shutil.rmtree(folder)


@pytest.fixture
def our_pidfd() -> int:
    """Of this process, which will not die: what is told then came by the futex."""
    return os.pidfd_open(os.getpid())


class _Listener(logging.Handler):
    def __init__(self, event: str) -> None:
        super().__init__(logging.DEBUG)
        self._event, self._loop = event, asyncio.get_running_loop()
        self.heard = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage().startswith(self._event):
            self._loop.call_soon_threadsafe(self.heard.set)


@pytest.fixture
async def dropped() -> AsyncIterator[asyncio.Event]:
    """Set when a word is no longer believed."""
    logger = logging.getLogger("furiosa.broker.deathwatch")
    handler, level = _Listener("deathwatch.word_dropped"), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler.heard
    logger.removeHandler(handler)
    logger.setLevel(level)


# deaths


async def test_owner_that_armed_nothing_is_told_of_by_its_pidfd(
    watch: Watch, client: MortalClient
) -> None:
    owner = watch.open(client)
    client.kill()
    assert await watch.next() == owner.key


@needs_futex
@pytest.mark.parametrize("prepare", ["", THREADS], ids=["one thread", "many threads"])
@pytest.mark.parametrize("end", ["kill", "exit", "abort"])
async def test_death_is_told_by_the_futex_alone(
    watch: Watch, client: MortalClient, our_pidfd: int, prepare: str, end: str
) -> None:
    owner = watch.open(client, our_pidfd)
    assert watch.deaths.arm(owner, client.arm())
    client.run(prepare)
    if end == "kill":
        client.kill()
    else:
        client.order("import os; os.abort()" if end == "abort" else "raise SystemExit(0)")
    assert await watch.next() == owner.key


@needs_futex
async def test_death_that_both_witness_is_told_once(watch: Watch, client: MortalClient) -> None:
    owner = watch.open(client)
    assert watch.deaths.arm(owner, client.arm())
    client.kill()
    assert await watch.next() == owner.key
    client.process.wait()
    await asyncio.sleep(0)  # the pidfd has been readable for a while now
    watch.deaths._died_in_thread(owner)  # as when the pidfd was faster than the thread
    await asyncio.sleep(0)
    assert watch.told.empty()


@needs_futex
async def test_owner_that_dies_while_it_is_being_armed_is_told_of(
    watch: Watch, client: MortalClient, our_pidfd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's mark, made between our look at the word and our store, is overwritten."""
    owner = watch.open(client, our_pidfd)
    thread_id = client.arm()
    assign = watch.deaths._assign

    def die_first(word: object) -> object:
        client.kill()
        while b") Z " not in Path(f"/proc/{client.pid}/stat").read_bytes():
            pass
        word.futex.value = word.expected  # type: ignore[attr-defined]  # the store comes last
        return assign(word)  # type: ignore[arg-type]  # a word

    monkeypatch.setattr(watch.deaths, "_assign", die_first)
    assert watch.deaths.arm(owner, thread_id)
    assert await watch.next() == owner.key


@needs_futex
async def test_mutex_of_musl_has_its_futex_elsewhere_and_is_found(
    watch: Watch, client: MortalClient, our_pidfd: int
) -> None:
    owner = watch.open(client, our_pidfd)
    assert client.run(MUSL) == "0"
    assert watch.deaths.arm(owner, client.pid)
    client.kill()
    assert await watch.next() == owner.key


@needs_futex
async def test_more_sessions_than_one_thread_can_wait_for(
    watch: Watch, client: MortalClient
) -> None:
    count = WORDS_PER_THREAD + 3
    for _ in range(count):
        owner = watch.open(client, os.pidfd_open(os.getpid()))
        assert watch.deaths.arm(owner, client.arm())
    assert len(watch.deaths._vigils) == 2
    client.kill()
    assert [await watch.next() for _ in range(count)] == [watch.owners[0].key] * count


@needs_futex
async def test_place_of_a_forgotten_session_is_used_again(
    watch: Watch, client: MortalClient, our_pidfd: int
) -> None:
    for _ in range(2 * WORDS_PER_THREAD):
        owner = watch.open(client, os.dup(our_pidfd))
        assert watch.deaths.arm(owner, client.arm())
        watch.deaths.forget(owner)
    owner = watch.open(client, our_pidfd)
    assert watch.deaths.arm(owner, client.arm())
    assert len(watch.deaths._vigils) == 1
    client.kill()
    assert await watch.next() == owner.key
    assert watch.told.empty()


async def test_forgotten_owner_dies_unnoticed(watch: Watch, client: MortalClient) -> None:
    forgotten, other = watch.open(client), watch.open(client)
    watch.deaths.forget(forgotten)
    watch.deaths.forget(forgotten)
    client.kill()
    assert await watch.next() == other.key
    assert watch.told.empty()


async def test_kernel_without_futex_waitv_leaves_the_pidfd(
    client: MortalClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(futex, "_SYS_FUTEX_WAITV", 9999)
    watch = Watch()
    await watch.deaths.start()
    owner = watch.open(client)
    assert not watch.deaths.arm(owner, client.arm())
    client.kill()
    assert await watch.next() == owner.key
    await watch.close()


# lies


@needs_futex
@pytest.mark.parametrize(
    "lie",
    [
        pytest.param("words[-1].value = 0x40000000; wake()", id="a mark of the kernel"),
        pytest.param("words[-1].value = 0xC0000000; wake()", id="the mark as the kernel leaves it"),
        pytest.param("words[-1].value = 0; wake()", id="unlocked"),
        pytest.param("while not wake(): pass", id="a wake for nothing"),
    ],
)
async def test_owner_that_lives_is_not_dead_whatever_its_memory_says(
    watch: Watch, client: MortalClient, dropped: asyncio.Event, lie: str
) -> None:
    owner = watch.open(client)
    assert watch.deaths.arm(owner, client.arm())
    client.run(f"{WAKE}\n{lie}")
    await asyncio.wait_for(dropped.wait(), 20)
    assert watch.told.empty()
    assert not watch.deaths._vigils[0]._words  # one lie is enough
    client.kill()
    assert await watch.next() == owner.key  # by the pidfd


@needs_futex
@pytest.mark.parametrize(
    "go_on",
    [
        pytest.param("import os; os.execlp('cat', 'cat', '-')", id="exec"),
        pytest.param(
            f"{THREADS}\nimport ctypes; ctypes.CDLL(None).pthread_exit(None)",
            id="its first thread ends",
        ),
    ],
)
async def test_process_that_goes_on_without_its_thread_is_not_dead(
    watch: Watch, client: MortalClient, dropped: asyncio.Event, go_on: str
) -> None:
    owner = watch.open(client)
    assert watch.deaths.arm(owner, client.arm())
    client.order(go_on)
    await asyncio.wait_for(dropped.wait(), 20)
    assert watch.told.empty()
    client.kill()
    assert await watch.next() == owner.key


async def test_owner_cannot_cut_the_memory_from_under_us(
    watch: Watch, client: MortalClient
) -> None:
    memory = watch.deaths.memory_for(watch.open(client))
    for size in (0, 1 << 20):
        with pytest.raises(PermissionError):
            os.ftruncate(memory, size)


async def test_only_a_mutex_that_the_first_thread_holds_is_watched(
    watch: Watch, client: MortalClient
) -> None:
    def armed(thread_id: int) -> bool:
        owner = watch.open(client)
        client.arm()
        return watch.deaths.arm(owner, thread_id)

    assert not armed(0)
    assert not armed(client.pid + 1)
    assert not armed(os.getpid())
    unlocked = watch.open(client)
    assert not watch.deaths.arm(unlocked, client.pid)
    other_thread = watch.open(client)
    client.arm()
    client.run(f"words[-1].value = {client.pid + 1}")
    assert not watch.deaths.arm(other_thread, client.pid + 1)


@needs_futex
async def test_arming_again_has_no_effect(watch: Watch, client: MortalClient) -> None:
    owner = watch.open(client)
    thread_id = client.arm()
    assert watch.deaths.arm(owner, thread_id)
    assert not watch.deaths.arm(owner, thread_id)
    client.kill()
    assert await watch.next() == owner.key
