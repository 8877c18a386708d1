"""A client process of a load: `python -m benchmarks.client NUMBER`.

It is told on stdin, one JSON line each, what to prepare and then when to run it, and answers on
stdout. All its kinds stay connected, so that kinds can take turns without paying for a start.
"""

import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Protocol

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from furiosa.proto.broker.v1 import leases_pb2, leases_pb2_grpc

FOR_EVER_SECONDS = 10 * 365 * 86_400
LOCK_MS = 60_000
UNLOCK = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end"


@dataclass(frozen=True, slots=True)
class Order:
    """Run cycles of `kind` on `device` between two times of CLOCK_MONOTONIC."""

    kind: str
    device: str
    starts: float
    ends: float
    hold: float = 0.0
    waits: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """Microseconds of each whole cycle that began in time and of the acquire in it; and the seconds from
    the start to the end of the last one.
    """

    cycles: list[int]
    acquires: list[int]
    seconds: float


class Taker(Protocol):
    """`acquire` makes `device` ours, `release` gives it back. For the empty calls both do nothing."""

    def acquire(self, device: str, waits: bool) -> object: ...

    def release(self, held: object) -> None: ...


class OverHandoff:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def acquire(self, device: str, waits: bool) -> str:
        spec = DeviceSpec.parse(device)
        return self._connection.acquire(spec, math.inf if waits else None).id

    def release(self, held: object) -> None:
        self._connection.release(str(held))


class OverGrpc:
    def __init__(self, channel: grpc.Channel) -> None:
        self._leases = leases_pb2_grpc.LeasesStub(channel)

    def acquire(self, device: str, waits: bool) -> str:
        request = leases_pb2.AcquireRequest(device_spec=device)
        if waits:
            request.wait_limit.seconds = FOR_EVER_SECONDS
        return self._leases.Acquire(request).lease.id

    def release(self, held: object) -> None:
        self._leases.Release(leases_pb2.ReleaseRequest(lease_id=str(held)))


class Empty:
    """Health/Check: the standard empty unary RPC; its handler looks up one word."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._health = health_pb2_grpc.HealthStub(channel)

    def acquire(self, device: str, waits: bool) -> None:
        self._health.Check(health_pb2.HealthCheckRequest())

    def release(self, held: object) -> None:
        self._health.Check(health_pb2.HealthCheckRequest())


class EmptyList:
    """Leases/List while there is no lease: our own handlers and guard, an empty answer."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._leases = leases_pb2_grpc.LeasesStub(channel)

    def acquire(self, device: str, waits: bool) -> None:
        self._leases.List(leases_pb2.ListLeasesRequest())

    def release(self, held: object) -> None:
        self._leases.List(leases_pb2.ListLeasesRequest())


class RedisLock:
    """SET NX PX, and a script that deletes only our own; one key per device."""

    def __init__(self, socket: str) -> None:
        import redis  # of the group "bench", and only for this

        self._redis = redis.Redis(unix_socket_path=socket)
        self._unlock = self._redis.register_script(UNLOCK)

    def acquire(self, device: str, waits: bool) -> tuple[str, str]:
        token = os.urandom(16).hex()
        if not self._redis.set(device, token, nx=True, px=LOCK_MS):
            raise RuntimeError(f"{device} is locked")
        return device, token

    def release(self, held: object) -> None:
        assert isinstance(held, tuple)
        device, token = held
        if self._unlock(keys=[device], args=[token]) != 1:
            raise RuntimeError(f"{device} was not ours")


def takers(number: int) -> Mapping[str, Callable[[], Taker]]:
    """What this process can be told to run."""
    connection = Connection.open(client=f"benchmark-{number}")
    agent = ("grpc.primary_user_agent", f"furiosa-session/{connection.session_token}")
    channel = grpc.insecure_channel(connection.grpc_target, options=[agent])
    return {
        "handoff": lambda: OverHandoff(connection),
        "grpc": lambda: OverGrpc(channel),
        "empty": lambda: Empty(channel),
        "empty_list": lambda: EmptyList(channel),
        "redis": lambda: RedisLock(os.environ["BENCHMARK_REDIS"]),
        "redis_aof": lambda: RedisLock(os.environ["BENCHMARK_REDIS_AOF"]),
    }


def run(taker: Taker, order: Order) -> Outcome:
    cycles, acquires = [], []
    clock = time.monotonic_ns
    ends = order.ends * 1e9
    time.sleep(max(0.0, order.starts - time.monotonic()))
    after = clock()
    while (before := after) < ends:
        held = taker.acquire(order.device, order.waits)
        acquired = clock()
        if order.hold:
            time.sleep(order.hold)
        taker.release(held)
        after = clock()
        acquires.append((acquired - before) // 1000)
        cycles.append((after - before) // 1000)
    return Outcome(cycles, acquires, after / 1e9 - order.starts)


def main() -> None:
    makers = takers(int(sys.argv[1]))
    made: dict[str, Taker] = {}
    print("ready", flush=True)
    for line in sys.stdin:
        order = Order(**json.loads(line))
        if order.kind not in made:
            made[order.kind] = makers[order.kind]()
        print(json.dumps(asdict(run(made[order.kind], order))), flush=True)


if __name__ == "__main__":
    main()
