"""Learns of the death of session owners, as early as the kernel can tell.

Two witnesses: the pidfd, which always comes, but only after the kernel has torn down the process's
memory (4 ms for a small process, 240 ms at 3 GB); and the robust mutex that the owner's first thread
holds in memory that we made, whose futex the kernel wakes before that, in 0.4 ms at any size.

The owner can write to that memory, so nothing in it is believed: a word that changes without its process
being on the way out is no longer watched, and the pidfd remains. A word gets one chance; its owner
cannot keep us busy.
Source: robust-futex-ABI, futex2 and proc_pid_stat(5) of the kernel.
"""

import asyncio
import ctypes
import fcntl
import logging
import mmap
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from furiosa.broker import futex
from furiosa.broker.log import event
from furiosa.broker.owners import Owner, first_thread_id, is_ending

log = logging.getLogger(__name__)

MEMORY_BYTES: Final = 4096
SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
LOCK_WORDS: Final = (0, 4)  # where pthread_mutex_t has its futex: glibc, musl
WORDS_PER_THREAD: Final = futex.MOST_WORDS - 1
CHECKS: Final = 5  # a thread that is being killed shows neither mark for some microseconds


class _Word:
    """A futex in an owner's memory. `expected` is what it holds as long as its owner lives."""

    def __init__(self, owner: Owner, futex_word: ctypes.c_uint32, expected: int) -> None:
        self.owner = owner
        self.futex = futex_word
        self.expected = expected

    def tells_of_death(self) -> bool:
        """Whether the kernel has marked it and its process really is ending."""
        if not self.futex.value & futex.OWNER_DIED:
            return False
        return any(is_ending(self.owner) for _ in range(CHECKS))


class _Vigil:
    """One thread that waits for the words of up to 127 owners; `on_death` is called in that thread."""

    def __init__(self, on_death: Callable[[Owner], None]) -> None:
        self._on_death = on_death
        self._lock = threading.Lock()
        self._words: set[_Word] = set()
        self._stopped = False
        self._changes = ctypes.c_uint32(0)  # the first word that the thread waits for
        self._thread = threading.Thread(target=self._run, name="deathwatch", daemon=True)
        self._thread.start()

    def add(self, word: _Word) -> bool:
        """False when there is no room."""
        with self._lock:
            if self._stopped or len(self._words) >= WORDS_PER_THREAD:
                return False
            self._words.add(word)
            self._interrupt()
            return True

    def remove(self, word: _Word) -> None:
        with self._lock:
            if word in self._words:
                self._words.remove(word)
                self._interrupt()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            self._interrupt()
        self._thread.join()

    def _interrupt(self) -> None:
        self._changes.value += 1
        futex.wake(self._changes)

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._stopped:
                    return
                words = tuple(self._words)  # also keeps their memory mapped during the wait
                changes = (self._changes, self._changes.value)
            try:
                woken = futex.wait_any([changes, *((word.futex, word.expected) for word in words)])
            except OSError as exc:
                event(log, "deathwatch.failed", logging.ERROR, cause=exc, left="pidfds")
                with self._lock:
                    self._stopped = True
                return
            self._look(words, woken)
            del (
                words
            )  # or the last of those that are forgotten now would stay mapped, and its file open

    def _look(self, words: tuple[_Word, ...], woken: int | None) -> None:
        """A wake without a change is the owner's doing, like a change without a death. An owner that flips
        its word back and forth to wake us for nothing is caught by the first look that finds it flipped,
        and while it is not flipped we sleep.
        """
        for index, word in enumerate(words, start=1):
            if index == woken or word.futex.value != word.expected:
                self._judge(word)

    def _judge(self, word: _Word) -> None:
        with self._lock:
            if word not in self._words:
                return  # forgotten meanwhile
            self._words.remove(word)
        if word.tells_of_death():
            self._on_death(word.owner)
        else:
            event(log, "deathwatch.word_dropped", logging.DEBUG, pid=word.owner.pid)


@dataclass(slots=True)
class _Watched:
    """`memory` stays open for a successor of this process; `thread_id` 0: it is not armed."""

    memory: int | None = None
    thread_id: int = 0
    word: _Word | None = None
    vigil: _Vigil | None = None
    fired: bool = False


