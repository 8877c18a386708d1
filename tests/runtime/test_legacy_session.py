"""The API before SDK 0.10, on a device that doubles its input."""

import gc
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from furiosa.common import errors as broker
from furiosa.common.tensor import DType, TensorSpec
from furiosa.queuepair import CompletionStatus
from furiosa.runtime import FuriosaRuntimeError
from support.deprecated import quietly
from support.fake_connection import FakeNpu, X
from support.runners import ENF, ones

session = quietly("furiosa.runtime.session")
errors = quietly("furiosa.runtime.errors")
tensor = quietly("furiosa.runtime.tensor")


@pytest.fixture
def sess(npu: FakeNpu) -> Iterator[Any]:
    with session.create(ENF) as made:
        yield made


@pytest.fixture
def queued(npu: FakeNpu) -> Iterator[tuple[Any, Any]]:
    made = session.create_async(ENF)
    yield made
    made[1].close()


def test_a_session_runs_and_gives_everything_back(npu: FakeNpu) -> None:
    with session.create(ENF) as sess:
        for inputs in (
            ones(2),
            [ones(2)],
            (one for one in [ones(2)]),
            tensor.TensorArray.of([ones(2)]),
        ):
            outputs = sess.run(inputs)
            assert isinstance(outputs, tensor.TensorArray)
            np.testing.assert_array_equal(outputs.numpy(), [ones(4)])
    assert npu.released == ["lease-1"]
    assert sess.close() is True
    with pytest.raises(errors.SessionClosed, match=r"already closed\. Please create a new session"):
        sess.run(ones())


def test_by_name(sess: Any) -> None:
    (output,) = sess.run_with(["y"], {"x": ones(2)})
    np.testing.assert_array_equal(output, ones(4))


@pytest.mark.parametrize(("outputs", "kind"), [([], ValueError), (None, TypeError)])
def test_no_outputs_are_invalid(sess: Any, outputs: Any, kind: type[Exception]) -> None:
    with pytest.raises(errors.InvalidInput, match=r"^outputs must be given$") as caught:
        sess.run_with(outputs, {"x": ones()})
    assert isinstance(caught.value, kind)


@pytest.mark.parametrize(
    ("outputs", "inputs"), [(["z"], {"x": ones()}), (["y"], {"z": ones(), "x": ones()})]
)
def test_an_unknown_name(sess: Any, outputs: Any, inputs: Any) -> None:
    with pytest.raises(errors.TensorNameNotFound) as caught:
        sess.run_with(outputs, inputs)
    assert str(caught.value) == "Tensor name not found (native error code: 24)"
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("inputs", [{}, [ones()], None])
def test_by_name_every_input_is_needed_in_a_dict(sess: Any, inputs: Any) -> None:
    with pytest.raises(errors.InvalidInput):
        sess.run_with(["y"], inputs)


@pytest.mark.parametrize("count", [0, 2])
def test_a_wrong_number_of_tensors(sess: Any, count: int) -> None:
    text = f"^1 tensors are expected, but {count} tensors are given$"
    with pytest.raises(errors.InvalidInput, match=text) as caught:
        sess.run([ones()] * count)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("wrap", [list, tensor.TensorArray.of])
@pytest.mark.parametrize(
    ("array", "kind", "got"),
    [
        (np.zeros((3,), np.float32), ValueError, r"\(3,\) \(float32\)"),
        (np.zeros(X.shape, np.int8), TypeError, r"\(1, 1, 28, 28\) \(int8\)"),
    ],
)
def test_a_tensor_of_another_kind(
    sess: Any, array: Any, kind: type[Exception], got: str, wrap: Any
) -> None:
    text = rf"^expected \(1, 1, 28, 28\) \(float32\) but got {got}$"
    with pytest.raises(errors.InvalidInput, match=text) as caught:
        sess.run(wrap([array]))
    assert isinstance(caught.value, kind)


@pytest.mark.parametrize("inputs", [None, "x", {"x": ones()}, ["x"], [None], object()])
def test_what_is_no_tensor(sess: Any, inputs: Any) -> None:
    with pytest.raises(errors.UnsupportedTensorType, match="only supported") as caught:
        sess.run(inputs)
    assert isinstance(caught.value, TypeError)


def test_a_number_is_a_tensor_without_dimensions_only(npu: FakeNpu, sess: Any) -> None:
    with pytest.raises(errors.InvalidInput):
        sess.run([3.0])
    npu.inputs = npu.outputs = (TensorSpec("x", DType.FLOAT32, ()),)
    with session.create(ENF) as scalar:
        assert scalar.run([3.0])[0] == 6


