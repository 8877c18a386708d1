"""Who a client is, as far as somebody else vouches for it: the kernel, a certificate authority, a token.

A local client has `uid` and `gid`, and `container` when it is in one; a remote one has either the
`subject` of its certificate or the name of its `token`.
"""

import functools
import re
from dataclasses import dataclass
from typing import Final

from furiosa.broker.containers import ROOTLESS
from furiosa.common.views import Container

ANY: Final = "*"

_SHORT_ID: Final = re.compile(r"[0-9a-f]{12,64}")
_PAIR: Final = re.compile(r"(?:[^\\,]|\\.)+", re.DOTALL)
_PART: Final = re.compile(r"(?:[^\\+]|\\.)+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Principal:
    uid: int | None = None
    gid: int | None = None
    container: Container | None = None
    subject: str = ""  # RFC 4514
    token: str = ""
    groups: frozenset[int] = frozenset()  # besides `gid`

    @property
    def is_own_master(self) -> bool:
        """Whether `uid` says who it is. In a container of root's, whoever made its image chose it."""
        return self.uid is not None and (self.container is None or self.is_rootless)

    @property
    def is_rootless(self) -> bool:
        return self.container is not None and self.container.runtime.startswith(ROOTLESS)

    def __str__(self) -> str:
        """What it is called as a tenant of its own: no name in a tenants file has a colon."""
        if self.uid is None:
            return f"subject:{self.subject}" if self.subject else f"token:{self.token}"
        if self.container is None or self.is_rootless:
            return f"uid:{self.uid}"
        if self.container.pod_uid:
            return f"pod:{self.container.pod_uid}"
        return f"container:{self.container.id or self.container.runtime}"


@dataclass(frozen=True, slots=True)
class Match:
    """What must all hold of a client. `ANY` of a text: there is one; an empty text says nothing.

    Without `pod_uid` and `container` it is about people on the machine, and about nobody in a container
    of root's; with them it is about nobody else.
    """

    uid: int | None = None
    gid: int | None = None
    pod_uid: str = ""
    container: str = ""
    subject: str = ""

    def admits(self, who: Principal) -> bool:
        if self.subject:
            return bool(who.subject) and _subject_fits(self.subject, who.subject)
        if who.uid is None:
            return False
        if self.uid is not None and who.uid != self.uid:
            return False
        if self.gid is not None and who.gid != self.gid and self.gid not in who.groups:
            return False
        if not self.pod_uid and not self.container:
            return who.is_own_master
        if who.container is None or who.is_rootless:
            return False
        return _pod_fits(self.pod_uid, who.container) and _id_fits(self.container, who.container)

    def covers(self, later: "Match") -> bool:
        """Whether it takes everybody whom `later` would, so that `later` never gets anybody."""
        if self.subject or later.subject:
            return bool(later.subject) and self.subject in (ANY, later.subject)
        here = self.pod_uid or self.container
        there = later.pod_uid or later.container
        return (
            bool(here) == bool(there)
            and self.uid in (None, later.uid)
            and self.gid in (None, later.gid)
            and (
                self.pod_uid in ("", later.pod_uid) or (self.pod_uid == ANY and bool(later.pod_uid))
            )
            and (self.container == ANY or later.container.startswith(self.container))
        )

    def __str__(self) -> str:
        shown = {
            "uid": self.uid,
            "gid": self.gid,
            "pod-uid": self.pod_uid or None,
            "container": self.container or None,
            "subject": self.subject or None,
        }
        return ", ".join(f"{key} {value}" for key, value in shown.items() if value is not None)


def is_subject_pattern(text: str) -> bool:
    """Whether it is `*`, or attributes with values in which each `*` stands for any text."""
    if text == ANY:
        return True
    parts = [part for pair in _pairs(text) for part in pair]
    names = [part.partition("=") for part in parts]
    return bool(parts) and all(equals and name and ANY not in name for name, equals, _ in names)


def is_container_id(text: str) -> bool:
    """Whether it is one, or its beginning as runtimes show it."""
    return _SHORT_ID.fullmatch(text) is not None


def _pod_fits(wanted: str, container: Container) -> bool:
    return not wanted or wanted == container.pod_uid or (wanted == ANY and bool(container.pod_uid))


def _id_fits(wanted: str, container: Container) -> bool:
    if wanted == ANY:
        return bool(container.id or container.pod_uid)
    return container.id.startswith(wanted)


def _subject_fits(pattern: str, subject: str) -> bool:
    """Part by part: a `*` must not reach over a comma into the next attribute, where another rules."""
    if pattern == ANY:
        return True
    wanted, found = _pairs(pattern), _pairs(subject)
    return len(wanted) == len(found) and all(
        len(mine) == len(theirs) and all(map(_fits, mine, theirs))
        for mine, theirs in zip(wanted, found, strict=True)
    )


def _fits(pattern: str, text: str) -> bool:
    return _compiled(pattern).fullmatch(text) is not None


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split(ANY))), re.DOTALL)


@functools.lru_cache(maxsize=1024)
def _pairs(subject: str) -> tuple[tuple[str, ...], ...]:
    """`CN=a+UID=7,O=x` as (("CN=a", "UID=7"), ("O=x",)); what a backslash precedes divides nothing.

    A value that begins with a blank has a backslash before it, so blanks after a comma are for looks.
    """
    return tuple(
        tuple(part.lstrip(" ") for part in _PART.findall(pair)) for pair in _PAIR.findall(subject)
    )
