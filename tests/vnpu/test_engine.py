"""The engine and the interpreter agree to the bit, on one core or two, bound or not."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from onnx import TensorProto

from furiosa.common.errors import InvalidProgram
from furiosa.common.tensor import DType
from furiosa.enf import NpuSection, Opcode, Program, Space, Window
from furiosa.enf.onnxgraph import GraphBuilder
from furiosa.enf.verify import verify
from furiosa.vnpu import Engine, ExecutionFailed, Interpreter, session
from support.programs import Draft, a_program, inputs_for
from support.random_programs import random_program

SEEDS = range(int(os.environ.get("FURIOSA_VNPU_FUZZ", "200")))
I8, U8, F32 = DType.INT8, DType.UINT8, DType.FLOAT32


def agree(program: Program, inputs: list[npt.NDArray[Any]], threads: int = 1) -> None:
    verify(program)
    expected = Interpreter(program).run(inputs)
    found = Engine(program, threads).run(inputs)
    for e, f, port in zip(expected, found, program.outputs, strict=True):
        assert f.dtype == e.dtype
        np.testing.assert_array_equal(f, e, err_msg=port.name)


@pytest.mark.parametrize("seed", SEEDS)
def test_engine_and_interpreter_agree_on_random_programs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_program(rng)
    agree(program, inputs_for(program, rng))


def test_random_programs_cover_what_they_should() -> None:
    """The claim of the test above is as strong as its programs are varied."""
    programs = [random_program(np.random.default_rng(seed)) for seed in range(200)]
    instructions = [i for p in programs for i in p.instructions]
    assert {i.opcode for i in instructions} == set(Opcode)
    assert {p.target for p in programs} == {"warboy", "warboy-2pe"}
    assert {p.batch for p in programs} == {1, 2, 3}
    assert any(not isinstance(s, NpuSection) for p in programs for s in p.sections)
    windows = [i.window for i in instructions if i.opcode is Opcode.CONV2D]
    assert any(w.group > 1 for w in windows)
    assert any(w.strides[0] > 1 and w.dilations[0] > 1 for w in windows)
    assert any(w.pads[:2] != w.pads[2:] for w in windows)
    for program in programs[:30]:
        outputs = Interpreter(program).run(inputs_for(program, np.random.default_rng(0)))
        if any(len(np.unique(output)) > 20 for output in outputs):
            return
    pytest.fail("every output is nearly constant")


@pytest.mark.parametrize("seed", range(40))
def test_wide_weights_give_the_same_bits(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU without VNNI."""
    monkeypatch.setattr(session, "has_exact_u8s8", lambda: False)
    rng = np.random.default_rng(10_000 + seed)
    program = random_program(rng)
    agree(program, inputs_for(program, rng))


@pytest.mark.parametrize("seed", range(15))
def test_two_threads_give_the_same_bits(seed: int) -> None:
    rng = np.random.default_rng(20_000 + seed)
    program = random_program(rng)
    agree(program, inputs_for(program, rng), threads=2)


def test_batches_give_the_same_bits_as_single_inferences() -> None:
    x = np.random.default_rng(0).uniform(-10, 10, (4, 3, 8, 8)).astype(np.float32)
    (together,) = Engine(a_program(batch=4)).run([x])
    single = Engine(a_program())
    for row, result in zip(x, together, strict=True):
        np.testing.assert_array_equal(single.run([row[None]])[0][0], result)


def a_chain_of_conversions(*zeros: tuple[DType, int, float]) -> Program:
    """Real to stored and back, once for each (type, zero point, scale)."""
    draft = Draft()
    x = draft.input(F32, (256,))
    for dtype, zero, scale in zeros:
        low, high = (-128, 127) if dtype is I8 else (0, 255)
        stored, real = draft.buffer(dtype, (256,)), draft.buffer(F32, (256,))
        multiplier = draft.constant([scale], F32)
        fields = {"zero_out": zero, "low": low, "high": high, "multiplier": multiplier}
        draft.emit(Opcode.QUANTIZE, stored, x, **fields)
        draft.emit(Opcode.DEQUANTIZE, real, stored, multiplier=multiplier, zero0=zero)
        x = real
    draft.output(x)
    return draft.finish()


@pytest.mark.parametrize(
    "zeros",
    [
        [(I8, 127, 1.0), (U8, 128, 0.5)],
        [(U8, 40, 0.5), (I8, 0, 1 / 3), (I8, 127, 0.5)],
        [(U8, 0, 0.5), (U8, 0, 0.5), (U8, 0, 0.5)],
        [(I8, 0, 0.1), (I8, 0, 2.0), (I8, 0, 0.1)],
    ],
)
def test_no_rounding_is_optimised_away(zeros: list[tuple[DType, int, float]]) -> None:
    """onnxruntime drops the inner one of two Quantize-Dequantize pairs unless told not to."""
    program = a_chain_of_conversions(*zeros)
    agree(program, [np.linspace(-40, 40, 256, dtype=np.float32)])


def an_addition(multiplier: tuple[float, float]) -> Program:
    draft = Draft()
    a, b = draft.input(I8, (256, 256)), draft.input(I8, (256, 256))
    out = draft.buffer(I8, (256, 256))
    scale = draft.constant(multiplier, F32)
    draft.emit(Opcode.ADD, out, a, source1=b, multiplier=scale, low=-128, high=127)
    draft.output(out)
    return draft.finish()


@pytest.mark.parametrize("multiplier", [(0.1, 0.5), (0.5, 0.1), (1 / 3, 1 / 3), (0.5, 0.5), (1, 3)])
def test_every_sum_of_two_activations_rounds_alike(multiplier: tuple[float, float]) -> None:
    values = np.arange(-128, 128, dtype=np.int8)
    agree(an_addition(multiplier), [np.repeat(values[:, None], 256, 1), np.tile(values, (256, 1))])


def a_convolution(taps: int, source: DType = U8) -> Program:
    """One output channel over `taps` channels of the largest weights."""
    draft = Draft()
    x = draft.input(source, (1, taps, 1, 1))
    out = draft.buffer(U8, (1, 4, 1, 1))
    draft.emit(
        Opcode.CONV2D,
        out,
        x,
        weights=draft.constant(np.full((4, taps, 1, 1), -128), I8),
        bias=draft.constant([1, 0, -1, 7], DType.INT32),
        multiplier=draft.constant([2.0**-24, 1e-8, 1e-7, 0.001], F32),
        zero0=255 if source is U8 else 127,
        zero_out=3,
        high=255,
    )
    draft.output(out)
    return draft.finish()


@pytest.mark.parametrize("taps", [64, 1023, 65000])
@pytest.mark.parametrize("source", [I8, U8])
def test_the_largest_sums_are_exact(taps: int, source: DType) -> None:
    program = a_convolution(taps, source)
    lowest = 0 if source is U8 else -128
    agree(program, [np.full((1, taps, 1, 1), lowest, source.numpy)])


def test_infinities_and_nan_are_stored_as_the_interpreter_says() -> None:
    values = [np.inf, -np.inf, np.nan, -np.nan, 3e38, -3e38, 0.0, -0.0, 1e-45]
    x = np.array((values * 29)[:256], np.float32)
    program = a_chain_of_conversions((I8, 5, 0.5))
    if os.uname().machine == "x86_64":  # elsewhere NaN may become another value of the type
        agree(program, [x])
    x[np.isnan(x)] = 0
    agree(program, [x])


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
    program = an_addition((1.0, 1.0))
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