def test_submitted_inputs_are_copied_unless_in_a_tensor_array(npu: FakeNpu) -> None:
    sess, queue = session.create_async(ENF, worker_num=1)
    npu.hold()
    copied, kept = ones(1), ones(2)
    sess.submit(ones(0), "first")  # the only worker is busy with it
    npu.wait_until_taken(1)
    sess.submit([copied], "copied")
    sess.submit(tensor.TensorArray.of([kept]), "kept")
    copied[:] = kept[:] = 5
    npu.go.set()
    results = {context: outputs[0].flat[0] for context, outputs in (queue.recv() for _ in range(3))}
    assert results == {"first": 0, "copied": 2, "kept": 10}
    queue.close()


def test_results_come_with_their_contexts_until_the_session_is_closed(queued: Any) -> None:
    sess, queue = queued
    for value in range(5):
        sess.submit(ones(value), context=value)
    sess.close()
    for context, outputs in queue:
        np.testing.assert_array_equal(outputs[0], ones(2 * context))
    with pytest.raises(errors.SessionTerminated, match=r"\(native error code: 22\)"):
        queue.recv()
    with pytest.raises(errors.SessionClosed):
        sess.submit(ones())


def test_a_closed_queue(queued: Any) -> None:
    sess, queue = queued
    with queue:
        pass
    assert list(queue) == []
    with pytest.raises(errors.SessionClosed):
        queue.recv()
    with pytest.raises(errors.SessionClosed):
        sess.submit(ones())


def test_a_timeout_is_in_milliseconds_and_warns(queued: Any) -> None:
    sess, queue = queued
    text = "a timeout in milliseconds is deprecated; use Receiver.recv"
    with (
        pytest.warns(FutureWarning, match=text),
        pytest.raises(
            errors.QueueWaitTimeout, match=r"queue waiting timed out \(native error code"
        ),
    ):
        queue.recv(timeout=1)
    sess.submit(ones(), "done")
    with pytest.warns(FutureWarning):
        assert queue.recv(600_000)[0] == "done"


