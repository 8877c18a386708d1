"""What one listener lets anybody have, against clients that take more, or that do not go on."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from furiosa.broker.rpc.admission import BOUNDS, CALLS, Admission
from furiosa.broker.rpc.limits import GrpcLimits
from furiosa.common.errors import LimitExceeded
from furiosa.proto.broker.v1 import devices_pb2, devices_pb2_grpc
from support.listeners import listening, reason_of
from support.waiting import until

ATTACHED = """
import sys, time
from furiosa.client.sync import Connection
with Connection.open(client="test"):
    print("attached", flush=True)
    time.sleep(600)
"""
ANN = (("authorization", "Bearer token-of-ann"),)


async def let_in(address: str) -> bool:
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            await devices_pb2_grpc.DevicesStub(channel).List(
                devices_pb2.ListDevicesRequest(), metadata=ANN
            )
            return True
        except grpc.aio.AioRpcError as exc:
            if exc.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False


async def test_a_request_that_does_not_come_ends_its_call() -> None:
    async with listening(limits=GrpcLimits(request_seconds=0.05)) as broker:
        broker.backend.tokens["token-of-ann"] = "ann"
        async with grpc.aio.insecure_channel(broker.address) as channel:
            for method in ("Devices/List", "Devices/Watch", "Programs/Load", "Sessions/Attach"):
                path = f"/furiosa.proto.broker.v1.{method}"
                call: Any = channel.stream_stream(path)(metadata=ANN)  # sends no message
                with pytest.raises(grpc.aio.AioRpcError, match=r"not here after 0\.05 s") as caught:
                    await call.read()
                assert reason_of(caught.value) == "BAD_ARGUMENT"
        assert not broker.backend.calls


async def test_a_stranger_is_turned_away_before_his_request_comes() -> None:
    async with (
        listening(limits=GrpcLimits(request_seconds=3600)) as broker,
        grpc.aio.insecure_channel(broker.address) as channel,
    ):
        call: Any = channel.stream_stream("/furiosa.proto.broker.v1.Devices/List")()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        assert reason_of(caught.value) == "NOT_AUTHENTICATED"


async def test_who_connects_and_says_nothing_is_hung_up_on() -> None:
    async with listening(limits=GrpcLimits(handshake_seconds=0.2)) as broker:
        host, _, port = broker.address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        while await reader.read(65536):  # the server's own HTTP/2 settings
            pass
        writer.close()
        await writer.wait_closed()


async def test_a_client_that_is_stopped_loses_its_session(tmp_path: Path) -> None:
    limits = GrpcLimits(keepalive_seconds=0.5, keepalive_answer_seconds=0.5)
    token = tmp_path / "token"
    token.write_text("token-of-ann")
    async with listening(limits=limits) as broker:
        broker.backend.tokens["token-of-ann"] = "ann"
        environ = {
            **os.environ,
            "FURIOSA_BROKER": broker.address,
            "FURIOSA_BROKER_TOKEN_FILE": str(token),
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", ATTACHED), env=environ, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert client.stdout is not None
            assert await client.stdout.readline() == b"attached\n"
            client.send_signal(signal.SIGSTOP)
            await until(lambda: bool(broker.backend.ended))
        finally:
            client.kill()
            await client.wait()


async def test_connections_are_bounded_and_leave_room_again() -> None:
    limits = GrpcLimits(connections=2)
    async with listening(limits=limits) as broker:
        broker.backend.tokens["token-of-ann"] = "ann"
        host, _, port = broker.address.rpartition(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(2)]
        try:
            while await let_in(broker.address):  # the server has not yet accepted both
                pass
        finally:
            for sock in idle:
                sock.close()
        while not await let_in(broker.address):  # it has not yet seen them go
            pass


async def test_a_message_or_metadata_too_large_never_reaches_a_handler() -> None:
    limits = GrpcLimits(request_bytes=1000, metadata_bytes=1000)
    async with listening(limits=limits) as broker:
        broker.backend.tokens["token-of-ann"] = "ann"
        async with grpc.aio.insecure_channel(broker.address) as channel:
            call: Any = channel.unary_unary("/furiosa.proto.broker.v1.Devices/List")
            for request, metadata in ((b"\0" * 2000, ANN), (b"", (*ANN, ("x", "y" * 4000)))):
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await call(request, metadata=metadata)
                assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not broker.backend.calls


def test_each_method_and_each_caller_has_a_bound() -> None:
    admission = Admission()
    bound = BOUNDS["Devices/Utilization"]
    open_calls = [admission.call("Devices/Utilization", "ann") for _ in range(bound.each)]
    for call in open_calls:
        call.__enter__()
    with (
        pytest.raises(LimitExceeded, match=r"measurements of utilization at once of one caller"),
        admission.call("Devices/Utilization", "ann"),
    ):
        pass
    with admission.call("Devices/Utilization", "bob"), admission.call("Devices/List", "ann"):
        pass
    open_calls.pop().__exit__(None, None, None)
    with admission.call("Devices/Utilization", "ann"):
        pass
    for call in open_calls:
        call.__exit__(None, None, None)


def test_callers_without_a_name_leave_room_for_the_others() -> None:
    admission = Admission()
    taken = [admission.call("Devices/List", None) for _ in range(CALLS.total // 4)]
    for call in taken:
        call.__enter__()
    with pytest.raises(LimitExceeded), admission.call("Devices/List", None):
        pass
    with admission.call("Devices/List", "ann"):
        pass
    for call in taken:
        call.__exit__(None, None, None)


def test_all_callers_together_have_a_bound_and_a_refusal_costs_no_place() -> None:
    admission = Admission()
    bound = BOUNDS["Devices/Utilization"]
    callers = [f"c{number}" for number in range(bound.total)]
    taken = [admission.call("Devices/Utilization", caller) for caller in callers]
    for call in taken:
        call.__enter__()
    for _ in range(CALLS.each + 1):
        with (
            pytest.raises(LimitExceeded, match="of all"),
            admission.call("Devices/Utilization", "ann"),
        ):
            pass
    with admission.call("Devices/List", "ann"):
        pass
    for call in taken:
        call.__exit__(None, None, None)
