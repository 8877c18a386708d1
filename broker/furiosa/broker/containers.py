"""Which container and pod a process is in, from its cgroup path.

The root of the tree belongs to root, and so does each step of the known layouts down to a container. So
a path is read from its root on, and the first container on the way is the answer: whatever a process
makes below its own container changes nothing, and an id at any other place counts for nothing. What the
broker is in itself is no container to it: its neighbours there get None, and of a path that leads
further into it, as in a cluster inside one container, only the rest is read.

What can be trusted: the id and the pod of a runtime that root runs. What cannot:
 - A user who runs containers without root can make cgroups of any name in his own part of the tree.
   Runtimes found there are called "rootless-..." and never have a pod.
 - A system service that runs as a user, with Delegate=, could call itself a podman container.
 - Root with the host's cgroup tree writable (a privileged container) can move anywhere. It owns the node.
 - Containers under a --cgroup-parent that is not a slice are not recognised, nor are unknown runtimes.

Source: cgroups(7), cgroup_namespaces(7), systemd.slice(5); runtime-spec, config-linux.md, cgroupsPath;
kubernetes, pkg/kubelet/cm/cgroup_manager_linux.go, ToSystemd and ToCgroupfs.
"""

import functools
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from furiosa.common.views import Container

MOST_BYTES: Final = 128 * 1024  # the kernel gives a path 4,096 bytes, on some 14 hierarchies

# The kernel does not tell: e.g. a path longer than it prints, which any container that may make cgroups
# can arrange. Such a process must not pass for one outside.
UNKNOWN: Final = Container("unknown", "")

ROOTLESS: Final = "rootless-"

_RUNTIMES: Final = {
    "cri-containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
    "docker": "docker",
    "libpod": "podman",
    "libpod-payload": "podman",
}
_PREFIX: Final = r"(?P<prefix>cri-containerd|nerdctl|crio|docker|libpod)"
_ID: Final = r"(?P<id>[0-9a-f]{64})"
# a static pod's is the 32 digits of its manifest's hash; slices have _ for -
_POD: Final = (
    r"pod(?P<pod>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?![^/.:])"
)
_QOS: Final = r"(?:burstable|besteffort)"
_SLICES: Final = re.compile(r"(?:/[^/]+\.slice)*")
_POD_SLICE: Final = re.compile(rf"(?:.*-)?kubepods(?:-{_QOS})?-{_POD}")


@dataclass(frozen=True, slots=True)
class _Shape:
    """`pattern` is what comes after `slices`. A shape of no runtime tells it by a prefix, or not at all."""

    pattern: re.Pattern[str]
    runtime: str = ""
    slices: str = ""


def _shape(pattern: str, runtime: str = "", slices: str = "") -> _Shape:
    return _Shape(re.compile(pattern + r"(?=/|$)"), runtime, slices)


# In a slice of any name, where only systemd makes scopes.
_SCOPE: Final = _shape(rf"/{_PREFIX}-{_ID}\.scope")

_SHAPES: Final = (
    _shape(rf"(?:/kubelet)?/kubepods(?:/{_QOS})?/{_POD}(?:/(?:{_PREFIX}-)?{_ID})?"),
    # the runtime does not use systemd though the kubelet does
    _shape(
        rf"(?:/system\.slice/(?:containerd|k3s|k3s-agent|rke2-server|rke2-agent)\.service)?"
        rf"/kubepods(?:-{_QOS})?-{_POD}\.slice:{_PREFIX}:{_ID}"
    ),
    _shape(rf"/docker/{_ID}", "docker"),
    _shape(rf"/libpod_parent/libpod-{_ID}", "podman"),
    _shape(rf"/(?:k8s\.io|default)/{_ID}", "containerd"),
    _shape(r"/(?:lxc|lxc\.payload)/(?P<id>[^/]+)", "lxc"),
    _shape(r"/lxc\.payload\.(?P<id>[^/]+)", "lxc"),
    _shape(rf"/[^/@]+(?:@[^/]*)?\.service/libpod-payload-{_ID}", "podman", "/system.slice"),
    _shape(r"/systemd-nspawn@(?P<id>[^/]+)\.service", "nspawn", "/machine.slice"),
    _shape(r"/machine-(?P<id>[^/]+)\.scope", "machined", "/machine.slice"),
)

# Below a cgroup that the broker's namespace does not show; its own container is next to it.
_BESIDE: Final = (
    _shape(rf"(?:/{_QOS})?/{_POD}(?:/(?:{_PREFIX}-)?{_ID})?"),
    _shape(rf"/(?:{_PREFIX}-)?{_ID}"),
)

_OF_A_USER: Final = re.compile(
    r"/user\.slice/user-\d+\.slice/user@\d+\.service/(?:[^/]+/)*?"
    rf"(?:{_PREFIX}-{_ID}\.scope|(?P<payload>libpod-payload)-(?P<payload_id>[0-9a-f]{{64}}))(?:/|$)"
)


