"""What can be configured, in which unit, and why the default is what it is.

Built once, frozen: a TOML file (--config), then environment variables FURIOSA_BROKERD_<NAME>, then
flags; the later wins.
"""

import argparse
import dataclasses
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

PREFIX: Final = "FURIOSA_BROKERD_"


class BadSettings(Exception):
    """A setting that cannot be used; the text names it, its value and its source."""


def _setting(default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    socket: Path = _setting(
        Path("/run/furiosa/broker.sock"), "gRPC socket; the handoff socket is the same + .handoff"
    )
    state: Path = _setting(
        Path("/var/lib/furiosa"), "folder of the journal and of the virtual cards' device tree"
    )
    root: Path = _setting(Path("/"), "where dev/ and sys/ of real cards are looked for")
    emulate: int = _setting(0, "number of virtual Warboy cards, 0..64; 0: look for real cards")
    socket_mode: int = _setting(0o660, "permissions of both sockets, octal")
    socket_group: str = _setting("furiosa", "group of both sockets, if there is such a group")
    worker_user: str = _setting("nobody", "whom workers run as when the broker runs as root")
    drain_grace: float = _setting(
        5.0, "seconds that owners have to release on SIGTERM, before their leases are revoked"
    )
    idle_exit: float = _setting(0.0, "leave after so many seconds without a session; 0: never")
    ready_fd: int = _setting(-1, "descriptor that gets a line READY when clients can connect")
    max_program_bytes: int = _setting(512 * 1024**2, "largest ENF, bytes")
    max_arena_bytes: int = _setting(1024**3, "most tensor memory of one queue, bytes")
    load_timeout: float = _setting(60.0, "seconds a worker may take to load a program")
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING or ERROR")
    data_plane: str = _setting(
        "auto", "inference over gRPC, in a process of its own: on, off, or auto: on unless embedded"
    )
    embedded: bool = _setting(False, "serve one user: sockets that only he can open")

    def __post_init__(self) -> None:
        for name, low, high in (
            ("emulate", 0, 64),
            ("drain_grace", 0, 3600),
            ("idle_exit", 0, 86_400),
            ("max_program_bytes", 1024, 16 * 1024**3),
            ("max_arena_bytes", 4096, 16 * 1024**3),
            ("load_timeout", 1, 3600),
            ("socket_mode", 0, 0o777),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise BadSettings(f"{name} is {value}, expected {low}..{high}")
        if self.log_level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
            raise BadSettings(
                f"log_level is {self.log_level!r}, expected DEBUG, INFO, WARNING, ERROR"
            )
        if self.data_plane not in ("on", "off", "auto"):
            raise BadSettings(f"data_plane is {self.data_plane!r}, expected on, off, auto")
        if len(os.fsencode(self.handoff_socket)) > 107:
            raise BadSettings(f"socket path is too long for a Unix socket: {self.handoff_socket}")

    @property
    def handoff_socket(self) -> Path:
        return self.socket.with_name(self.socket.name + ".handoff")

    @property
    def data_socket(self) -> Path | None:
        """None: no data plane."""
        if self.data_plane == "off" or (self.data_plane == "auto" and self.embedded):
            return None
        return self.socket.with_name(self.socket.name + ".data")

    @classmethod
    def load(cls, arguments: Sequence[str], environment: Mapping[str, str]) -> Self:
        """Raises: BadSettings; SystemExit for --help and unknown flags."""
        fields = {f.name: f for f in dataclasses.fields(cls)}
        flags = vars(_parser(fields).parse_args(arguments))
        config = flags.pop("config")
        values: dict[str, Any] = {}
        for name, value in _file(config).items():
            if name not in fields:
                raise BadSettings(f"{config}: unknown setting {name!r}; one of {', '.join(fields)}")
            values[name] = _convert(fields[name], value, str(config))
        for name, item in fields.items():
            if (text := environment.get(PREFIX + name.upper())) is not None:
                values[name] = _convert(item, text, PREFIX + name.upper())
            if flags[name] is not None:
                values[name] = _convert(item, flags[name], f"--{name.replace('_', '-')}")
        return cls(**values)


def _parser(fields: Mapping[str, "dataclasses.Field[Any]"]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="furiosa-brokerd",
        description="Arbitrate exclusive access to NPU cores.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, help="TOML file with these settings, names with _")
    for name, item in fields.items():
        text = f"{item.metadata['help']} (default: {_shown(name, item.default)})".replace("%", "%%")
        flag = f"--{name.replace('_', '-')}"
        if item.type is bool:
            parser.add_argument(flag, action="store_true", default=None, help=text)
        else:
            parser.add_argument(flag, metavar=name.upper(), help=text)
    return parser


def _shown(name: str, default: object) -> str:
    return f"{default:o}" if name == "socket_mode" else str(default)


def _file(path: Path | None) -> Mapping[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise BadSettings(f"{path}: {exc}") from None


def _convert(item: "dataclasses.Field[Any]", value: Any, source: str) -> Any:
    kind: Any = item.type
    try:
        if kind is bool:
            if value in (True, False):
                return value
            return {"1": True, "true": True, "0": False, "false": False}[str(value).lower()]
        if item.name == "socket_mode" and isinstance(value, str):
            return int(value, 8)
        return kind(value)
    except (ValueError, TypeError, KeyError):
        raise BadSettings(f"{source} is {value!r}, expected {kind.__name__.lower()}") from None
