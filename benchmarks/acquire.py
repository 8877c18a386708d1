"""Leasing a core: acquire and release, against two empty unary RPCs on the same server."""

from collections.abc import Iterator
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks.figures import Figure, compare
from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from furiosa.proto.broker.v1 import leases_pb2, leases_pb2_grpc

AGAINST = "two empty unary RPCs (grpc.health.v1.Health/Check) on the same server"
SPEC = DeviceSpec.parse("npu:0:0")


def figures(socket: Path, rounds: int) -> Iterator[Figure]:
    with Connection.open(client="benchmark") as connection:
        agent = ("grpc.primary_user_agent", f"furiosa-session/{connection.session_token}")
        with grpc.insecure_channel(f"unix:{socket}", options=[agent]) as channel:
            leases = leases_pb2_grpc.LeasesStub(channel)
            health = health_pb2_grpc.HealthStub(channel)
            check = health_pb2.HealthCheckRequest()

            def empty_twice() -> None:
                health.Check(check)
                health.Check(check)

            def over_grpc() -> None:
                request = leases_pb2.AcquireRequest(device_spec=str(SPEC))
                lease = leases.Acquire(request).lease
                leases.Release(leases_pb2.ReleaseRequest(lease_id=lease.id))

            def over_handoff() -> None:
                connection.release(connection.acquire(SPEC).id)

            for name, run in (("acquire.grpc", over_grpc), ("acquire.handoff", over_handoff)):
                yield compare(name, run, empty_twice, against=AGAINST, rounds=rounds)
