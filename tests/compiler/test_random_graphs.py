"""Random quantised models of every operator of the NPU answer as onnxruntime does.

Every stored tensor of a run is compared with what onnxruntime makes of the stored tensors before it: to the
bit for what moves, chooses and tabulates, for convolutions and matrix products (QLinear form), and for all
sums and products where scales are powers of 2; within 1 LSB where the float operators round otherwise
(docs/compiler/ldfg.md). The model itself, on either target, by the interpreter and the engine, then gives
the bits of the model that shows all its stored tensors; so does each inference of a batch, but for operators
of the host that are the NPU's in smaller batches.

FURIOSA_COMPILER_FUZZ sets how many models there are.
"""

import os
import subprocess
import sys
from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import helper

from furiosa.compiler import CompilerOptions, compile
from furiosa.compiler.dfg.operators import OPERATORS, uncovered
from furiosa.compiler.dfg.parser import parse_dfg
from furiosa.enf import HostSection, NpuSection, Opcode, read
from furiosa.vnpu import Interpreter
from support.agreement import agree
from support.cut_models import Array, Cuts, opened
from support.qdq_nets import TARGETS, program, together
from support.random_graphs import random_model

SEEDS = range(int(os.environ.get("FURIOSA_COMPILER_FUZZ", "100")))


def inputs_of(model: onnx.ModelProto, seed: int) -> list[Array]:
    """Of one inference; some of the real numbers are more than can be stored."""
    rng = np.random.default_rng(seed)
    made: list[Array] = []
    for info in model.graph.input:
        kind = info.type.tensor_type
        shape = [dim.dim_value for dim in kind.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        if dtype == np.float32:
            made.append(rng.normal(0, 60, shape).astype(np.float32))
        else:
            limits = np.iinfo(dtype)
            made.append(rng.integers(limits.min, limits.max + 1, shape, dtype))
    return made


def compare(cuts: Cuts, known: Mapping[str, Array]) -> None:
    for name, wanted in cuts.answers(known).items():
        found = known[name]
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), name
        worst = np.abs(found.astype(np.float64) - wanted).max(initial=0)
        assert worst <= cuts.tolerance(name), name


def equal(found: Mapping[str, Array], wanted: Mapping[str, Array]) -> None:
    for name, data in found.items():
        np.testing.assert_array_equal(data, wanted[name], err_msg=name)


@pytest.mark.parametrize("seed", SEEDS)
def test_random_model_answers_like_onnxruntime(seed: int) -> None:
    made = random_model(seed)
    shown, cuts = opened(made.model), Cuts(made.model, exact=made.exact)
    inputs, outputs, every = (
        [info.name for info in infos]
        for infos in (made.model.graph.input, made.model.graph.output, shown.graph.output)
    )
    sets = [inputs_of(made.model, seed + k) for k in range(max(made.batches))]
    feeds = [dict(zip(inputs, given, strict=True)) for given in sets]
    interpreter = Interpreter(program(shown))
    alone = [dict(zip(every, interpreter.run(given), strict=True)) for given in sets]
    for feed, stored in zip(feeds, alone, strict=True):
        compare(cuts, feed | stored)
    for batch in made.batches:
        given = together(sets[:batch])
        found = Interpreter(program(shown, batch_size=batch)).run(given)
        stored = dict(zip(every, found, strict=True))
        for k in range(batch if batch > 1 else 0):
            part = {name: data[k : k + 1] for name, data in stored.items()}
            if made.is_limited:
                compare(cuts, feeds[k] | part)
            else:
                equal(part, alone[k])
        for target in TARGETS:
            found = agree(program(made.model, target=target, batch_size=batch), given)
            equal(dict(zip(outputs, found, strict=True)), stored)


def test_random_models_have_every_operator_and_every_instruction() -> None:
    """The claim of the test above is as strong as its models are varied."""
    operators: set[str] = set()
    opcodes: set[Opcode] = set()
    sections: set[tuple[type, ...]] = set()
    made = [random_model(seed) for seed in range(150)]
    for one in made:
        source = one.model.SerializeToString()
        text = compile(source, CompilerOptions(target_ir="dfg"))
        graph = parse_dfg(text.decode())
        operators.update(node.op for node in graph.nodes if uncovered(node, graph) is None)
        compiled = read(compile(source))
        opcodes.update(i.opcode for i in compiled.instructions)
        sections.add(tuple(type(section) for section in compiled.sections))
    assert OPERATORS.keys() <= operators
    assert opcodes == set(Opcode)
    assert {
        (NpuSection,),
        (NpuSection, HostSection),
        (NpuSection, HostSection, NpuSection),
    } <= sections
    assert {one.exact for one in made} == {False, True}
    assert {one.batches for one in made} == {(1,), (1, 4)}
    assert {1, 2, 3, 4} <= {len(one.model.graph.input) for one in made}
    assert {1, 2, 3, 4} <= {len(one.model.graph.output) for one in made}


SCRIPT = """
import hashlib
from furiosa.compiler import compile
from support.random_graphs import random_model
for seed in range(12):
    model = random_model(seed).model.SerializeToString(deterministic=True)
    print(hashlib.sha256(model).hexdigest(), hashlib.sha256(compile(model)).hexdigest())
"""


def digests(hash_seed: str) -> list[str]:
    environment = os.environ | {
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_the_same_model_gives_the_same_bytes_whatever_the_hash_seed() -> None:
    first, second = digests("1"), digests("2")
    assert first == second
    assert len(set(first)) == 24


@pytest.mark.parametrize("ir", ["dfg", "ldfg", "cdfg", "gir", "lir"])
def test_the_texts_of_random_models_compile_to_the_same_programs(ir: str) -> None:
    for seed in range(15):
        source = random_model(seed).model.SerializeToString()
        text = compile(source, CompilerOptions(target_ir=ir))
        assert compile(text) == compile(source)
