"""Inference over gRPC: programs loaded in chunks, tensors inside the messages, a process of its own."""

import os
import select
import signal
from collections.abc import Iterator

import grpc
import numpy as np
import pytest

from furiosa.client.sync import Connection
from furiosa.common.selector import DeviceSpec
from furiosa.common.views import LeaseView
from furiosa.enf import read
from furiosa.proto.broker.v1 import (
    inference_pb2,
    inference_pb2_grpc,
    leases_pb2,
    leases_pb2_grpc,
    programs_pb2,
    programs_pb2_grpc,
)
from furiosa.vnpu.interpreter import Interpreter
from support import digits
from support.daemon import Daemon

IMAGE = digits.held_out_images()[0]
CHUNK = 10_000


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    made = Daemon(1, "--data-plane", "on")
    made.start()
    monkeypatch.setenv("FURIOSA_BROKER", made.environ["FURIOSA_BROKER"])
    yield made
    made.stop()


@pytest.fixture
def connection(daemon: Daemon) -> Iterator[Connection]:
    with Connection.open(client="test") as made:
        yield made


@pytest.fixture
def lease(connection: Connection) -> LeaseView:
    return connection.acquire(DeviceSpec.parse("npu:0:0"))


def channel(connection: Connection, target: str, token: str = "") -> grpc.Channel:
    agent = f"furiosa-session/{token or connection.session_token}"
    return grpc.insecure_channel(target, options=[("grpc.primary_user_agent", agent)])


@pytest.fixture
def programs(connection: Connection) -> Iterator[programs_pb2_grpc.ProgramsStub]:
    with channel(connection, connection.grpc_target) as control:
        yield programs_pb2_grpc.ProgramsStub(control)


@pytest.fixture
def program(programs: programs_pb2_grpc.ProgramsStub, lease: LeaseView) -> programs_pb2.Program:
    """The digits program, loaded over gRPC in chunks."""
    enf = digits.program()
    header = programs_pb2.LoadProgramHeader(lease_id=lease.id, enf_bytes=len(enf))
    chunks = [enf[start : start + CHUNK] for start in range(0, len(enf), CHUNK)]
    parts = [
        programs_pb2.LoadProgramRequest(header=header),
        *(programs_pb2.LoadProgramRequest(chunk=chunk) for chunk in chunks),
    ]
    return programs.Load(iter(parts)).program


@pytest.fixture
def stub(connection: Connection) -> Iterator[inference_pb2_grpc.InferenceStub]:
    assert connection.data_target
    with channel(connection, connection.data_target) as data:
        yield inference_pb2_grpc.InferenceStub(data)


def request(
    program: programs_pb2.Program, image: np.ndarray, number: int = 1
) -> inference_pb2.RunRequest:
    return inference_pb2.RunRequest(
        lease_id=program.lease_id, program_id=program.id, inputs=[image.tobytes()], id=number
    )


def logits(response: inference_pb2.RunResponse) -> np.ndarray:
    (output,) = response.outputs
    return np.frombuffer(output, np.float32).reshape(1, 10)


def test_a_program_is_described_until_it_is_unloaded(
    program: programs_pb2.Program,
    programs: programs_pb2_grpc.ProgramsStub,
    stub: inference_pb2_grpc.InferenceStub,
) -> None:
    key = programs_pb2.DescribeProgramRequest(lease_id=program.lease_id, program_id=program.id)
    described = programs.Describe(key).program
    assert described == program
    assert [tensor.name for tensor in described.inputs] == ["image"]
    assert list(described.outputs[0].shape) == [1, 10]
    programs.Unload(
        programs_pb2.UnloadProgramRequest(lease_id=program.lease_id, program_id=program.id)
    )
    with pytest.raises(grpc.RpcError):
        programs.Describe(key)
    with pytest.raises(grpc.RpcError):
        stub.Run(request(program, IMAGE))


def test_one_upload_of_a_lease_at_a_time(
    lease: LeaseView, programs: programs_pb2_grpc.ProgramsStub
) -> None:
    enf = digits.program()
    header = programs_pb2.LoadProgramHeader(lease_id=lease.id, enf_bytes=len(enf))
    head, body = (
        programs_pb2.LoadProgramRequest(header=header),
        programs_pb2.LoadProgramRequest(chunk=enf),
    )
    second: list[str] = []

    def slow() -> Iterator[programs_pb2.LoadProgramRequest]:
        """Sends the header, and the rest only when another upload has been refused."""
        yield head
        while not second:
            with pytest.raises(grpc.RpcError) as caught:
                programs.Load(iter([head]), timeout=60)
            error = caught.value
            assert isinstance(error, grpc.Call)
            trailers = dict(error.trailing_metadata() or ())
            if trailers["furiosa-reason"] == "LIMIT_EXCEEDED":  # else it came before the first
                second.append(str(error))
        yield body

    assert programs.Load(slow(), timeout=60).program.enf_bytes == len(enf)
    assert "uploads of a lease at once is 2, the limit is 1" in second[0]


