"""Running programs: bound arrays, host sections, processes. Their bits are in test_engine_bits."""

import os
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from furiosa.common.errors import InvalidProgram
from furiosa.common.tensor import DType
from furiosa.enf import NpuSection, Opcode, Program, Space, Window
from furiosa.enf.onnxgraph import GraphBuilder
from furiosa.vnpu import Engine, ExecutionFailed, Interpreter, npugraph, session
from support.agreement import agree
from support.programs import Draft, a_program, inputs_for

I8, F32 = DType.INT8, DType.FLOAT32


def an_addition() -> Program:
    draft = Draft()
    a, b = draft.input(I8, (256, 256)), draft.input(I8, (256, 256))
    out = draft.buffer(I8, (256, 256))
    scale = draft.constant([1.0, 1.0], F32)
    draft.emit(Opcode.ADD, out, a, source1=b, multiplier=scale, low=-128, high=127)
    draft.output(out)
    return draft.finish()


def test_bound_arrays_are_read_and_written_in_place() -> None:
    program = a_program(host=True)
    rng = np.random.default_rng(0)
    inputs, outputs = inputs_for(program, rng), [np.zeros((1, 4, 8, 8), np.float32)]
    engine = Engine(program)
    bound = engine.bind(inputs, outputs)
    for _ in range(3):
        inputs[0][...] = inputs_for(program, rng)[0]
        timing = bound.execute()
        np.testing.assert_array_equal(outputs, Interpreter(program).run(inputs))
        assert 0 < timing.tensor_ns < timing.task_ns


def test_several_bindings_of_one_engine_are_apart() -> None:
    program = a_program(host=True)
    rng = np.random.default_rng(1)
    engine = Engine(program)
    slots = [(inputs_for(program, rng), [np.empty((1, 4, 8, 8), np.float32)]) for _ in range(3)]
    bounds = [engine.bind(*slot) for slot in slots]
    for bound in bounds:
        bound.execute()
    for inputs, outputs in slots:
        np.testing.assert_array_equal(outputs, Interpreter(program).run(inputs))


def test_int8_inputs_stay_as_they_are() -> None:
    program = an_addition()
    rng = np.random.default_rng(2)
    inputs = inputs_for(program, rng)
    kept = [x.copy() for x in inputs]
    outputs = [np.empty((256, 256), np.int8)]
    bound = Engine(program).bind(inputs, outputs)
    for _ in range(2):
        bound.execute()
    np.testing.assert_array_equal(inputs, kept)
    np.testing.assert_array_equal(outputs, Interpreter(program).run(inputs))


def test_a_binding_keeps_its_arrays_and_sessions_alive() -> None:
    program = a_program()
    x = inputs_for(program, np.random.default_rng(3))
    expected = Interpreter(program).run(x)[0]
    y = np.empty((1, 4, 8, 8), np.float32)
    engine = Engine(program)
    bound = engine.bind([x[0].copy()], [y])
    engine.close()
    with pytest.raises(ValueError, match="the engine is closed"):
        engine.run(x)
    del engine
    bound.execute()
    np.testing.assert_array_equal(y, expected)


