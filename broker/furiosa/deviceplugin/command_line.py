"""The arguments, and the file that takes their place."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from furiosa.agent.program import LEVELS
from furiosa.deviceplugin.settings import BadSettings, Naming, Policy, Registration, from_mapping

# arguments that are keys of the file: flag, key, help
_FLAGS: Final = (
    (
        "--default-pe",
        "defaultPe",
        "core type that a pod is given: Fusion or Single (default: Fusion)",
    ),
    ("--interval", "interval", "seconds from one look at cards and pods to the next (default: 10)"),
    ("--disabled-devices", "disabledDevices", "comma-separated devices that are not handed out"),
    (
        "--plugin-dir",
        "pluginDir",
        "the kubelet's folder (default: /var/lib/kubelet/device-plugins)",
    ),
    ("--socket-name", "socketName", "what names of sockets begin with (default: furiosa-npu)"),
    ("--resource-name", "resourceName", "extended resource (default: beta.furiosa.ai/npu)"),
    (
        "--resource-policy",
        "resourcePolicy",
        f"what a unit is, instead of --default-pe: {', '.join(p.value for p in Policy)}",
    ),
    (
        "--resource-names",
        "resourceNames",
        f"what resources are called: {', '.join(n.value for n in Naming)} (default: original)",
    ),
    (
        "--registration",
        "registration",
        (
            f"how the kubelet knows the plugin: {', '.join(r.value for r in Registration)}"
            " (default: register)"
        ),
    ),
    (
        "--plugins-registry-dir",
        "pluginsRegistryDir",
        "where it looks for plugins (default: /var/lib/kubelet/plugins_registry)",
    ),
    (
        "--pod-resources-socket",
        "podResourcesSocket",
        "where it tells which pods have what (default: /var/lib/kubelet/pod-resources/kubelet.sock)",
    ),
)


@dataclass(frozen=True, slots=True)
class CommandLine:
    """`values` are those of the arguments, by the keys of the file; `file` is None without one."""

    values: Mapping[str, Any]
    file: Path | None
    node: str
    log_level: str


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="furiosa-device-plugin",
        description="Offer the NPU cores of this node to Kubernetes, with the broker at FURIOSA_BROKER.",
        allow_abbrev=False,
    )
    made.add_argument(
        "--config-file",
        type=Path,
        metavar="FILE",
        help="YAML file with the settings, read again when it changes; no other argument goes with it",
    )
    for flag, key, text in _FLAGS:
        made.add_argument(flag, dest=key, metavar=flag[2:].replace("-", "_").upper(), help=text)
    made.add_argument(
        "--log-level", choices=LEVELS, default="info", help="how much is logged (default: info)"
    )
    return made


def parse(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> CommandLine:
    """Raises: BadSettings; SystemExit for --help and unknown arguments."""
    given = vars(parser().parse_args(arguments))
    file, level = given.pop("config_file"), given.pop("log_level")
    texts = {key: value for key, value in given.items() if value is not None}
    if file is not None and texts:
        flags = ", ".join(flag for flag, key, _ in _FLAGS if key in texts)
        raise BadSettings(f"--config-file and {flags}: all settings are in the file, or none")
    values = {key: _value(key, text) for key, text in texts.items()}
    from_mapping(values)
    return CommandLine(values, file, environ.get("NODE_NAME", ""), level)


def _value(key: str, text: str) -> Any:
    """As YAML would have it."""
    if key == "interval":
        try:
            return float(text)
        except ValueError:
            return text
    return [part for part in text.split(",") if part] if key == "disabledDevices" else text