def test_a_timeout_reaches_the_receiver_in_seconds(
    queued: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, queue = queued
    waits: list[Any] = []

    def recv(seconds: Any) -> Any:
        waits.append(seconds)
        return None, []

    monkeypatch.setattr(queue._receiver, "recv", recv)
    with pytest.warns(FutureWarning):
        queue.recv(1500)
    queue.recv()
    assert waits == [1.5, None]


def test_a_timeout_is_a_positive_int(queued: Any) -> None:
    _, queue = queued
    with pytest.raises(RuntimeError, match=r"^the timeout duration must be a positive integer$"):
        queue.recv(-1)
    for wrong in (0.5, True, "1"):
        with pytest.raises(TypeError, match="timeout: expected an int of ms, found "):
            queue.recv(wrong)


def test_a_failed_inference_has_its_context(npu: FakeNpu, queued: Any) -> None:
    sess, queue = queued
    npu.status = CompletionStatus.EXECUTION_FAILED
    sess.submit(ones(), "this")
    text = r"^npu0pe0-1: the inference failed; .* \(native error code: 15\)$"
    with pytest.raises(errors.InternalError, match=text) as caught:
        queue.recv()
    assert caught.value.context == "this"


def test_queues_are_as_large_as_can_be_unless_told(npu: FakeNpu) -> None:
    for given, expected in (
        ({}, (65536, 65536)),
        ({"input_queue_size": 2, "output_queue_size": 3}, (2, 3)),
    ):
        sess, queue = session.create_async(ENF, **given)
        line = sess._submitter._queue._line
        assert (line._input_size, line._kept - line._workers) == expected
        queue.close()


MEMBERS = (
    *("input_num", "output_num", "input", "inputs", "output", "outputs", "summary"),
    *("print_summary", "allocate_inputs", "create_inputs", "allocate_outputs"),
    *("create_outputs", "allocate_tensors", "create_tensors"),
)


@pytest.mark.parametrize("name", MEMBERS)
def test_members_of_the_model_on_sessions_warn(sess: Any, name: str) -> None:
    text = f"'Session.{name}' is deprecated; use 'Session.model.{name}'."
    with pytest.warns(FutureWarning, match=text) as warned:
        member = getattr(sess, name)
    assert warned[0].filename == __file__
    assert member == getattr(sess.model, name)
    assert set(MEMBERS) == {each for each in dir(sess.model) if not each.startswith("_")} - {"of"}


def test_members_of_the_model_end_with_the_session(queued: Any) -> None:
    sess, _ = queued
    with pytest.warns(FutureWarning):
        assert sess.input(0).name == "x"
    sess.close()
    for name in MEMBERS:
        with pytest.raises(errors.SessionClosed):
            getattr(sess, name)
    assert sess.model.input_num == 1


def test_tensors_of_a_model(sess: Any) -> None:
    model = sess.model
    assert isinstance(model, quietly("furiosa.runtime.model").Model)
    for made in (model.allocate_inputs(), model.create_inputs(), model.allocate_tensors(["x"])):
        assert [(each.shape, each.dtype) for each in made] == [(X.shape, np.float32)]
        made[0] = ones(2)
        np.testing.assert_array_equal(sess.run(made)[0], ones(4))
    assert len(model.allocate_outputs()) == len(model.create_outputs()) == 1
    assert [each.shape for each in model.create_tensors(["y", "x"])] == [X.shape, X.shape]
    with pytest.raises(errors.TensorNameNotFound):
        model.allocate_tensors(["z"])


@pytest.mark.parametrize(
    ("environ", "acquired"),
    [
        ({}, "npu:0:0-1"),
        ({"NPU_DEVNAME": "npu1pe0"}, "npu:1:0"),
        ({"NPU_DEVNAME": "npu1pe0", "FURIOSA_DEVICES": "warboy(2)*1"}, "warboy(2)*1"),
    ],
)
def test_the_device_of_who_names_none(
    npu: FakeNpu, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], acquired: str
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    session.create(ENF).close()
    session.create(ENF, device="npu0pe1").close()
    assert npu.acquired == [acquired, "npu:0:1"]


def test_optional_arguments_by_position_warn(npu: FakeNpu) -> None:
    text = r"an optional argument of create\(\) by position is deprecated; use its name\."
    with pytest.warns(FutureWarning, match=text) as warned:
        sess = session.create(ENF, "npu0pe0", 3, batch_size=1)
    assert warned[0].filename == __file__
    assert npu.acquired == ["npu:0:0"]
    assert sess._runner._loaded.capacity == 3
    sess.close()
    with pytest.warns(FutureWarning, match=r"create_async\(\)"):
        sess, queue = session.create_async(ENF, None, 2, 1, False, 5, 6, None)
    assert sess._submitter._queue._line._input_size == 5
    queue.close()
    session.create(model=ENF).close()
    for arguments, options in (
        ((ENF, "npu0pe0"), {"device": "npu0pe0"}),
        ((ENF, None, None, None, None, None, None), {}),
        ((), {}),
    ):
        with pytest.raises(TypeError):
            session.create(*arguments, **options)


def test_a_busy_device_has_the_published_text_and_a_note(npu: FakeNpu) -> None:
    npu.busy = True
    with pytest.raises(errors.DeviceBusy) as caught:
        session.create(ENF)
    assert str(caught.value) == "NPU device busy (native error code: 23)"
    assert "held by pid 4711" in caught.value.__notes__[0]
    assert isinstance(caught.value.__cause__, errors.DeviceBusy)


@pytest.mark.parametrize(
    ("options", "note"),
    [({"worker_num": 0}, "worker_num: "), ({"batch_size": 0}, "batch_size: ")],
)
def test_an_option_that_cannot_be(npu: FakeNpu, options: Any, note: str) -> None:
    with pytest.raises(errors.InvalidSessionOption) as caught:
        session.create(ENF, **options)
    assert str(caught.value).endswith("create_async() (native error code: 21)")
    assert caught.value.__notes__[0].startswith(note)
    with pytest.raises(errors.InvalidSessionOption):
        session.create_async(ENF, input_queue_size=0)
    assert npu.acquired == []


def test_what_has_no_class_of_its_own_is_an_internal_error(npu: FakeNpu) -> None:
    with pytest.raises(errors.InternalError, match=r"no device; .* \(native error code: 15\)$"):
        session.create(ENF, device="nonsense")


def test_an_enf_for_other_devices_is_incompatible(npu: FakeNpu) -> None:
    npu.load_error = broker.UnsupportedProgram("target", "warboy", "warboy-2pe")
    with pytest.raises(errors.IncompatibleModel, match=r"\(native error code: 13\)"):
        session.create(ENF)


def test_the_end_of_the_lease_is_a_terminated_session(npu: FakeNpu, sess: Any) -> None:
    npu.end_lease()
    with pytest.raises(errors.SessionTerminated, match=r"\(native error code: 22\)") as caught:
        sess.run(ones())
    assert "revoked by an administrator" in caught.value.__notes__[0]


def test_threads_share_a_session(npu: FakeNpu, sess: Any) -> None:
    wrong: list[object] = []

    def run(value: int) -> None:
        results = [sess.run(ones(value))[0].flat[0] for _ in range(20)]
        wrong.extend(result for result in results if result != 2 * value)

    threads = [threading.Thread(target=run, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_session_that_nobody_holds_gives_everything_back(npu: FakeNpu) -> None:
    sess = session.create(ENF)
    sess.run(ones())
    del sess
    gc.collect()
    assert npu.hung_up == 1


def test_an_unwarned_program_hears_only_of_the_import(npu: FakeNpu) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with session.create(ENF, device="npu0pe0-1", worker_num=1) as sess:
            sess.run(ones())
            assert sess.model.summary().startswith("Inputs:\n")


def test_every_error_is_of_the_current_tree(npu: FakeNpu) -> None:
    assert issubclass(errors.NativeException, FuriosaRuntimeError)
