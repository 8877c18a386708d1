"""IRs as texts: what is printed parses back, and compiles on to the same program."""

import random
import re
from collections.abc import Callable
from io import StringIO

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from furiosa.compiler import CompileError, CompilerOptions, InvalidFormat, PrintProgress, compile
from furiosa.compiler.diagnostics import InvalidConfig, InvalidModel
from furiosa.compiler.options import IRS
from furiosa.compiler.text import digest
from support import models
from support.qdq_nets import Qdq

TEXTS = IRS[:-1]


def cnn() -> bytes:
    return models.quantized(models.residual_cnn(), np.int8).SerializeToString()


def many_operators() -> bytes:
    """Constants with windows, tables, parameters and axes; names to be quoted; host nodes between."""
    net = Qdq(seed=4)
    x = net.input(1, 4, 6, 6)
    y = net.rounded(net.node("Sigmoid", x), 1 / 256, -128)
    y = net.rounded(net.node("Mul", x, y))
    y = net.rounded(net.node("Transpose", y, perm=[0, 1, 3, 2]))
    y = net.rounded(net.node("Sin", y))  # the host's
    y = net.rounded(net.node("ReduceMean", y, axes=[3], keepdims=1))
    return net.model(net.node("Softmax", y, axis=1)).SerializeToString()


MODELS: dict[str, Callable[[], bytes]] = {
    "cnn": cnn,
    "float cnn": lambda: models.residual_cnn().SerializeToString(),
    "many operators": many_operators,
}


def text_of(model: bytes, ir: str, **options: object) -> bytes:
    return compile(model, CompilerOptions(target_ir=ir, **options))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("ir", TEXTS)
@pytest.mark.parametrize("target", ["warboy", "warboy-2pe"])
def test_a_text_compiles_on_to_the_same_program(name: str, ir: str, target: str) -> None:
    model = MODELS[name]()
    source = text_of(model, ir, target=target)
    assert compile(source, CompilerOptions(target=target)) == compile(
        model, CompilerOptions(target=target)
    )


@pytest.mark.parametrize("ir", TEXTS)
def test_a_text_parses_back_to_itself(ir: str) -> None:
    source = text_of(many_operators(), ir)
    assert text_of(source, ir) == source


@pytest.mark.parametrize("ir", TEXTS)
def test_names_that_are_words_of_the_grammar_parse_back(ir: str) -> None:
    words = ["nothing", "from", "output", "data", "-", "->", "pe0", "ends:", "0", "inf", "a+b"]
    model = models.quantized(models.residual_cnn(), np.int8)
    for first in range(len(words)):
        for index, node in enumerate(model.graph.node):
            node.name = words[(first + index) % len(words)] + "." * (index // len(words))
        source = text_of(model.SerializeToString(), ir)
        assert text_of(source, ir) == source
        assert text_of(source, "enf") == text_of(model.SerializeToString(), "enf")


@pytest.mark.parametrize("ir", TEXTS)
def test_every_nan_parses_back_to_its_bits(ir: str) -> None:
    nans = np.array([0x7FC00001, 0xFFC00000, 0x7FC00000], np.uint32).view(np.float32)
    nodes = [
        helper.make_node("Sin", ["x"], ["s"], name="sin"),
        helper.make_node("Add", ["s", "c"], ["y"], name="add"),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in "xy"]
    constants = [numpy_helper.from_array(nans, "c")]
    graph = helper.make_graph(nodes, "nans", ports[:1], ports[1:], constants)
    opset = helper.make_opsetid("", 13)
    model = helper.make_model(graph, opset_imports=[opset]).SerializeToString()
    assert nans.tobytes() in text_of(model, "enf")
    assert text_of(text_of(model, ir), "enf") == text_of(model, "enf")


@pytest.mark.parametrize("ir", TEXTS[1:])
def test_every_later_ir_comes_from_a_text_as_from_the_model(ir: str) -> None:
    assert text_of(text_of(cnn(), "dfg"), ir) == text_of(cnn(), ir)


def test_blanks_and_lines_mean_nothing() -> None:
    source = text_of(cnn(), "ldfg").decode()
    graph, mark, data = source.partition("\ndata #")
    spread = (
        graph.replace("\n", "\n\n  ").replace(", ", " ,\n").replace("(", "( ").replace("q( ", "q(")
    )
    assert text_of((spread + mark + data).encode(), "enf") == text_of(cnn(), "enf")


def test_stages_are_those_that_are_left() -> None:
    stream = StringIO()
    compile(text_of(cnn(), "dfg"), CompilerOptions(), PrintProgress(stream))
    headings = [line for line in stream.getvalue().splitlines() if "Compiling" in line]
    assert len(headings) == 5
    assert headings[0] == "[1/5] 🔍   Compiling from dfg to ldfg"
    assert headings[-1] == "[5/5] 🔍   Compiling from lir to enf"


@pytest.mark.parametrize("batch", [4, 7])
def test_a_dfg_takes_a_batch_size(batch: int) -> None:
    source = text_of(cnn(), "dfg")
    options = CompilerOptions(batch_size=batch)
    assert compile(source, options) == compile(cnn(), options)


def test_a_dfg_that_has_a_batch_size_keeps_it() -> None:
    source = text_of(cnn(), "dfg", batch_size=2)
    assert text_of(source, "enf") == text_of(source, "enf", batch_size=2)
    with pytest.raises(InvalidConfig, match="batch size 4: the dfg was made for batch size 2"):
        text_of(source, "enf", batch_size=4)


def test_nodes_that_mix_the_entries_of_a_batch_are_named() -> None:
    net = Qdq()
    x = net.input(2, 6)
    model = net.model(net.node("Transpose", x, perm=[1, 0]))
    source = text_of(model.SerializeToString(), "dfg")
    with pytest.raises(InvalidModel, match=r"\(Transpose\): it may mix the entries of a batch"):
        text_of(source, "enf", batch_size=2)


def test_later_irs_have_their_batch_size() -> None:
    source = text_of(cnn(), "ldfg")
    assert text_of(source, "enf", batch_size=4) == text_of(source, "enf")


def test_a_target_before_the_source_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="'dfg' comes before the source, which is a gir"):
        text_of(text_of(cnn(), "gir"), "dfg")


