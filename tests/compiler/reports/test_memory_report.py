"""The memory report as a document: its figures are those of the gir, and nothing in it is live."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any

import pytest

from furiosa.compiler.cost import CLOCK_HZ
from furiosa.compiler.gir.ir import Gir, HostTask, Operation, operations, schedule
from furiosa.compiler.gir.timeline import timeline
from furiosa.compiler.ldfg.ir import Ldfg
from furiosa.compiler.reports import memory_report
from furiosa.enf.program import Space
from support.npu_graphs import chain
from support.report_graphs import HOSTILE, allocated, mixed, renamed

CASES = {
    "mixed": allocated(mixed()),
    "one PE": allocated(mixed(), "warboy"),
    "spills": allocated(chain(32, 64, 4), sram_bytes=64 << 10),
    "in place": allocated(mixed(), sram_bytes=3072),
}


class Document(HTMLParser):
    """Tags with their attributes, and the text of every script and style."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append((self.tags[-1][0] if self.tags else "", data))

    def text(self, tag: str) -> list[str]:
        return [data for found, data in self.texts if found == tag and data.strip()]


def figures_in(html: str) -> Any:
    found, _ = Document(html).text("script")
    return json.loads(found)


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def plan(request: pytest.FixtureRequest) -> Gir:
    found: Gir = request.param
    return found


def test_the_cases_have_what_there_is_to_show() -> None:
    buffers = [b for plan in CASES.values() for b in plan.buffers]
    assert any(b.spilled for b in buffers)
    assert any(b.alias is not None for b in buffers)
    works = [work for plan in CASES.values() for _, work in schedule(plan)]
    assert any(isinstance(work, HostTask) for work in works)
    assert any(isinstance(work, Operation) and work.tiles > 1 for work in works)


def test_totals_are_those_of_the_plan(plan: Gir) -> None:
    found = figures_in(memory_report(plan))
    time = timeline(plan)
    assert (found["model"], found["target"]) == (plan.model.name, plan.target)
    assert (found["batch"], found["clock"]) == (plan.model.batch, CLOCK_HZ)
    assert (found["cycles"], found["filling"]) == (time.cycles, time.filling)
    assert found["constants"] == plan.constant_bytes
    sram, dram = found["memories"]
    assert (sram["peak"], sram["capacity"]) == (plan.sram_bytes, plan.sram_capacity)
    assert (dram["peak"], dram["capacity"]) == (plan.dram_bytes, plan.dram_capacity)
    assert found["spilled"] == sum(b.nbytes for b in plan.buffers if b.spilled and b.alias is None)


def test_every_buffer_is_there_with_its_place_and_lifetime(plan: Gir) -> None:
    found = figures_in(memory_report(plan))["buffers"]
    assert len(found) == len(plan.buffers)
    for shown, b in zip(found, plan.buffers, strict=True):
        assert shown["name"] == b.name
        assert (shown["dtype"], tuple(shown["shape"])) == (b.dtype.value, b.shape)
        assert (shown["role"], shown["space"]) == (b.role.value, b.space.value)
        assert (shown["offset"], shown["bytes"]) == (b.offset, b.nbytes)
        assert (shown["alias"], shown["spilled"]) == (b.alias, b.spilled)
        assert (shown["first"], shown["last"]) == (b.first, min(b.last, plan.steps - 1))
        assert all(b.first <= step <= b.last for step in shown["users"])


def test_a_buffer_is_used_by_the_steps_that_name_it(plan: Gir) -> None:
    found = figures_in(memory_report(plan))["buffers"]
    named: dict[int, list[int]] = {index: [] for index in range(len(plan.buffers))}
    for step, work in schedule(plan):
        if isinstance(work, Operation):
            operands = {*work.sources, work.out, *work.scratch} | (
                set() if work.constants is None else {work.constants}
            )
        else:
            operands = {*work.inputs, *work.outputs}
        for index in operands:
            named[index].append(step)
    assert [shown["users"] for shown in found] == [named[index] for index in range(len(found))]


