"""The tenants file, a TOML document: see docs/tenants.md. Every problem in it is found at once."""

import difflib
import grp
import json
import pwd
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from furiosa.broker.tenants.policy import MOST_PRIORITY, ROOT, Tenant, TenantPolicy, Tenants
from furiosa.broker.tenants.principal import ANY, Match, is_container_id, is_subject_pattern
from furiosa.broker.tenants.values import (
    Reader,
    Unfit,
    cards,
    flag,
    number,
    one_of,
    size,
    text,
    unlimited,
    whole,
)

MOST_ID: Final = 2**32 - 2  # of a user or a group; the next one stands for none

IdOf = Callable[[str], int]  # the number of a user or group by name; KeyError: there is none

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
_POD_UID: Final = re.compile(r"\*|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")

_priority = whole(-MOST_PRIORITY, MOST_PRIORITY)

POLICY: Final[Mapping[str, Reader[Any]]] = {
    "weight": number(0.001, 1000),
    "priority": _priority,
    "max-priority": _priority,
    "cards": cards,
    "max-cores": unlimited(whole(0)),
    "max-waiting": unlimited(whole(0)),
    "max-program-bytes": unlimited(size),
    "may-preempt": flag,
    "admin": flag,
    "acquires-per-second": unlimited(number(0.001, 1e6)),
    "burst": whole(1, 1_000_000),
}
_DEFAULTS: Final = {key: reader for key, reader in POLICY.items() if key != "admin"}

OWN_TENANT, REFUSE = "own-tenant", "refuse"
_UNMATCHED: Final[Mapping[str, Reader[Any]]] = {"policy": one_of((OWN_TENANT, REFUSE))}

_DIGEST_TEXT: Final = text(
    _DIGEST.fullmatch, "the 64 hex digits of a token's SHA-256, in lower case"
)
MATCH: Final[Mapping[str, Reader[Any]]] = {
    "uid": whole(0, MOST_ID),
    "user": text(len, "the name of a user"),
    "gid": whole(0, MOST_ID),
    "group": text(len, "the name of a group"),
    "pod-uid": text(_POD_UID.fullmatch, f'the uid of a pod, or "{ANY}" for any'),
    "container": text(
        lambda value: value == ANY or is_container_id(value),
        f'12 or more hex digits of a container\'s id, or "{ANY}" for any',
    ),
    "subject": text(
        is_subject_pattern, f'attributes such as "CN=client,O=example", values with *, or "{ANY}"'
    ),
    "token-sha256": _DIGEST_TEXT,
}
# whoever comes with one of these comes with nothing else
_ALONE: Final = ("subject", "token-sha256")

_TOP: Final = ("defaults", "unmatched", "tenant")


