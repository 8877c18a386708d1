"""The broker's side of TCP, put together: listeners, their keys, and the sessions of remote clients."""

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from furiosa.broker.rpc.admission import Admission
from furiosa.broker.rpc.credentials import Listener, TlsFiles
from furiosa.broker.rpc.gate import RemoteGate, TokenName
from furiosa.broker.rpc.limits import LIMITS
from furiosa.broker.rpc.methods import Method
from furiosa.broker.rpc.remote import RemoteSessions
from furiosa.broker.rpc.server import GrpcServer
from furiosa.broker.sessions import Session, Sessions
from furiosa.proto.broker.v1 import handoff_pb2

LOOK_SECONDS: Final = 1.0  # how often files with keys are looked at


class Network:
    """`listen` has addresses with commas between them, `data_listen` one or none; see `Listener.parse`.

    Empty texts of both: nothing listens, and nothing is read.
    """

    def __init__(
        self, listen: str, data_listen: str, tls_cert: str, tls_key: str, tls_client_ca: str
    ) -> None:
        """Raises: ValueError for an address or a file that cannot be used; OSError."""
        tls = bool(tls_cert)

        def parsed(text: str) -> Listener:
            return Listener.parse(text, tls=tls, client_ca=bool(tls_client_ca))

        self._listeners = [parsed(text) for text in map(str.strip, listen.split(",")) if text]
        self._data = parsed(data_listen) if data_listen else None
        self._tls: TlsFiles | None = None
        if tls and (self._listeners or self._data):
            client_ca = Path(tls_client_ca) if tls_client_ca else None
            self._tls = TlsFiles(Path(tls_cert), Path(tls_key), client_ca)
        self._sessions: RemoteSessions | None = None
        self._servers: list[GrpcServer] = []

    @property
    def data_arguments(self) -> tuple[str, ...]:
        """For the data-plane process."""
        if self._data is None:
            return ()
        keys = () if self._tls is None else ("--tls-fd", str(self._tls.memory))
        return ("--listen", str(self._data), *keys)

    @property
    def inherited(self) -> tuple[int, ...]:
        """Descriptors that the data-plane process needs beside them."""
        return () if self._tls is None else (self._tls.memory,)

    @property
    def data_target(self) -> str:
        """Where remote clients find the data plane; empty: nowhere."""
        return "" if self._data is None else self._data.target

    async def start(
        self,
        methods: Mapping[str, Method],
        sessions: Sessions,
        admission: Admission,
        welcome: Callable[[Session], handoff_pb2.Welcome],
        token_name: TokenName,
    ) -> None:
        """Let clients in. `welcome` is the greeting of a remote session. Raises: OSError."""
        tls = self._tls
        keys = None if tls is None else lambda: tls.current
        self._sessions = RemoteSessions(sessions.open, sessions.close, welcome)
        for listener in self._listeners:
            gate = RemoteGate(listener.way, sessions, token_name)
            server = GrpcServer(
                methods, sessions, admission, LIMITS, gate=gate, remote=self._sessions
            )
            self._servers.append(server)
            await server.listen(listener, keys)

    async def watch(self) -> None:
        """Take over keys that have changed. Runs until it is cancelled."""
        while self._tls is not None:
            await asyncio.sleep(LOOK_SECONDS)
            self._tls.check()

    def recheck(self) -> None:
        """After the tenants file has changed: end the sessions of those who are no longer let in."""
        if self._sessions is not None:
            self._sessions.recheck()

    async def stop(self, grace: float) -> None:
        """Once. Also when only some listeners could be started."""
        for server in self._servers:
            await server.stop(grace)
        if self._tls is not None:
            self._tls.close()