SMALL = """dfg small opset 13 batch 1 source SHA {
  input %x: float32[1,2]
  const %w: int8[3] q(0.5 @ 0) = [1, 2, 3]
  %y: float32[1,2] = Relu(%x) {a=1, b=[1.5, 2.0], c="d", e=int8[2][1, 2]}  ; relu
  output %y
}
""".replace("SHA", "0" * 64)

REFUSED = [
    ("dfg small", "dfg 'small", "line 1: expected a name, found \"'small opset"),
    ("opset 13", "opset x", "line 1: expected a whole number, found 'x batch 1"),
    ("source 00", "source 0g", "line 1: expected a SHA-256"),
    ("float32[1,2]\n", "float99[1,2]\n", "line 2: expected an element type, found 'float99[1,2]'"),
    ("input %x: float32[1,2]", "input %x: float32[1,0]", "expected a dimension of 1 to"),
    ("input %x: float32[1,2]", "input %x: float32[1,1,1,1,1,1,1,1,1]", "at most 8 dimensions"),
    ("[1, 2, 3]", "[1, 2]", "expected 3 elements before this"),
    ("[1, 2, 3]", "[1, 2, 300]", "expected elements of int8 before this"),
    ("[1, 2, 3]", "#0123456789ab", "expected a line 'data #0123456789ab = ...' behind the graph"),
    ("q(0.5 @ 0)", "q(0.5 0)", "line 3: expected '@', found '0) = [1, 2, 3]'"),
    ("Relu(%x)", "Relu(%z)", "expected values that are defined, and 'z' is not"),
    ("= Relu", "= 7", "line 4: expected an operator"),
    ("[1.5, 2.0]", "[1.5, 2]", "expected items of one kind before this"),
    ('"d"', '"\\ud800"', "expected a string in quotes before this"),
    ("%y: float32", "%x: float32", "expected 'x' to be defined once, before this"),
    ("  ; relu", "", "line 5: expected ';', found 'output %y'"),
    ("output %y", "output %q", "and 'q' is not, before this"),
    ("}\n", "", "found the end"),
    ("}\n", "} more\n", "line 6: expected the end, found 'more'"),
    ("}\n", "}\ndata #0123456789ab = AA\n", "data #0123456789ab is no base64"),
    ("}\n", "}\ndata #0123456789ab = AAAA\n", "data #0123456789ab is other data"),
    ("}\n", "}\ndata #0123456789ab", "is no data line"),
]


@pytest.mark.parametrize(("old", "new", "text"), REFUSED)
def test_what_is_wrong_in_a_text_is_said(old: str, new: str, text: str) -> None:
    parse = CompilerOptions(target_ir="dfg")
    assert compile(SMALL.encode(), parse) == SMALL.encode()
    broken = SMALL.replace(old, new, 1) if old != "}\n" else SMALL.removesuffix(old) + new
    with pytest.raises(InvalidFormat, match=re.escape(text)):
        compile(broken.encode(), parse)


def test_a_text_is_unicode() -> None:
    with pytest.raises(InvalidFormat, match="it is no UTF-8: invalid start byte at byte 5"):
        compile(b"dfg a\xff", CompilerOptions())


def test_a_broken_rule_is_the_texts_fault() -> None:
    changed = text_of(cnn(), "gir").replace(b"sram+0 ", b"sram+1 ", 1)
    with pytest.raises(InvalidModel, match="the gir breaks the rule offsets_are_aligned"):
        text_of(changed, "enf")


def test_data_is_checked_against_its_digest() -> None:
    source = text_of(cnn(), "dfg").decode()
    at = source.rindex("\ndata #") + len("\ndata #0123456789ab = ")
    changed = source[:at] + ("B" if source[at] != "B" else "C") + source[at + 1 :]
    with pytest.raises(InvalidFormat, match="is other data"):
        text_of(changed.encode(), "enf")
    assert digest(b"") == "e3b0c44298fc"


@pytest.mark.parametrize("ir", TEXTS)
def test_damaged_texts_never_escape_the_error_tree(ir: str) -> None:
    """Words and characters exchanged, left out and doubled, anywhere in the graph."""
    rng = random.Random(ir)
    source = text_of(many_operators(), ir).decode()
    graph, mark, data = source.partition("\ndata #")
    words = re.split(r"(\W)", graph)
    outcomes = []
    for _ in range(150):
        damaged = list(words)
        for _ in range(rng.randint(1, 3)):
            at, other = rng.randrange(len(words)), rng.randrange(len(words))
            damaged[at] = rng.choice(["", words[other], damaged[at] * 2, "0", "-1", "99999999"])
        try:
            compile(("".join(damaged) + mark + data).encode(), CompilerOptions())
        except CompileError as exc:
            outcomes.append((type(exc), str(exc)))
    assert {InvalidFormat, InvalidModel} <= {kind for kind, _ in outcomes}
    assert all(text for _, text in outcomes)
