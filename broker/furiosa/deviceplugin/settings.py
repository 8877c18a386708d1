"""What can be configured, with the published names and defaults, and what each key may be.

Source: reference of the Kubernetes integration, 2. Keys beyond it are `resourcePolicy`, `resourceNames`,
`cards`, `registration` and what they need.
"""

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from furiosa.common.errors import BadDeviceFile
from furiosa.common.names import DeviceFile

ORIGINAL_RESOURCE: Final = "beta.furiosa.ai/npu"
GENERIC_RESOURCE: Final = "furiosa.ai/warboy"
SINGLE_RESOURCE: Final = "furiosa.ai/warboy-1core.8gb"
DUAL_RESOURCE: Final = "furiosa.ai/warboy-2core.16gb"


class BadSettings(Exception):
    """The text names the key, what was found and what is expected."""


class Policy(enum.Enum):
    """What one unit of a resource is."""

    WHOLE = "whole"  # a card, its cores fused
    SINGLE = "single"  # a core
    PAIR = "pair"  # a core; both of one card come fused
    DYNAMIC = "dynamic"  # both kinds are offered, and who comes first shuts the other out


class Naming(enum.Enum):
    """What resources are called."""

    ORIGINAL = "original"  # `resourceName`, whatever a unit is
    GENERIC = "generic"  # furiosa.ai/warboy
    CORES = "cores"  # furiosa.ai/warboy-1core.8gb and furiosa.ai/warboy-2core.16gb


class Registration(enum.Enum):
    """How the kubelet gets to know the plugin."""

    REGISTER = "register"  # the plugin calls it
    FOUND = "found"  # it looks into its plugins_registry folder


@dataclass(frozen=True, slots=True)
class Disabled:
    """`name` of a card or of a device file; on `node`, or everywhere when that is empty."""

    name: str
    node: str = ""

    def covers(self, file: DeviceFile, node: str) -> bool:
        return self.node in ("", node) and DeviceFile.parse(self.name).overlaps(file)


@dataclass(frozen=True, slots=True)
class Settings:
    """`interval` in seconds. `cards`: policies of single cards, by index."""

    policy: Policy = Policy.WHOLE
    cards: tuple[tuple[int, Policy], ...] = ()
    interval: float = 10.0
    disabled: tuple[Disabled, ...] = ()
    plugin_dir: Path = Path("/var/lib/kubelet/device-plugins")
    socket_name: str = "furiosa-npu"
    resource_name: str = ORIGINAL_RESOURCE
    naming: Naming = Naming.ORIGINAL
    registration: Registration = Registration.REGISTER
    registry_dir: Path = Path("/var/lib/kubelet/plugins_registry")
    pod_resources: Path = Path("/var/lib/kubelet/pod-resources/kubelet.sock")

    def policy_of(self, card: int) -> Policy:
        return dict(self.cards).get(card, self.policy)

    @property
    def told(self) -> str:
        """What a running plugin can take over, for the log."""
        cards = "".join(f" npu{card}={policy.value}" for card, policy in self.cards)
        disabled = ",".join(each.name for each in self.disabled) or "none"
        return f"policy={self.policy.value}{cards} interval={self.interval:g} disabled={disabled}"

    def check(self) -> None:
        """Raises: BadSettings, when a resource would have units of two kinds."""
        kinds = {self.policy, *(policy for _, policy in self.cards)}
        if Policy.DYNAMIC in kinds and self.naming is not Naming.CORES:
            raise BadSettings(
                'resourcePolicy is "dynamic", which offers two resources: resourceNames must be "cores"'
            )
        if len(kinds) > 1 and self.naming is not Naming.CORES:
            found = ", ".join(sorted(kind.value for kind in kinds))
            raise BadSettings(
                f'cards have different policies ({found}): resourceNames must be "cores", or one resource'
                " would have units of two kinds"
            )


# Keys that a running plugin takes over; the others need a restart.
LIVE: Final = frozenset({"policy", "cards", "interval", "disabled"})


def needs_restart(before: Settings, after: Settings) -> tuple[str, ...]:
    """The changed keys that only a restart takes over, as they are written in YAML."""
    return tuple(
        _YAML[field.name]
        for field in fields(Settings)
        if field.name not in LIVE and getattr(before, field.name) != getattr(after, field.name)
    )


def taken_over(before: Settings, after: Settings) -> Settings:
    """`before`, with what a running plugin takes over from `after`. Raises: BadSettings."""
    found = replace(before, **{name: getattr(after, name) for name in LIVE})
    found.check()
    return found