def test_bytes_alive_are_those_of_the_buffers_alive(plan: Gir) -> None:
    for shown in figures_in(memory_report(plan))["memories"]:
        assert shown["alive"] == [
            sum(
                b.nbytes
                for b in plan.buffers
                if b.space is Space(shown["space"]) and b.alias is None
                if b.first <= step <= b.last
            )
            for step in range(plan.steps)
        ]


def test_every_step_is_there_with_its_time_and_operators(plan: Gir) -> None:
    found = figures_in(memory_report(plan))["steps"]
    times = timeline(plan).steps
    assert len(found) == plan.steps == len(times)
    for shown, time, (_, work) in zip(found, times, schedule(plan), strict=True):
        assert (shown["start"], shown["cycles"]) == (time.start, time.cycles)
        assert tuple(shown["pes"]) == time.pes
        assert (shown["exchange"], shown["transfer"]) == (time.exchange, time.transfer)
        assert shown["bytes"] == time.streamed + time.prefetched
        if isinstance(work, Operation):
            assert shown["place"] == "NPU"
            assert shown["operators"] == [[work.node.opcode.name.lower(), "s"]]
            assert (shown["tiles"], shown["slices"]) == (work.tiles, work.slices)
        else:
            assert shown["place"] == "CPU"
            assert [operator for operator, _ in shown["operators"]] == [n.op for n in work.nodes]


def test_a_name_that_stands_twice_behind_an_operator_is_shown_once() -> None:
    graph = renamed(mixed(), lambda name: name)
    plan = allocated(graph)
    node = next(operations(plan))[1].node
    assert node.sources == ("s",)
    object.__setattr__(node, "sources", ("a", "b", "a"))
    assert figures_in(memory_report(plan))["steps"][0]["operators"][0][1] == "a+b"


def hostile() -> Gir:
    return allocated(renamed(mixed(), lambda name: name + HOSTILE))


def test_names_of_strangers_are_data_and_nothing_else() -> None:
    page, plain = memory_report(hostile()), memory_report(allocated(mixed()))
    assert [tag for tag, _ in Document(page).tags] == [tag for tag, _ in Document(plain).tags]
    assert [b["name"] for b in figures_in(page)["buffers"]] == [b.name for b in hostile().buffers]
    assert "<img" not in page
    assert "<!--" not in page


def test_a_name_that_is_no_text_can_be_written() -> None:
    plan = allocated(renamed(mixed(), lambda name: name + "\ud800\x00\uffff"))
    page = memory_report(plan)
    assert figures_in(page)["model"] == plan.model.name
    assert "\ufffd" in Document(page).text("title")[0]
    page.encode()


def test_the_page_asks_for_nothing_and_allows_only_its_own_scripts() -> None:
    page = memory_report(hostile())
    document = Document(page)
    assert not [value for _, attrs in document.tags for value in (attrs.get("src"),) if value]
    assert all(tag != "link" for tag, _ in document.tags)
    assert all((attrs.get("href") or "#").startswith("#") for _, attrs in document.tags)
    (policy,) = (
        attrs["content"]
        for tag, attrs in document.tags
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    )
    (style,) = document.text("style")
    _, script = document.text("script")
    assert policy == (
        f"default-src 'none'; style-src '{digest(style)}'; script-src '{digest(script)}'"
    )
    addresses = set(re.findall(r"https?://[^\s\"']+", style + script))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a namespace, which nobody fetches


def digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_a_model_without_any_work_has_a_page() -> None:
    empty = Ldfg(mixed().model, (), (), (), {})
    assert figures_in(memory_report(allocated(empty)))["steps"] == []


PROGRAM = """
import sys
from furiosa.compiler.reports import dot_graph, memory_report
from support.report_graphs import allocated, mixed
sys.stdout.write(memory_report(allocated(mixed())) + dot_graph(mixed()))
"""


def test_equal_graphs_give_equal_bytes_whatever_the_hash_seed() -> None:
    reports = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(reports) == 1
    assert b"conv2d" in reports.pop()