class BadTenants(Exception):
    """`problems`: one sentence each, beginning with its place."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "; ".join(self.problems)


def parse(
    document: str,
    *,
    own_uid: int = ROOT,
    uid_of: IdOf = lambda name: pwd.getpwnam(name).pw_uid,
    gid_of: IdOf = lambda name: grp.getgrnam(name).gr_gid,
) -> Tenants:
    """`own_uid`: who administers besides root. Raises: BadTenants."""
    try:
        root = tomllib.loads(document)
    except (ValueError, RecursionError) as exc:
        raise BadTenants([f"not TOML: {exc}"]) from None
    reading = _Reading(uid_of, gid_of)
    tenants = reading.file(root)
    if reading.problems:
        raise BadTenants(reading.problems)
    return Tenants(tenants, reading.strangers, own_uid=own_uid)


class _Reading:
    """Values that do not fit are told in `problems` and left out."""

    def __init__(self, uid_of: IdOf, gid_of: IdOf) -> None:
        self.problems: list[str] = []
        self.strangers: TenantPolicy | None = None
        self._ids: Mapping[str, tuple[str, IdOf]] = {
            "user": ("uid", uid_of),
            "group": ("gid", gid_of),
        }
        self._names: dict[str, str] = {}  # of tenants, and the place of each
        self._digests: dict[str, str] = {}
        self._matches: list[tuple[Match, str]] = []

    def file(self, root: Mapping[str, object]) -> list[Tenant]:
        self._unknown("", root, _TOP)
        defaults = self._table("[defaults]", root.get("defaults", {}))
        if defaults.pop("admin", None) is not None:
            self._say(
                "[defaults]", "admin would make everybody an administrator, say it of a tenant"
            )
        common = self._values("[defaults]", defaults, _DEFAULTS)
        unmatched = self._table("[unmatched]", root.get("unmatched", {}))
        policy = self._values("[unmatched]", unmatched, _UNMATCHED).get("policy")
        if "policy" not in unmatched:
            self._say("[unmatched]", f'policy is missing, expected "{OWN_TENANT}" or "{REFUSE}"')
        if policy == OWN_TENANT:
            self.strangers = self._policy("[defaults]", "", common)
        entries = root.get("tenant", [])
        if not isinstance(entries, list):
            self._say("tenant", "is one table, expected [[tenant]], with two brackets, for each")
            return []
        return [self._tenant(number, entry, common) for number, entry in enumerate(entries, 1)]

    def _tenant(self, number: int, entry: object, common: Mapping[str, Any]) -> Tenant:
        place = f"tenant[{number}]"
        table = self._table(place, entry)
        name = table.pop("name", None)
        if isinstance(name, str):
            place += f" {_shown(name)}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            said = "is missing" if name is None else f"is {_shown(name)}"
            self._say(place, f"name {said}, expected letters, digits and ._-, 63 at most")
        elif name in self._names:
            self._say(place, f"name is that of {self._names[name]} too, expected another")
        else:
            self._names[name] = place
        entries = table.pop("match", None)
        if not isinstance(entries, list) or not entries:
            said = "is missing" if entries is None else f"is {_shown(entries)}"
            self._say(place, f"match {said}, expected who it is, such as [{{uid = 1000}}]")
            entries = []
        matches: list[Match] = []
        digests: list[str] = []
        for index, each in enumerate(entries, 1):
            self._match(f"{place}: match[{index}]", each, matches, digests)
        values = {**common, **self._values(place, table, POLICY)}
        return Tenant(self._policy(place, str(name), values), tuple(matches), tuple(digests))

    def _policy(self, place: str, name: str, values: Mapping[str, Any]) -> TenantPolicy:
        values = dict(values)
        priority = values.get("priority", 0)
        if values.setdefault("max-priority", priority) < priority:
            most = values["max-priority"]
            self._say(place, f"max-priority is {most}, expected its priority, {priority}, or more")
        return TenantPolicy(name, **{key.replace("-", "_"): each for key, each in values.items()})

    def _match(self, place: str, entry: object, matches: list[Match], digests: list[str]) -> None:
        table = self._table(place, entry)
        before = len(self.problems)
        values = self._values(place, table, MATCH)
        if not table and isinstance(entry, dict):
            self._say(place, f"is empty, expected one or more of {', '.join(MATCH)}")
        if len(table) > 1 and any(key in table for key in _ALONE):
            alone = next(key for key in _ALONE if key in table)
            self._say(place, f"nobody has {alone} and anything else, expected {alone} alone")
        for name, (key, id_of) in self._ids.items():
            self._resolve(place, values, name, key, id_of)
        if len(self.problems) > before:
            return
        if (digest := values.pop("token-sha256", None)) is not None:
            if digest in self._digests:
                self._say(place, f"this token is in {self._digests[digest]} already")
            self._digests[digest] = place
            digests.append(digest)
            return
        match = Match(**{key.replace("-", "_"): value for key, value in values.items()})
        for earlier, there in self._matches:
            if earlier.covers(match):
                self._say(place, f"{match} gets nobody, {there} ({earlier}) comes first")
                break
        self._matches.append((match, place))
        matches.append(match)

    def _resolve(
        self, place: str, values: dict[str, Any], name: str, key: str, id_of: IdOf
    ) -> None:
        """Put the id in the place of the name. A name that is known later is read then: by a reload."""
        wanted = values.pop(name, None)
        if wanted is None:
            return
        if key in values:
            self._say(place, f"has {name} and {key}, expected one of them")
            return
        try:
            values[key] = id_of(wanted)
        except (KeyError, ValueError):
            self._say(place, f"{name} is {_shown(wanted)}, expected one that this machine knows")

    def _values(
        self, place: str, table: Mapping[str, object], readers: Mapping[str, Reader[Any]]
    ) -> dict[str, Any]:
        self._unknown(place, table, readers)
        values: dict[str, Any] = {}
        for key, reader in readers.items():
            if key not in table:
                continue
            try:
                values[key] = reader(table[key])
            except Unfit as exc:
                self._say(place, f"{key} is {_shown(table[key])}, expected {exc}")
        return values

    def _table(self, place: str, value: object) -> dict[str, object]:
        if isinstance(value, dict):
            return dict(value)
        self._say(place, f"is {_shown(value)}, expected a table")
        return {}

    def _unknown(self, place: str, table: Iterable[str], known: Iterable[str]) -> None:
        names = tuple(known)
        for key in table:
            if key not in names:
                near = difflib.get_close_matches(key, names, 1)
                hint = f"did you mean {near[0]}?" if near else f"expected {', '.join(names)}"
                self._say(place, f"unknown key {_shown(key)}, {hint}")

    def _say(self, place: str, problem: str) -> None:
        self.problems.append(f"{place}: {problem}" if place else problem)


def _shown(value: object) -> str:
    try:
        shown = json.dumps(value, default=str)
    except (ValueError, RecursionError):  # a number of thousands of digits, lists in lists in lists
        return "far too large"
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