def from_mapping(values: Mapping[str, Any]) -> Settings:
    """The settings of a YAML file. Raises: BadSettings."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if key not in _KEYS:
            raise BadSettings(f"there is no key {key!r}; there are {', '.join(sorted(_KEYS))}")
        name, read = _KEYS[key]
        if key == "defaultPe" and "resourcePolicy" in values:
            raise BadSettings("defaultPe and resourcePolicy say the same: give one of them")
        found[name] = read(key, value)
    settings = Settings(**found)
    settings.check()
    return settings


Reader = Callable[[str, Any], Any]


def _bad(key: str, value: object, expected: str) -> BadSettings:
    return BadSettings(f"{key} is {value!r}, expected {expected}")


def _pe(key: str, value: Any) -> Policy:
    kinds = {"fusion": Policy.WHOLE, "single": Policy.SINGLE}
    if not isinstance(value, str) or value.lower() not in kinds:
        raise _bad(key, value, "Fusion or Single")
    return kinds[value.lower()]


def _one_of(kind: type[enum.Enum]) -> Reader:
    def read(key: str, value: Any) -> Any:
        try:
            return kind(value)
        except ValueError:
            raise _bad(key, value, " or ".join(member.value for member in kind)) from None

    return read


def _seconds(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 3600:
        raise _bad(key, value, "seconds, 1 to 3600")
    return float(value)


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value or "/" in value or not value.isprintable():
        raise _bad(key, value, "a file name")
    return value


def _resource(key: str, value: Any) -> str:
    domain, slash, name = value.partition("/") if isinstance(value, str) else ("", "", "")
    plain = (domain + name).replace(".", "").replace("-", "").replace("_", "")
    if not slash or not domain or not name or not plain.isalnum() or not plain.isascii():
        raise _bad(key, value, "a resource name such as beta.furiosa.ai/npu")
    return str(value)


def _path(key: str, value: Any) -> Path:
    if not isinstance(value, str) or not value.startswith("/"):
        raise _bad(key, value, "an absolute path")
    return Path(value)


def _disabled(key: str, value: Any) -> tuple[Disabled, ...]:
    """A list of {devName, nodeName}; of names alone: on every node."""
    if not isinstance(value, list):
        raise _bad(key, value, "a list of {devName, nodeName}")
    return tuple(_disabled_one(f"{key}[{place}]", each) for place, each in enumerate(value))


def _disabled_one(key: str, value: Any) -> Disabled:
    each = {"devName": value} if isinstance(value, str) else value
    if not isinstance(each, dict) or not {"devName"} <= each.keys() <= {"devName", "nodeName"}:
        raise _bad(key, value, "{devName: npu0, nodeName: the node, or none for all}")
    name, node = each["devName"], each.get("nodeName", "")
    try:
        DeviceFile.parse(name)
    except (BadDeviceFile, TypeError):
        raise _bad(f"{key}.devName", name, "a card or device file such as npu0pe1") from None
    if not isinstance(node, str):
        raise _bad(f"{key}.nodeName", node, "a node's name")
    return Disabled(name, node)


def _cards(key: str, value: Any) -> tuple[tuple[int, Policy], ...]:
    """A mapping of card names to policies."""
    if not isinstance(value, dict):
        raise _bad(key, value, "a mapping such as {npu0: single}")
    return tuple(
        (_card(f"{key}.{name}", name), _one_of(Policy)(f"{key}.{name}", policy))
        for name, policy in value.items()
    )


def _card(key: str, name: Any) -> int:
    try:
        file = DeviceFile.parse(name)
    except (BadDeviceFile, TypeError):
        raise _bad(key, name, "a card such as npu0") from None
    if not file.cores.is_all:
        raise _bad(key, name, "a card such as npu0")
    return file.npu


_KEYS: Final[Mapping[str, tuple[str, Reader]]] = {
    "defaultPe": ("policy", _pe),
    "resourcePolicy": ("policy", _one_of(Policy)),
    "cards": ("cards", _cards),
    "interval": ("interval", _seconds),
    "disabledDevices": ("disabled", _disabled),
    "pluginDir": ("plugin_dir", _path),
    "socketName": ("socket_name", _text),
    "resourceName": ("resource_name", _resource),
    "resourceNames": ("naming", _one_of(Naming)),
    "registration": ("registration", _one_of(Registration)),
    "pluginsRegistryDir": ("registry_dir", _path),
    "podResourcesSocket": ("pod_resources", _path),
}
_YAML: Final = {name: key for key, (name, _) in _KEYS.items()}
