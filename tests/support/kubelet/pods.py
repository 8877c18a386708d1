"""Pods as the fake kubelet takes them, and what their containers were given."""

from collections.abc import Mapping
from dataclasses import dataclass, field


class AdmissionError(Exception):
    """The pod is refused; the text is what its user reads."""


@dataclass(frozen=True)
class ContainerSpec:
    """`limits`: how many devices of which resource."""

    name: str
    limits: Mapping[str, int]
    init: bool = False


@dataclass(frozen=True)
class Pod:
    name: str
    containers: tuple[ContainerSpec, ...]
    namespace: str = "default"

    @classmethod
    def of(cls, name: str, limits: Mapping[str, int]) -> "Pod":
        return cls(name, (ContainerSpec("main", limits),))


@dataclass
class Given:
    """What a container was given, as the runtime is told. `ids` by resource."""

    ids: dict[str, tuple[str, ...]] = field(default_factory=dict)
    envs: dict[str, str] = field(default_factory=dict)
    mounts: dict[str, str] = field(default_factory=dict)  # host path by container path
    device_nodes: dict[str, str] = field(default_factory=dict)  # host path by container path
    annotations: dict[str, str] = field(default_factory=dict)
    cdi_devices: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)  # keys of which one of two values was dropped