def test_run_answers_what_the_instruction_set_says(
    program: programs_pb2.Program, stub: inference_pb2_grpc.InferenceStub
) -> None:
    response = stub.Run(request(program, IMAGE, number=7))
    (expected,) = Interpreter(read(digits.program())).run([IMAGE])
    np.testing.assert_array_equal(logits(response), expected)
    assert response.id == 7
    assert response.device_time_ns > 0


def test_a_stream_answers_every_request_and_survives_a_bad_one(
    program: programs_pb2.Program, stub: inference_pb2_grpc.InferenceStub
) -> None:
    images = digits.held_out_images()[:50]
    requests = [request(program, image, number) for number, image in enumerate(images)]
    bad = inference_pb2.RunRequest(lease_id=program.lease_id, program_id=program.id, id=99)
    requests.insert(25, bad)
    answers, failures = {}, []
    for answer in stub.RunStream(iter(requests), timeout=60):
        if answer.WhichOneof("outcome") == "failure":
            failures.append((answer.failure.id, answer.failure.detail.reason))
        else:
            answers[answer.response.id] = int(logits(answer.response).argmax())
    assert failures == [(99, "BAD_ARGUMENT")]
    assert sorted(answers) == list(range(50))
    right = [answers[n] == digits.held_out_labels()[n] for n in range(50)]
    assert sum(right) >= 48


def test_a_token_of_no_session_gets_nothing(
    program: programs_pb2.Program, connection: Connection
) -> None:
    with (
        channel(connection, connection.data_target, token="0" * 64) as data,
        pytest.raises(grpc.RpcError) as caught,
    ):
        inference_pb2_grpc.InferenceStub(data).Run(request(program, IMAGE))
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_dead_worker_is_named(
    program: programs_pb2.Program, stub: inference_pb2_grpc.InferenceStub, daemon: Daemon
) -> None:
    stub.Run(request(program, IMAGE))
    zygotes = [pid for pid, command in daemon.descendants().items() if "zygote" in command]
    (worker,) = [pid for pid in daemon.workers() if pid not in zygotes]
    os.kill(worker, signal.SIGKILL)
    with pytest.raises(grpc.RpcError) as caught:  # noqa: PT012  # which run notices is the kernel's choice
        for _ in range(1_000_000):
            stub.Run(request(program, IMAGE), timeout=60)
    assert isinstance(caught.value, grpc.Call)
    assert dict(caught.value.trailing_metadata() or ())["furiosa-reason"] in (
        "WORKER_DIED",
        "UNKNOWN_PROGRAM",
    )


def test_a_released_lease_is_of_no_more_use(
    program: programs_pb2.Program,
    stub: inference_pb2_grpc.InferenceStub,
    connection: Connection,
) -> None:
    stub.Run(request(program, IMAGE))
    with channel(connection, connection.grpc_target) as control:
        leases = leases_pb2_grpc.LeasesStub(control)
        leases.Release(leases_pb2.ReleaseRequest(lease_id=program.lease_id))
    with pytest.raises(grpc.RpcError) as caught:
        stub.Run(request(program, IMAGE), timeout=60)
    assert isinstance(caught.value, grpc.Call)
    assert dict(caught.value.trailing_metadata() or ())["furiosa-reason"] == "LEASE_ENDED"


def served_again(
    stub: inference_pb2_grpc.InferenceStub, program: programs_pb2.Program
) -> inference_pb2.RunResponse:
    """UNAVAILABLE is what a client tries again after, and the dead connection gives once or twice."""
    for _ in range(5):
        try:
            return stub.Run(request(program, IMAGE), wait_for_ready=True, timeout=60)
        except grpc.RpcError as error:
            if not isinstance(error, grpc.Call) or error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
    raise AssertionError("never served again")


def test_a_run_in_flight_learns_at_once_of_a_killed_data_plane(
    program: programs_pb2.Program, connection: Connection, daemon: Daemon
) -> None:
    (pid,) = [p for p, command in daemon.descendants().items() if "furiosa.dataplane" in command]
    (worker,) = daemon.workers()
    with channel(connection, connection.data_target) as data:
        stub = inference_pb2_grpc.InferenceStub(data)
        stub.Run(request(program, IMAGE))
        os.kill(worker, signal.SIGSTOP)
        run = stub.Run.future(request(program, IMAGE))
        os.kill(pid, signal.SIGKILL)
        assert run.exception(60) is not None
        assert run.code() is grpc.StatusCode.UNAVAILABLE
        os.kill(worker, signal.SIGCONT)
        assert logits(served_again(stub, program)).argmax() == digits.held_out_labels()[0]


def test_a_killed_data_plane_is_started_again(
    program: programs_pb2.Program, connection: Connection, daemon: Daemon
) -> None:
    (pid,) = [p for p, command in daemon.descendants().items() if "furiosa.dataplane" in command]
    with channel(connection, connection.data_target) as data:
        stub = inference_pb2_grpc.InferenceStub(data)
        stub.Run(request(program, IMAGE))
        pidfd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        select.select([pidfd], [], [], 60)
        os.close(pidfd)
        assert logits(served_again(stub, program)).argmax() == digits.held_out_labels()[0]
    assert "dataplane.ended" in daemon.log
    assert connection.leases()
