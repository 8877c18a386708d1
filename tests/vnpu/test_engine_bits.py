"""The engine and the interpreter agree to the bit: on random programs, and where rounding is at stake."""

import os
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from furiosa.common.tensor import DType
from furiosa.enf import NpuSection, Opcode, Program, Window
from furiosa.vnpu import Engine, Interpreter, npugraph, session
from support.agreement import agree, one
from support.programs import Draft, a_program, inputs_for
from support.random_programs import random_program

SEEDS = range(int(os.environ.get("FURIOSA_VNPU_FUZZ", "250")))
I8, U8, F32 = DType.INT8, DType.UINT8, DType.FLOAT32
Array = npt.NDArray[Any]


@pytest.mark.parametrize("seed", SEEDS)
def test_engine_and_interpreter_agree_on_random_programs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_program(rng)
    agree(program, inputs_for(program, rng))


@pytest.mark.parametrize("seed", SEEDS[::4])
def test_tracing_changes_no_bit(seed: int) -> None:
    rng = np.random.default_rng(30_000 + seed)
    program = random_program(rng)
    inputs = inputs_for(program, rng)
    *outputs, times = Engine(program, traced=True).run(inputs)
    for found, expected in zip(outputs, Interpreter(program).run(inputs), strict=True):
        np.testing.assert_array_equal(found, expected)
    made = times[times[:, 0] > 0]
    assert (made[:, 0] <= made[:, 1]).all()
    assert (made[1:, 0] == made[:-1, 1]).all(), "a gap between spans"


def test_random_programs_cover_what_they_should() -> None:
    """The claim of the test above is as strong as its programs are varied."""
    programs = [random_program(np.random.default_rng(seed)) for seed in range(200)]
    instructions = [(p, i) for p in programs for i in p.instructions]
    assert {i.opcode for _, i in instructions} == set(Opcode)
    assert {p.target for p in programs} == {"warboy", "warboy-2pe"}
    assert {p.batch for p in programs} == {1, 2, 3}
    assert any(not isinstance(s, NpuSection) for p in programs for s in p.sections)
    assert {len(b.shape) for p in programs for b in p.buffers} == set(range(9))
    assert {b.dtype for p in programs for b in p.buffers} == set(DType)
    windows = [i.window for _, i in instructions if i.opcode is Opcode.CONV2D]
    assert any(w.group > 1 for w in windows)
    assert any(w.strides[0] > 1 and w.dilations[0] > 1 for w in windows)
    assert any(w.pads[:2] != w.pads[2:] for w in windows)
    for opcode in (Opcode.ADD, Opcode.MULTIPLY):
        chosen = [(p, i) for p, i in instructions if i.opcode is opcode]
        assert any(p.constants[i.multiplier].min() < 0.0 for p, i in chosen)
        assert any(p.buffers[i.source0].shape != p.buffers[i.source1].shape for p, i in chosen)
    varied = 0
    for program in programs[:30]:
        outputs = Interpreter(program).run(inputs_for(program, np.random.default_rng(0)))
        varied += any(len(np.unique(output)) > 20 for output in outputs)
    assert varied > 10