class DeathWatch:
    """Calls `on_death(owner.key)` in the loop, once for each watched owner that dies.

    All methods must be called in the loop's thread. An owner must be forgotten before it is closed.
    """

    def __init__(self, on_death: Callable[[int], None]) -> None:
        self._on_death = on_death
        self._watched: dict[Owner, _Watched] = {}
        self._vigils: list[_Vigil] = []
        self._has_futex = False

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._has_futex = futex.is_supported()

    async def stop(self) -> None:
        """Forgets everybody."""
        for owner in tuple(self._watched):
            self.forget(owner)
        for vigil in self._vigils:
            vigil.stop()
        self._vigils.clear()

    def watch(self, owner: Owner) -> None:
        self._watched[owner] = _Watched()
        self._loop.add_reader(owner.pidfd, self._died, owner, "pidfd")

    def memory_for(self, owner: Owner) -> int:
        """Memory in which `owner` may lock a robust mutex, at offset 0; ours, until `arm` or `forget`."""
        watched = self._watched[owner]
        if watched.memory is None:
            memory = os.memfd_create("furiosa-death", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            watched.memory = memory
            os.ftruncate(memory, MEMORY_BYTES)
            # an owner that could truncate it would kill us by SIGBUS
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, SEALS)
        return watched.memory

    def arm(self, owner: Owner, thread_id: int) -> bool:
        """Watch the mutex that thread `thread_id` of `owner` says it holds; whether that is so.

        `thread_id` is as the owner sees it in its own process namespace. Only the process's first thread
        will do: another one may end long before the process does.
        """
        return self._arm(owner, thread_id, (thread_id,))

    def armed(self, owner: Owner) -> tuple[int, int] | None:
        """Memory and thread for `restore` in a successor; the descriptor stays ours. None: not armed."""
        watched = self._watched[owner]
        if watched.memory is None or watched.thread_id == 0:
            return None
        return watched.memory, watched.thread_id

    def restore(self, owner: Owner, memory: int, thread_id: int) -> bool:
        """As `arm`, for memory that a broker before has armed; takes it. `owner` is being watched."""
        self._watched[owner].memory = memory
        return self._arm(owner, thread_id, (thread_id, thread_id | futex.WAITERS))

    def _arm(self, owner: Owner, thread_id: int, held: tuple[int, ...]) -> bool:
        watched = self._watched[owner]
        if watched.memory is None or watched.thread_id:
            return False
        mapped = mmap.mmap(watched.memory, MEMORY_BYTES)
        if not self._has_futex or thread_id == 0 or thread_id != first_thread_id(owner.pid):
            return False
        for offset in LOCK_WORDS:
            word = ctypes.c_uint32.from_buffer(mapped, offset)
            if word.value in held:
                # The kernel wakes only if a waiter has announced itself in the word. A plain store
                # (four aligned bytes) will do, for the owner never unlocks as long as it lives and
                # its session does. It may die between our look and the store, which then hides the
                # kernel's mark: but by then it is ending, and the last line of this function sees that.
                watched.thread_id = thread_id
                watched.word = _Word(owner, word, thread_id | futex.WAITERS)
                word.value = watched.word.expected
                watched.vigil = self._assign(watched.word)
                if is_ending(owner):
                    self._died(owner, "futex")
                return True
        return False

    def forget(self, owner: Owner) -> None:
        """No effect on one that is not watched."""
        watched = self._watched.pop(owner, None)
        if watched is None:
            return
        if not watched.fired:
            self._loop.remove_reader(owner.pidfd)
        if watched.vigil is not None and watched.word is not None:
            watched.vigil.remove(watched.word)
        if watched.memory is not None:
            os.close(watched.memory)

    def _assign(self, word: _Word) -> _Vigil:
        for vigil in self._vigils:
            if vigil.add(word):
                return vigil
        vigil = _Vigil(self._died_in_thread)
        self._vigils.append(vigil)
        vigil.add(word)
        return vigil

    def _died_in_thread(self, owner: Owner) -> None:
        self._loop.call_soon_threadsafe(self._died, owner, "futex")

    def _died(self, owner: Owner, witness: str) -> None:
        watched = self._watched.get(owner)
        if watched is None or watched.fired:
            return
        watched.fired = True
        self._loop.remove_reader(owner.pidfd)
        event(log, "owner.died", pid=owner.pid, witness=witness)
        self._on_death(owner.key)
