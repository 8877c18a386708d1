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
    emulate: int = _setting(0, "number of virtual Warboy cards, 0..1024; 0: look for real cards")
    listen: str = _setting(
        "",
        "TCP addresses for clients on other machines, host:port, comma-separated; docs/remote.md",
    )
    data_listen: str = _setting("", "TCP address of the data plane for them, host:port")
    tls_cert: str = _setting("", "PEM file with the certificate for TCP")
    tls_key: str = _setting("", "PEM file with its key")
    tls_client_ca: str = _setting("", "PEM file with the CA of client certificates")
    tenants: str = _setting("", "TOML file that says who may have what; docs/tenants.md")
    audit_log: str = _setting("", "file that gets one JSON line for each grant, refusal and end")
    metrics_listen: str = _setting(
        "", "address of /metrics and /healthz, host:port or unix:/path; docs/metrics.md"
    )
    socket_mode: int = _setting(0o660, "permissions of both sockets, octal")
    socket_group: str = _setting("furiosa", "group of both sockets, if there is such a group")
    worker_user: str = _setting("nobody", "whom workers run as when the broker runs as root")
    containers: str = _setting(
        "any",
        "which containers may lease: any, or granted, those that were given cores; docs/reservations.md",
    )
    placement: str = _setting("pack", "which free cores: pack fills cards, spread empties them")
    aging: float = _setting(30.0, "seconds of waiting that count like one step of priority")
    recall_grace: float = _setting(
        10.0, "seconds an owner has when his lease expires, is revoked or preempted"
    )
    reconnect_grace: float = _setting(
        60.0, "seconds owners have to connect again after the broker was killed"
    )
    max_linger: float = _setting(600.0, "seconds a lease may outlive its connection at most")
    journal_sync: str = _setting(
        "never", "when the journal is forced to disk: never, second, always"
    )
    max_celsius: float = _setting(95.0, "a card that is hotter is taken away, degrees")
    health_recovery: float = _setting(10.0, "seconds a card must be well before it comes back")
    drain_grace: float = _setting(
        5.0, "seconds that owners have to release on SIGTERM, before their leases are revoked"
    )
    idle_exit: float = _setting(0.0, "leave after so many seconds without a session; 0: never")
    ready_fd: int = _setting(-1, "descriptor that gets a line READY when clients can connect")
    max_program_bytes: int = _setting(512 * 1024**2, "largest ENF, bytes")
    max_arena_bytes: int = _setting(1024**3, "most tensor memory of one queue, bytes")
    load_timeout: float = _setting(60.0, "seconds a worker may take to load a program")
    run_timeout: float = _setting(60.0, "seconds one run of a program may take")
    worker_memory_bytes: int = _setting(
        0, "most memory of one worker, bytes; 0: that of a card, or what the machine has"
    )
    log_level: str = _setting("INFO", "DEBUG, INFO, WARNING or ERROR")
    log_format: str = _setting("text", "text, logfmt or json")
    data_plane: str = _setting(
        "auto", "inference over gRPC, in a process of its own: on, off, or auto: on unless embedded"
    )
    embedded: bool = _setting(False, "serve one user: sockets that only he can open")

    def __post_init__(self) -> None:
        for name, low, high in (
            ("emulate", 0, 1024),
            ("aging", 0.001, 86_400),
            ("recall_grace", 0, 3600),
            ("reconnect_grace", 0, 86_400),
            ("max_linger", 0, 30 * 86_400),
            ("max_celsius", 20, 200),
            ("health_recovery", 0, 86_400),
            ("run_timeout", 0.1, 86_400),
            ("worker_memory_bytes", 0, 2**50),
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
        for name, choices in (
            ("log_level", ("DEBUG", "INFO", "WARNING", "ERROR")),
            ("log_format", ("text", "logfmt", "json")),
            ("data_plane", ("on", "off", "auto")),
            ("containers", ("any", "granted")),
            ("placement", ("pack", "spread")),
            ("journal_sync", ("never", "second", "always")),
        ):
            if (value := getattr(self, name)) not in choices:
                raise BadSettings(f"{name} is {value!r}, expected {', '.join(choices)}")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise BadSettings("tls_cert and tls_key go together")
        if len(os.fsencode(self.handoff_socket)) > 107:
            raise BadSettings(f"socket path is too long for a Unix socket: {self.handoff_socket}")

    @property
    def handoff_socket(self) -> Path:
        return self.socket.with_name(self.socket.name + ".handoff")

    @property
    def mode(self) -> int:
        """Permissions of the sockets."""
        return 0o600 if self.embedded else self.socket_mode

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
            values[name] = _convert(fields[name], value, f"{config}: {name}")
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
        if not isinstance(value, str):  # a file has types of its own
            if type(value) is kind or (type(value), kind) == (int, float):
                return kind(value)
            raise TypeError
        if kind is bool:
            return {"1": True, "true": True, "0": False, "false": False}[value.lower()]
        return int(value, 8) if item.name == "socket_mode" else kind(value)
    except (ValueError, TypeError, KeyError):
        raise BadSettings(f"{source} is {value!r}, expected {kind.__name__.lower()}") from None
