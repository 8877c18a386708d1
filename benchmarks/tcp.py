"""A broker that listens on TCP, with a token, for clients of this machine."""

import contextlib
import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

TOKEN = "a-token-of-the-benchmark"


@dataclass(frozen=True, slots=True)
class Listener:
    """`settings` are for the broker."""

    settings: tuple[str, ...]
    address: str
    token_file: Path

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Clients go by TCP meanwhile."""
        wanted = {
            "FURIOSA_BROKER": self.address,
            "FURIOSA_BROKER_TOKEN_FILE": str(self.token_file),
        }
        before = {name: os.environ.get(name) for name in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value


@contextlib.contextmanager
def listener() -> Iterator[Listener]:
    with tempfile.TemporaryDirectory(prefix="furiosa-bench-") as folder:
        token, tenants = Path(folder, "token"), Path(folder, "tenants.toml")
        token.write_text(TOKEN)
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        tenants.write_text(
            f'[[tenant]]\nname = "bench"\nmatch = [{{ token-sha256 = "{digest}" }}]\n'
            '[unmatched]\npolicy = "own-tenant"\n'
        )
        control, data = (f"127.0.0.1:{port}" for port in _free_ports(2))
        settings = (
            *("--tenants", str(tenants)),
            *("--listen", f"{control}/token", "--data-listen", f"{data}/token"),
        )
        yield Listener(settings, control, token)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [item.getsockname()[1] for item in sockets]
