"""Being known to the kubelet, and staying it.

There are two ways. A plugin registers: it calls Register on the kubelet's socket, which asks back at the
plugin's socket before it answers. Or it is found: the kubelet looks for sockets in its plugins_registry
folder, asks each who it is, and does so again after it has been restarted.

The kubelet forgets plugins in more ways than it tells of. It wipes its device-plugins folder when it starts.
It closes the streams of a plugin when an older instance with the same resource goes away. So whatever is
odd, a socket that is gone or a stream that nobody reads, is answered in one way: with a new socket, of a
name that was never there before, and by being registered once more.
"""

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

import grpc

from furiosa.kubelet.streams import Streams
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2 as pb
from furiosa.proto.kubelet.deviceplugin.v1beta1 import deviceplugin_pb2_grpc as rpc
from furiosa.proto.kubelet.registration.v1 import registration_pb2, registration_pb2_grpc

log = logging.getLogger(__name__)

DEVICE_PLUGIN: Final = "DevicePlugin"
DRA_PLUGIN: Final = "DRAPlugin"
API_VERSION: Final = "v1beta1"  # of the device plugin API; there is no other

# two files are looked at so often: inotify says nothing of what happens on the other side of some mounts
LOOK_SECONDS: Final = 0.25
REGISTER_SECONDS: Final = 15.0  # the kubelet gives up asking back after 10
FIRST_STREAM_SECONDS: Final = 10.0  # from being registered to being read
STREAM_GRACE_SECONDS: Final = 1.0  # without a reader, until we are taken for forgotten
FOUND_GRACE_SECONDS: Final = (
    10.0  # the same where the kubelet comes by itself, also after its restart
)
RETRY_SECONDS: Final = (0.5, 1.0, 2.0, 5.0, 10.0)  # after failures one after the other
STOP_SECONDS: Final = 1.0

_SERVER_OPTIONS: Final = (("grpc.so_reuseport", 0),)


@dataclass(frozen=True, slots=True)
class Plugin:
    """What is offered: `add` puts its services into a server. `streams` are those that the kubelet reads
    as long as it knows the plugin; None: there are none. `stem` is what names of sockets begin with.
    """

    name: str  # of the resource, or the driver
    add: Callable[[grpc.aio.Server], None]
    stem: str
    streams: Streams | None = None
    pre_start: bool = False
    prefers: bool = False
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count, repr=False)

    def new_socket(self, folder: Path) -> Path:
        """Also another instance of ours never had it."""
        unique = f"{os.getpid()}-{next(self._numbers)}-{secrets.token_hex(3)}"
        return folder / f"{self.stem}-{unique}.sock"


async def keep_registered(
    plugin: Plugin, folder: Path, on_state: Callable[[bool], None]
) -> NoReturn:
    """Have `plugin` registered by the kubelet whose device-plugins folder this is, again and again until
    this is cancelled. `on_state` is told whether it is now.
    """
    kubelet = folder / "kubelet.sock"
    waits = _Waits()
    while True:
        seen = None
        try:
            if not kubelet.exists():
                log.info("there is no kubelet at %s yet: waiting for it", kubelet)
                await _until(kubelet.exists)
            seen = _identity(kubelet)
            path = plugin.new_socket(folder)
            async with _served(path, plugin.add):
                await _register(plugin, kubelet, path)
                log.info("registered %s with the kubelet as %s", plugin.name, path.name)
                waits.reset()
                on_state(True)
                try:
                    why = await _until_forgotten(
                        plugin.streams,
                        path,
                        STREAM_GRACE_SECONDS,
                        functools.partial(_is_still, kubelet, seen),
                    )
                finally:
                    on_state(False)
                log.warning("%s is to be registered again: %s", plugin.name, why)
        except (grpc.aio.AioRpcError, OSError, RuntimeError) as exc:
            log.warning("%s is not registered with the kubelet: %s", plugin.name, _told(exc))
            # a kubelet that has just been started is not made to wait for what one before it did
            await waits.next(functools.partial(_is_another, kubelet, seen))