@pytest.mark.parametrize("seed", range(60))
def test_wide_weights_give_the_same_bits(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU without VNNI."""
    monkeypatch.setattr(session, "has_exact_u8s8", lambda: False)
    rng = np.random.default_rng(10_000 + seed)
    program = random_program(rng)
    agree(program, inputs_for(program, rng))


@pytest.mark.parametrize("seed", range(30))
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


def test_infinities_and_nan_are_stored_as_the_interpreter_says() -> None:
    values = [np.inf, -np.inf, np.nan, -np.nan, 3e38, -3e38, 0.0, -0.0, 1e-45]
    x = np.array((values * 29)[:256], np.float32)
    program = a_chain_of_conversions((I8, 5, 0.5))
    if os.uname().machine == "x86_64":  # elsewhere NaN may become another value of the type
        agree(program, [x])
    x[np.isnan(x)] = 0
    agree(program, [x])


@pytest.mark.parametrize("opcode", [Opcode.ADD, Opcode.MULTIPLY])
@pytest.mark.parametrize(
    "multiplier",
    [
        (0.1, 0.5),
        (0.5, 0.1),
        (1 / 3, 1 / 3),
        (0.5, -0.5),
        (-1, 3),
        (-0.1, -0.7),
        (2.0**60, 2.0**60),
    ],
)
def test_every_pair_of_activations_rounds_alike(
    opcode: Opcode, multiplier: tuple[float, float]
) -> None:
    """A row against a column: every sum and product there is."""
    program = one(
        opcode,
        [(I8, (256, 1)), (I8, (1, 256))],
        (I8, (256, 256)),
        constants={"multiplier": multiplier},
        zero0=3,
        zero1=-5,
    )
    values = np.arange(-128, 128, dtype=np.int8)
    agree(program, [values[:, None], values[None]])


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("taps", [64, 1023, 32900])
@pytest.mark.parametrize("source", [I8, U8])
@pytest.mark.parametrize("zero1", [-128, 0, 127])
def test_the_largest_sums_of_convolutions_are_exact(
    taps: int, source: DType, zero1: int, wide: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "has_exact_u8s8", lambda: not wide)
    lowest, highest = (0, 255) if source is U8 else (-128, 127)
    program = one(
        Opcode.CONV2D,
        [(source, (1, taps, 1, 1))],
        (U8, (1, 4, 1, 1)),
        constants={
            "weights": np.full((4, taps, 1, 1), 127 if zero1 < 0 else -128),
            "bias": [1, 0, -1, 7],
            "multiplier": [2.0**-24, 1e-8, 1e-7, 0.001],
        },
        zero0=highest,
        zero1=zero1,
        zero_out=130,
    )
    agree(program, [np.full((1, taps, 1, 1), lowest, source.numpy)])


@pytest.mark.parametrize("inner", [1, 300, 33_025])
@pytest.mark.parametrize("value", [0, 255])
def test_the_largest_sums_of_products_of_matrices_are_exact(inner: int, value: int) -> None:
    rng = np.random.default_rng(inner)
    program = one(
        Opcode.MATMUL,
        [(U8, (2, 3, inner)), (I8, (2, inner, 5))],
        (I8, (2, 3, 5)),
        constants={"multiplier": [100 / (inner * 65025)]},
        zero0=255 - value,
        zero1=127,
    )
    x = np.full((2, 3, inner), value, np.uint8)
    agree(program, [x, np.full((2, inner, 5), -128, np.int8)])
    agree(program, [x, rng.integers(-128, 128, (2, inner, 5)).astype(np.int8)])


@pytest.mark.parametrize(
    ("opcode", "counts"),
    [
        (Opcode.REDUCE_SUM, (65_793, 65_794, 8_000_000)),  # 65793 * 255 = 2^24 - 1
        (Opcode.REDUCE_L2, (258, 259, 33_025)),
        (Opcode.L2_NORMALIZE, (258, 259, 33_025)),
    ],
)
def test_sums_are_exact_as_float32_and_beyond(opcode: Opcode, counts: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    for count in counts:
        shape = (count, 1) if opcode is Opcode.L2_NORMALIZE else (1, 1)
        scale = 90 / (count * 255) if opcode is Opcode.REDUCE_SUM else 90 / (255 * count**0.5)
        scale = 100.0 if opcode is Opcode.L2_NORMALIZE else scale
        program = one(
            opcode,
            [(I8, (count, 1))],
            (I8, shape),
            constants={"parameters": [0], "multiplier": [scale]},
            zero0=127,
        )
        agree(
            program, [rng.choice([-128, -127, 127], (count, 1), p=[0.9, 0.05, 0.05]).astype("i1")]
        )
        agree(program, [np.full((count, 1), 127, np.int8)])  # a vector of zeros


@pytest.mark.parametrize("kernel", [(1, 5), (3, 3), (7, 7), (255, 257)])
def test_averages_round_after_the_sum(kernel: tuple[int, int]) -> None:
    """onnxruntime may multiply one number for all into its convolution's weights. Here that shows:
    many sums times 0.1 are halfway between two results."""
    shape = (1, 256, *kernel) if kernel[0] < 9 else (1, 1, *kernel)
    program = one(
        Opcode.AVERAGE_POOL2D,
        [(U8, shape)],
        (U8, (*shape[:2], 1, 1)),
        constants={"multiplier": [[0.1 if kernel[0] < 9 else 0.1 / 255 / 257]]},
        window=Window(kernel),
        zero0=1,
    )
    for seed in range(3):
        x = np.random.default_rng(seed).integers(0, 255 if kernel[0] > 9 else 12, shape)
        agree(program, [x.astype(np.uint8)])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_is_exact_with_the_largest_sums(axis: int) -> None:
    shape = (32, 8, 64)
    rng = np.random.default_rng(axis)
    top = 2**24 // shape[axis]
    weights = np.rint(top * np.exp(-np.arange(256) / 50))
    program = one(
        Opcode.SOFTMAX,
        [(I8, shape)],
        (U8, shape),
        constants={"weights": weights, "multiplier": [1 / 999]},
        axis=axis,
    )
    agree(program, [rng.integers(-128, 128, shape).astype(np.int8)])
    agree(program, [np.full(shape, 127, np.int8)])


@pytest.mark.parametrize("dtype", DType)
def test_elements_of_any_type_move(dtype: DType) -> None:
    draft = Draft()
    shape = (4, 3, 5)
    x = draft.input(dtype, shape)

    def move(opcode: Opcode, source: int, shape: tuple[int, ...], **fields: Any) -> int:
        if "parameters" in fields:
            fields["parameters"] = draft.constant(fields["parameters"], DType.INT32)
        return draft.emit(opcode, draft.buffer(dtype, shape), source, **fields)

    both = move(Opcode.CONCAT, x, (4, 6, 5), source1=x, axis=1)
    turned = move(Opcode.TRANSPOSE, both, (5, 4, 6), parameters=[2, 0, 1])
    part = move(Opcode.SLICE, turned, (3, 4, 2), parameters=[[0, 0, 1], [2, 1, 4]])
    last = move(Opcode.GATHER, part, (3, 4, 3), axis=2, parameters=[1, 1, 0])
    flat = move(Opcode.RESHAPE, last, (1, 36))
    draft.output(move(Opcode.EXPAND, flat, (2, 36)))
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype.numpy)
    agree(draft.finish(), [values])


def concatenations(read_again: bool) -> Program:
    """Eight inputs, joined in pairs; `read_again`, one of the parts is an output, too."""
    draft = Draft()
    parts = [draft.input(I8, (1, 2)) for _ in range(8)]
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=True)
        size = 16 // (len(parts) // 2)
        parts = [
            draft.emit(Opcode.CONCAT, draft.buffer(I8, (1, size)), a, source1=b, axis=1)
            for a, b in pairs
        ]
        if read_again and len(parts) == 2:
            draft.output(parts[0])
    draft.output(parts[0])
    return draft.finish()


@pytest.mark.parametrize(("read_again", "nodes"), [(False, 1), (True, 2)])
def test_concatenations_on_one_axis_are_one_node(read_again: bool, nodes: int) -> None:
    program = concatenations(read_again)
    assert operators(program) == ["Concat"] * nodes
    agree(program, inputs_for(program, np.random.default_rng(3)))


def operators(program: Program) -> list[str]:
    """What the graph of the first section consists of."""
    (section,) = program.sections
    assert isinstance(section, NpuSection)
    last = npugraph.last_readers(program)
    (graph,) = npugraph.whole(program, 0, section, last, npugraph.Machine())
    assert graph is not None
    return [node.op_type for node in onnx.load_from_string(graph.model).graph.node]