def container_of(text: str, own: str = "") -> Container | None:
    """The container, given the contents of /proc/<pid>/cgroup of the process, and of the broker.

    None: it is in none, or where the broker is. Hierarchies are asked in the order of how sure it is
    that runtimes use them; those with a name of their own (but systemd's) are nobody's word.
    """
    base = _chain(own)
    chain = _chain(text)
    for mine in base:
        if not chain or chain[0] != mine:
            break
        chain = chain[1:]
    return chain[0] if chain else None


def of_process(pid: int, proc: str = "/proc") -> Container | None:
    """As `container_of`; None also when there is no such process, UNKNOWN when it cannot be told.

    A pid says nothing about whom it belonged to a moment ago: ask afterwards, through a pidfd, whether
    the process that was meant still lives.
    """
    try:
        text = _read(f"{proc}/{pid}/cgroup")
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return UNKNOWN
    return UNKNOWN if text is None else container_of(text, _own(proc))


@functools.cache
def _own(proc: str) -> str:
    """A process may move between cgroups of its container, which makes no difference here."""
    try:
        return _read(f"{proc}/self/cgroup") or ""
    except OSError:
        return ""


def _read(path: str) -> str | None:
    """None: more than a kernel writes."""
    with open(path, "rb") as file:
        data = file.read(MOST_BYTES + 1)
    return None if len(data) > MOST_BYTES else os.fsdecode(data)


def _chain(text: str) -> tuple[Container, ...]:
    """The containers around the process, outermost first, by the first hierarchy that has any.

    What a user says about himself comes last.
    """
    rootless: tuple[Container, ...] = ()
    for path in _paths(text):
        if chain := tuple(_containers(path)):
            return chain
        rootless = rootless or _of_a_user(path)
    return rootless


def _paths(text: str) -> list[str]:
    """The line of version 2, systemd's, then the controllers of version 1.

    No cgroup has a line feed in its name: the kernel sees to that.
    """
    found: list[tuple[int, str]] = []
    for line in text.split("\n"):
        _, _, rest = line.partition(":")
        kinds, colon, path = rest.partition(":")
        if not colon or (kinds.startswith("name=") and kinds != "name=systemd"):
            continue
        rank = 0 if not kinds else 1 if kinds == "name=systemd" else 2
        found.append((rank, path.removesuffix(" (deleted)")))
    return [path for _, path in sorted(found, key=lambda each: each[0])]


def _containers(path: str) -> Iterator[Container]:
    beside = path.startswith("/..")
    while path.startswith("/.."):
        path = path[3:]
    while (found := _outermost(path, beside)) is not None:
        container, length = found
        yield container
        if not container.id:
            return
        # crun's own level, where it is told to make one
        path, beside = path[length:].removeprefix("/container"), False


def _outermost(path: str, beside: bool) -> tuple[Container, int] | None:
    """The container that begins at the root of `path`, and the length of its cgroup's path."""
    slices = _slices(path, beside)
    last = slices.rpartition("/")[2].removesuffix(".slice")
    pod = _POD_SLICE.fullmatch(last)
    if slices or beside:
        match = _SCOPE.pattern.match(path, len(slices))
        if match is not None:
            return _container(match, "", pod), match.end()
    if pod is not None:
        return Container("unknown", "", _uid(pod)), len(slices)
    for shape in (*_SHAPES, *(_BESIDE if beside else ())):
        if shape.slices and shape.slices != slices:
            continue
        match = shape.pattern.match(path, len(shape.slices))
        if match is not None:
            return _container(match, shape.runtime, match), match.end()
    return None


def _slices(path: str, beside: bool) -> str:
    """The slices that `path` begins with, as far as they are nested the way systemd nests them:
    a-b.slice is in a.slice. `beside`: the first may be in one that is not shown."""
    match = _SLICES.match(path)
    assert match is not None  # it matches nothing, too
    length, above = 0, ""
    for name in match[0].split("/")[1:]:
        stem = name.removesuffix(".slice")
        outer, dash, _ = stem.rpartition("-")
        if outer != above and not (beside and not length and dash):
            break
        length, above = length + 1 + len(name), stem
    return path[:length]


def _container(match: re.Match[str], runtime: str, pod: re.Match[str] | None) -> Container:
    groups = match.groupdict()
    runtime = runtime or _RUNTIMES.get(groups.get("prefix") or "", "unknown")
    return Container(runtime, groups.get("id") or "", _uid(pod))


def _uid(pod: re.Match[str] | None) -> str:
    return "" if pod is None else (pod.groupdict().get("pod") or "").replace("_", "-")


def _of_a_user(path: str) -> tuple[Container, ...]:
    while path.startswith("/.."):
        path = path[3:]
    match = _OF_A_USER.match(path)
    if match is None:
        return ()
    runtime = _RUNTIMES[match["prefix"] or match["payload"]]
    return (Container(ROOTLESS + runtime, match["id"] or match["payload_id"]),)
