"""Inference over gRPC and TCP: beside an empty call to the same server and the run in process."""

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from benchmarks import tcp
from benchmarks.efforts import Effort
from benchmarks.figures import Found, in_turn
from benchmarks.inference import peers, setting, turns
from benchmarks.inference.setting import ALL_CPUS, OTHER_CPUS, PE, PE_CPU
from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from furiosa.proto.broker.v1 import inference_pb2, inference_pb2_grpc

TARGETS = {"mobilenet_v2": 1.25, "mnistnet": None}
AGAINST = "an empty unary RPC (health) by TCP to the broker, and session.run in process"


def figures(effort: Effort) -> Iterator[Found]:
    with tcp.listener() as listener:
        settings = ("--data-plane", "on", *listener.settings)
        with setting.serving(*settings, cpus=ALL_CPUS), listener.used():
            for name, target in TARGETS.items():
                yield from _remote(name, target, effort)


def _remote(name: str, target: float | None, effort: Effort) -> Iterator[Found]:
    program = setting.program(name)
    (image,) = setting.inputs(program)
    content = image.tobytes()
    with Connection.open(client="benchmark") as connection:
        lease = connection.acquire(DeviceSpec.parse(PE))
        loaded = connection.load_program(lease.id, program)
        metadata = (
            ("authorization", f"Bearer {tcp.TOKEN}"),
            ("furiosa-session", connection.session_token),
        )
        with (
            grpc.insecure_channel(connection.data_target) as data,
            grpc.insecure_channel(connection.grpc_target) as control,
        ):
            stub = inference_pb2_grpc.InferenceStub(data)
            health = health_pb2_grpc.HealthStub(control)

            def request() -> inference_pb2.RunRequest:
                return inference_pb2.RunRequest(
                    lease_id=lease.id, program_id=loaded.id, inputs=[content]
                )

            asked: SimpleQueue[inference_pb2.RunRequest | None] = SimpleQueue()
            answers = stub.RunStream(iter(asked.get, None), metadata=metadata)

            def streamed() -> Any:
                asked.put(request())
                return next(answers)

            def unary() -> Any:
                return stub.Run(request(), metadata=metadata)

            def empty() -> Any:
                return health.Check(health_pb2.HealthCheckRequest(), metadata=metadata)

            with setting.on(PE_CPU):
                session = peers.onnxruntime_session(setting.network(name))
            sides = [
                turns.blocking(streamed, OTHER_CPUS),
                turns.blocking(unary, OTHER_CPUS),
                turns.blocking(empty, OTHER_CPUS),
                turns.blocking(peers.onnxruntime_run(session, image), PE_CPU),
            ]
            taken = turns.take(sides, effort)
            asked.put(None)
        connection.release(lease.id)
    stream, alone, calls, runs = taken.sides
    bound = [a + b for a, b in zip(calls, runs, strict=True)]
    for suffix, ours, goal, how in (
        ("", stream, target, "RunStream, one run at a time"),
        (".unary", alone, None, "Run, a call for each"),
    ):
        yield in_turn(
            f"inference.remote.{name}{suffix}",
            ours,
            bound,
            unit="us",
            against=AGAINST,
            target=goal,
            conditions=f"{how}; {len(content):,} bytes of input, bearer token without TLS, client on "
            f"another CPU than the PE, data plane on any; {taken.conditions}",
        )