async def keep_found(
    plugin: Plugin,
    kind: str,
    versions: Sequence[str],
    folder: Path,
    on_state: Callable[[bool], None],
    endpoint: Path | None = None,
) -> NoReturn:
    """Have `plugin` found by the kubelet whose plugins_registry folder this is, until this is cancelled.

    `kind` is DEVICE_PLUGIN or DRA_PLUGIN. `endpoint`: the socket that serves it, made here, which has this
    name as long as this runs; None: the one that is found serves it too.
    """
    waits = _Waits()
    while True:
        path = plugin.new_socket(folder)
        known = asyncio.Event()
        info = registration_pb2.PluginInfo(
            type=kind,
            name=plugin.name,
            endpoint=str(path if endpoint is None else endpoint),
            supported_versions=versions,
        )
        registrar = _Registrar(info, known, on_state)

        def add(server: grpc.aio.Server, registrar: _Registrar = registrar) -> None:
            registration_pb2_grpc.add_RegistrationServicer_to_server(registrar, server)
            if endpoint is None:
                plugin.add(server)

        try:
            async with contextlib.AsyncExitStack() as stack:
                if endpoint is not None:
                    await stack.enter_async_context(_served(endpoint, plugin.add))
                await stack.enter_async_context(_served(path, add))
                served = path if endpoint is None else endpoint
                await _until(functools.partial(_is_known, known, path))
                waits.reset()
                try:
                    why = await _until_forgotten(
                        plugin.streams,
                        served,
                        FOUND_GRACE_SECONDS,
                        path.exists,
                    )
                finally:
                    on_state(False)
                log.warning("%s is to be found again: %s", plugin.name, why)
        except (OSError, RuntimeError) as exc:
            log.warning("%s cannot be found by the kubelet: %s", plugin.name, _told(exc))
            await waits.next()


class _Registrar(registration_pb2_grpc.RegistrationServicer):
    def __init__(
        self,
        info: registration_pb2.PluginInfo,
        known: asyncio.Event,
        on_state: Callable[[bool], None],
    ) -> None:
        self._info = info
        self._known = known
        self._on_state = on_state

    async def GetInfo(
        self, request: registration_pb2.InfoRequest, context: Any
    ) -> registration_pb2.PluginInfo:
        return self._info

    async def NotifyRegistrationStatus(
        self, request: registration_pb2.RegistrationStatus, context: Any
    ) -> registration_pb2.RegistrationStatusResponse:
        if request.plugin_registered:
            log.info("the kubelet has found %s", self._info.name)
            self._known.set()
        else:
            log.warning("the kubelet does not take %s: %s", self._info.name, request.error)
        self._on_state(request.plugin_registered)
        return registration_pb2.RegistrationStatusResponse()


class _Waits:
    """Longer and longer, within bounds."""

    def __init__(self) -> None:
        self._failures = 0

    def reset(self) -> None:
        self._failures = 0

    async def next(self, enough: Callable[[], bool] = lambda: False) -> None:
        """It ends early when it is `enough`; then what failed before does not count any more."""
        seconds = RETRY_SECONDS[min(self._failures, len(RETRY_SECONDS) - 1)]
        self._failures += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await _until(enough)
                self.reset()


@contextlib.asynccontextmanager
async def _served(path: Path, add: Callable[[grpc.aio.Server], None]) -> AsyncIterator[None]:
    """Raises: RuntimeError, OSError when it cannot be listened on."""
    path.unlink(missing_ok=True)  # only an endpoint has a name that was there before
    server = grpc.aio.server(options=_SERVER_OPTIONS)
    add(server)
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    try:
        yield
    finally:
        await server.stop(STOP_SECONDS)
        path.unlink(missing_ok=True)


async def _register(plugin: Plugin, kubelet: Path, path: Path) -> None:
    """Raises: grpc.aio.AioRpcError."""
    options = pb.DevicePluginOptions(
        pre_start_required=plugin.pre_start, get_preferred_allocation_available=plugin.prefers
    )
    request = pb.RegisterRequest(
        version=API_VERSION, endpoint=path.name, resource_name=plugin.name, options=options
    )
    if plugin.streams is not None:
        plugin.streams.start_anew()
    async with grpc.aio.insecure_channel(f"unix:{kubelet}") as channel:
        await rpc.RegistrationStub(channel).Register(request, timeout=REGISTER_SECONDS)


async def _until_forgotten(
    streams: Streams | None, path: Path, grace: float, still: Callable[[], bool]
) -> str:
    """Why the kubelet does not know us any more."""
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        if not path.exists():
            return "its socket is gone"
        if not still():
            return "the kubelet has been started again"
        if streams is not None:
            most = grace if streams.ever else max(grace, FIRST_STREAM_SECONDS)
            if streams.idle_seconds > most:
                return "nobody reads its devices"


async def _until(condition: Callable[[], bool]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(LOOK_SECONDS)


def _is_known(known: asyncio.Event, path: Path) -> bool:
    """Or cannot be any more."""
    return known.is_set() or not path.exists()


def _is_still(path: Path, seen: tuple[int, int, int] | None) -> bool:
    return _identity(path) == seen


def _is_another(path: Path, seen: tuple[int, int, int] | None) -> bool:
    return not _is_still(path, seen)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Another one after it was made anew; inodes alone are used again."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def _told(exc: BaseException) -> str:
    if isinstance(exc, grpc.aio.AioRpcError):
        return f"{exc.code().name}: {exc.details()}"
    return str(exc) or type(exc).__name__
