"""One page, and who makes it."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    status: HTTPStatus
    content: bytes
    content_type: str = TEXT

    @classmethod
    def of(cls, status: HTTPStatus, line: str) -> "Page":
        return cls(status, f"{line}\n".encode())


Answer = Callable[[str], Awaitable[Page]]  # from the request's Accept header