def test_bind_refuses_arrays_that_are_not_the_programs() -> None:
    program = a_program()
    engine = Engine(program)
    x, y = np.zeros((1, 3, 8, 8), np.float32), np.zeros((1, 4, 8, 8), np.float32)
    with pytest.raises(ValueError, match="0 inputs given, the program has 1"):
        engine.bind([], [y])
    with pytest.raises(ValueError, match=r"input 'x0' is float64 \[1, 3, 8, 8\], the program has"):
        engine.bind([x.astype(np.float64)], [y])
    with pytest.raises(ValueError, match=r"output 'y0' is float32 \[1, 4, 8\], the program has"):
        engine.bind([x], [y[..., 0]])
    with pytest.raises(ValueError, match="input 'x0' is not one aligned block in C order"):
        engine.bind([x.transpose(0, 1, 3, 2)], [y])
    unaligned = np.zeros(4 * x.size + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    with pytest.raises(ValueError, match="input 'x0' is not one aligned block in C order"):
        engine.bind([unaligned], [y])
    y.flags.writeable = False
    with pytest.raises(ValueError, match="output 'y0' is read-only"):
        engine.bind([x], [y])


def test_run_takes_any_layout() -> None:
    program = a_program()
    x = inputs_for(program, np.random.default_rng(4))[0]
    strided = np.repeat(x, 2, axis=3)[..., ::2]
    assert not strided.flags.c_contiguous
    np.testing.assert_array_equal(Engine(program).run([strided]), Engine(program).run([x]))


def a_host_program(graph: GraphBuilder, dtype: DType, shape: tuple[int, ...]) -> Program:
    """From `x` int64 [2] through the graph."""
    draft = Draft(batch=2)
    x, y = draft.input(DType.INT64, (2,)), draft.buffer(dtype, shape, Space.DRAM)
    draft.host(graph.build(), (x,), (y,))
    draft.output(y)
    return draft.finish()


def a_lookup() -> Program:
    graph = GraphBuilder("lookup")
    graph.input("x", DType.INT64, (2,))
    table = graph.constant(np.array([5.0, 6.0, 7.0], np.float32))
    graph.node("Gather", [table, "x"], ["y"])
    graph.output("y", F32, (2,))
    return a_host_program(graph, F32, (2,))


@pytest.mark.parametrize("make", [Engine, Interpreter])
def test_a_failing_host_section_fails_the_run_only(make: type[Engine] | type[Interpreter]) -> None:
    runner = make(a_lookup())
    with pytest.raises(ExecutionFailed, match="idx=9"):
        runner.run([np.array([0, 9])])
    assert runner.run([np.array([2, 0])])[0].tolist() == [7.0, 5.0]


def test_a_bound_run_reports_a_failing_host_section() -> None:
    x, y = np.array([0, 9]), np.zeros(2, np.float32)
    bound = Engine(a_lookup()).bind([x], [y])
    with pytest.raises(ExecutionFailed, match="idx=9"):
        bound.execute()
    x[1] = 1
    bound.execute()
    assert y.tolist() == [5.0, 6.0]


@pytest.mark.parametrize("make", [Engine, Interpreter])
def test_host_graphs_are_checked_first(make: type[Engine] | type[Interpreter]) -> None:
    graph = GraphBuilder("random")
    graph.input("x", DType.INT64, (2,))
    graph.node("RandomNormal", [], ["y"], shape=[2])
    graph.output("y", F32, (2,))
    with pytest.raises(InvalidProgram, match="'RandomNormal' is not one of the operators"):
        make(a_host_program(graph, F32, (2,)))


def test_a_graph_that_onnxruntime_has_no_kernel_for_is_invalid() -> None:
    graph = GraphBuilder("double")
    graph.input("x", DType.INT64, (2,))
    (wide,) = graph.node("Cast", ["x"], to=TensorProto.DOUBLE)
    (result,) = graph.node("Selu", [wide])
    graph.node("Cast", [result], ["y"], to=TensorProto.FLOAT)
    graph.output("y", F32, (2,))
    with pytest.raises(InvalidProgram, match="onnxruntime refuses it"):
        Engine(a_host_program(graph, F32, (2,)))


def test_host_sections_take_and_give_every_number_type() -> None:
    for dtype in DType:
        graph = GraphBuilder("cast")
        graph.input("x", DType.INT64, (2,))
        graph.node("CastLike", ["x", graph.constant(np.zeros(1, dtype.numpy))], ["y"])
        graph.output("y", dtype, (2,))
        agree(a_host_program(graph, dtype, (2,)), [np.array([0, 1])])


def test_results_nobody_reads_cost_nothing() -> None:
    """A section whose results are dead has no graph at all."""
    draft = Draft()
    x = draft.input(I8, (1, 2, 4, 4))
    for pool in (True, False):
        y = draft.buffer(I8, (1, 2, 4, 4))
        if pool:
            draft.emit(Opcode.MAX_POOL2D, y, x, low=-128, high=127, window=Window())
        else:
            graph = GraphBuilder("copy")
            graph.input("in", I8, (1, 2, 4, 4))
            graph.node("Identity", ["in"], ["out"])
            graph.output("out", I8, (1, 2, 4, 4))
            draft.host(graph.build(), (x,), (y,))
            draft.output(y)
    program = draft.finish()
    x0 = inputs_for(program, np.random.default_rng(5))
    agree(program, x0)
    outputs = [np.empty((1, 2, 4, 4), np.int8)]
    assert Engine(program).bind(x0, outputs).execute().tensor_ns == 0


def test_a_constant_is_in_a_graph_once_however_many_instructions_name_it() -> None:
    draft = Draft()
    x = draft.input(I8, (1, 64, 1, 1))
    constants = {
        "weights": draft.constant(np.full((64, 64, 1, 1), 3), I8),
        "bias": draft.constant(np.zeros(64), DType.INT32),
        "multiplier": draft.constant(np.full(64, 0.01), F32),
    }
    tables = draft.constant(np.tile(np.arange(256) % 100, (64, 1)), I8)
    order = draft.constant(np.arange(64)[::-1], DType.INT32)
    for _ in range(50):
        for opcode, fields in (
            (Opcode.CONV2D, {**constants, "low": -128, "high": 127}),
            (Opcode.TABLE, {"weights": tables, "axis": 1}),
            (Opcode.GATHER, {"parameters": order, "axis": 1}),
        ):
            x = draft.emit(opcode, draft.buffer(I8, (1, 64, 1, 1)), x, **fields)
    loaded = draft.constant(np.ones((1, 64, 1, 1)), I8)
    ones = draft.constant([1.0, 1.0], F32)
    for _ in range(50):
        y = draft.emit(Opcode.LOAD, draft.buffer(I8, (1, 64, 1, 1)), weights=loaded)
        out = draft.buffer(I8, (1, 64, 1, 1))
        x = draft.emit(Opcode.ADD, out, x, source1=y, multiplier=ones, low=-128, high=127)
    draft.output(x)
    program = draft.finish()
    agree(program, inputs_for(program, np.random.default_rng(5)))
    (section,) = program.sections
    assert isinstance(section, NpuSection)
    last = npugraph.last_readers(program)
    (graph,) = npugraph.whole(program, 0, section, last, npugraph.Machine(wide_weights=True))
    assert graph is not None
    tensors = onnx.load_from_string(graph.model).graph.initializer
    large = [tensor.name for tensor in tensors if len(tensor.raw_data) >= 64]
    assert len(large) == 8  # weights, their zero points, bias, factors, tables, rows, order, loaded


def test_an_average_of_padding_mostly_is_small() -> None:
    draft = Draft()
    x = draft.input(I8, (2, 30, 3, 2))
    y = draft.buffer(I8, (2, 30, 4, 3))
    factors = draft.constant(np.linspace(0.01, 0.3, 12).reshape(4, 3), F32)
    window = Window((100, 90), pads=(51, 46, 49, 44))
    draft.emit(
        Opcode.AVERAGE_POOL2D, y, x, multiplier=factors, zero0=5, low=-128, high=127, window=window
    )
    draft.output(y)
    program = draft.finish()
    agree(program, inputs_for(program, np.random.default_rng(5)))
    (section,) = program.sections
    assert isinstance(section, NpuSection)
    last = npugraph.last_readers(program)
    (graph,) = npugraph.whole(program, 0, section, last, npugraph.Machine())
    assert graph is not None
    assert len(graph.model) < 2 * 4 * 100 * 90


FORKED = """
import os, sys
import numpy as np
import onnx, furiosa.vnpu
from support.programs import a_program, inputs_for
assert len(os.listdir("/proc/self/task")) == 1, "the import started a thread"
program = a_program(host=True)
if pid := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
inputs = inputs_for(program, np.random.default_rng(0))
found = furiosa.vnpu.Engine(program, threads=2).run(inputs)
expected = furiosa.vnpu.Interpreter(program).run(inputs)
os._exit(0 if np.array_equal(found, expected) else 9)
"""


def test_a_process_that_imported_everything_may_fork() -> None:
    """As the zygote does; BLAS threads are the zygote's to switch off."""
    environment = os.environ | {
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    done = subprocess.run(
        [sys.executable, "-c", FORKED], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_section_that_onnxruntime_cannot_hold_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(model: bytes, threads: int) -> None:
        raise RuntimeError("no memory for it")

    monkeypatch.setattr(session, "create", fail)
    with pytest.raises(InvalidProgram, match=r"section 0 cannot be made ready: no memory for it"):
        Engine(a_program())
