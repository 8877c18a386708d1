"""A broker process that clients reach by TCP, with certificates made for it."""

import itertools
import os
from pathlib import Path

from support.certificates import Authority, Issued
from support.daemon import Daemon

_hosts = itertools.count(1)


def own_host() -> str:
    """A loopback address that no other process of the tests uses: any port of it is free."""
    pid = os.getpid()
    return f"127.{1 + pid // 256 % 254}.{pid % 256}.{next(_hosts)}"


class RemoteDaemon(Daemon):
    """`environ` points clients at its TCP port, with the certificate of CN=client,O=tests."""

    def __init__(self, *settings: str) -> None:
        self.host = own_host()
        self.address = f"{self.host}:5001"
        super().__init__(
            1,
            *("--data-plane", "on", "--listen", self.address, *settings),
            *("--data-listen", f"{self.host}:5002"),
        )
        self.authority = Authority(self.folder)
        self.server = self.authority.server("server", self.host)
        self._settings = (
            *self._settings,
            *("--tls-cert", str(self.server.certificate), "--tls-key", str(self.server.key)),
            *("--tls-client-ca", str(self.authority.path)),
        )
        self.use(self.authority.client())

    def use(self, client: Issued | None, ca: Path | None = None) -> dict[str, str]:
        """Have clients come with that certificate, or with none, and trust our authority or `ca`."""
        self.environ |= {
            "FURIOSA_BROKER": self.address,
            "FURIOSA_BROKER_CA": str(ca or self.authority.path),
            "FURIOSA_BROKER_CERT": "" if client is None else str(client.certificate),
            "FURIOSA_BROKER_KEY": "" if client is None else str(client.key),
        }
        return self.environ
