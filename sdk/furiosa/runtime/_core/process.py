"""Whose an object is: a forked child has copies of locks and tasks, but not who would let go of them."""

import os

from furiosa.runtime._core.errors import FuriosaRuntimeError


class Process:
    """The process that makes it."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def is_this(self) -> bool:
        return os.getpid() == self._pid

    def check(self, what: str) -> None:
        """Raises: FuriosaRuntimeError in a forked child."""
        if os.getpid() != self._pid:
            raise FuriosaRuntimeError(
                f"this {what} belongs to process {self._pid}; a forked child creates its own"
            )
