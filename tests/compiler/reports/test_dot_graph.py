"""The DOT graph, as Graphviz reads and draws it."""

import shutil
import subprocess
from xml.etree import ElementTree

import numpy as np
import pytest

from furiosa.compiler.ldfg.ir import HostNode, HostSection, Ldfg, NpuSection
from furiosa.compiler.reports import dot_graph
from furiosa.compiler.value import constant
from furiosa.enf.isa import Opcode, Window
from support.npu_graphs import INFO, Plan, chain, random_ldfg
from support.report_graphs import HOSTILE, mixed, renamed

SVG = "{http://www.w3.org/2000/svg}"
needs_dot = pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")


def drawn(graph: Ldfg) -> ElementTree.Element:
    """The SVG that Graphviz makes of it, without a word of complaint."""
    done = subprocess.run(
        ["dot", "-Tsvg"], input=dot_graph(graph).encode(), capture_output=True, check=True
    )
    assert done.stderr == b""
    return ElementTree.fromstring(done.stdout)


def groups(svg: ElementTree.Element, kind: str) -> dict[str, list[str]]:
    """Lines of text by title, of nodes, edges or clusters."""
    return {
        group.findtext(f"{SVG}title", ""): [
            "".join(text.itertext()).strip() for text in group.iter(f"{SVG}text")
        ]
        for group in svg.iter(f"{SVG}g")
        if group.get("class") == kind
    }


def tooltips(svg: ElementTree.Element) -> set[str]:
    name = "{http://www.w3.org/1999/xlink}title"
    return {anchor.get(name, "") for anchor in svg.iter(f"{SVG}a")}


@needs_dot
@pytest.mark.parametrize("seed", range(4))
def test_every_operator_port_and_section_is_drawn(seed: int) -> None:
    graph = random_ldfg(np.random.default_rng(seed))
    svg = drawn(graph)
    ports = {f"in{i}" for i in range(len(graph.inputs))}
    ports |= {f"out{i}" for i in range(len(graph.outputs))}
    nodes = list(graph.nodes)
    assert set(groups(svg, "node")) == ports | {f"n{i}" for i in range(len(nodes))}
    assert set(groups(svg, "cluster")) == {f"cluster_{i}" for i in range(len(graph.sections))}


@needs_dot
def test_sections_say_where_they_run() -> None:
    assert list(groups(drawn(mixed()), "cluster").values()) == [
        ["NPU: section 0, 1 operator"],
        ["CPU: section 1, 1 operator"],
        ["NPU: section 2, 2 operators"],
        ["CPU: section 3, 1 operator"],
        ["NPU: section 4, 3 operators"],
    ]


@needs_dot
def test_operators_say_what_they_are_and_where_they_come_from() -> None:
    found = groups(drawn(mixed()), "node")
    assert found["n0"] == ["conv2d 3x3 stride 2x2", "s", "weights int8[16,8,3,3]"]
    assert found["n1"] == ["Neg", "s"]
    assert found["n4"] == ["Neg", "s"]
    assert found["in0"] == ["input v0", "int8[1,8,16,16]"]
    assert found["out0"] == ["output v8", "int8[1,512]"]


@needs_dot
def test_edges_have_type_and_shape() -> None:
    found = groups(drawn(mixed()), "edge")
    assert found["in0->n0"] == ["int8[1,8,16,16]"]
    assert found["n0->n1"] == found["n0->n3"] == found["n2->n3"] == ["int8[1,16,8,8]"]
    assert found["n7->out0"] == ["int8[1,512]"]
    assert len(found) == 10


def test_dilations_and_groups_are_named() -> None:
    plan = Plan()
    window = Window((3, 1), (1, 1), (0, 0, 0, 0), (2, 2), 4)
    source = plan.input(1, 8, 16, 16)
    weights = np.zeros((8, 2, 3, 1), np.int8)
    text = dot_graph(
        plan.done(
            plan.node(Opcode.CONV2D, [source], (1, 8, 12, 16), weights=weights, window=window)
        )
    )
    assert "<b>conv2d 3x1 dilation 2x2 group 4</b>" in text


def test_constants_and_windows_of_the_host_are_in_its_node() -> None:
    graph = mixed()
    addend = constant("addend", np.ones((3, 1), np.float32))
    window = {"kernel_shape": (3, 3), "strides": (2, 1), "dilations": (1, 1), "pads": (0, 0, 1, 1)}
    host = HostNode("add", "Add", (graph.inputs[0], "addend", ""), ("y",), window, ())
    values = {**graph.values, "addend": addend, "y": graph.values[graph.inputs[0]]}
    text = dot_graph(Ldfg(INFO, graph.inputs, ("y",), (HostSection((host,)),), values))
    assert "constant float32[3,1]" in text
    assert "<b>Add 3x3 stride 2x1</b>" in text
    assert text.count(" -> ") == 2  # from the input and to the output


def test_an_operator_that_reads_a_value_twice_has_two_edges() -> None:
    plan = Plan()
    source = plan.input(1, 4, 4, 4)
    assert dot_graph(plan.done(plan.add(source, source))).count("in0 -> n0") == 2


@needs_dot
def test_names_of_strangers_are_drawn_as_they_are() -> None:
    svg = drawn(renamed(mixed(), lambda name: name + HOSTILE))
    visible = HOSTILE.replace("\u2028", "\ufffd").replace("\\", "\u2216")
    assert f"v0{visible}" in tooltips(svg)
    assert f"s{visible}" in tooltips(svg)
    assert groups(svg, "node")["in0"][0].endswith(visible[-30:])
    assert len(groups(svg, "node")) == 10
    assert {element.tag for element in svg.iter()} == {
        element.tag for element in drawn(mixed()).iter()
    }


@needs_dot
@pytest.mark.parametrize(
    "name", ["", "\\", '"', "a\\", "node", "\x00\n\ud800\uffff", "<b>", "&lt;"]
)
def test_any_name_can_be_drawn(name: str) -> None:
    graph = renamed(chain(8, 4, 2), lambda found: found + name)
    assert len(groups(drawn(graph), "node")) == 4


@needs_dot
def test_a_long_name_is_cut_in_the_drawing_and_whole_in_the_tooltip() -> None:
    graph = renamed(chain(8, 4, 1), lambda found: found + "/" + "x" * 500 + "/end")
    svg = drawn(graph)
    assert all(len(line) < 60 for lines in groups(svg, "node").values() for line in lines)
    assert groups(svg, "node")["n0"][1].endswith("xx/end")
    assert f"s/{'x' * 500}/end" in tooltips(svg)


@needs_dot
def test_time_goes_down_the_page() -> None:
    svg = drawn(chain(8, 4, 30))
    heights = []
    for group in svg.iter(f"{SVG}g"):
        if group.get("class") == "node" and group.findtext(f"{SVG}title", "").startswith("n"):
            text = group.find(f".//{SVG}text")
            assert text is not None
            heights.append(float(text.get("y", "")))
    assert heights == sorted(heights)
    assert len(heights) == 30


def test_sections_of_the_graph_are_npu_sections() -> None:
    """What the counts above rest on."""
    assert [isinstance(s, NpuSection) for s in mixed().sections] == [True, False, True, False, True]
