"""The memory report in a real browser: what is drawn, what it says, and that names stay inert."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from furiosa.compiler.gir.ir import Gir, Operation, schedule
from furiosa.compiler.gir.timeline import timeline
from furiosa.compiler.reports import memory_report
from furiosa.enf.program import Space
from support.browser import Page, browsing, executable
from support.npu_graphs import chain
from support.report_graphs import HOSTILE, allocated, mixed, renamed

pytestmark = pytest.mark.skipif(executable() is None, reason="Chromium is not installed")

RECTS = """[...document.querySelectorAll("rect.buffer")].map((r) => {
  const box = r.getBoundingClientRect();
  return [Number(r.dataset.buffer), box.left, box.top, box.right, box.bottom];
})"""
TIP = "document.getElementById('tip').hidden ? null : document.getElementById('tip').innerText"
DETAILS = "document.getElementById('details').innerText"
PICKED = "[...document.querySelectorAll('tr.picked')].map((row) => row.dataset.item)"
STEPS = "[...document.querySelectorAll('#marks .use')].map((mark) => Number(mark.dataset.step))"
Rects = dict[int, tuple[float, float, float, float]]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with browsing(tmp_path_factory.mktemp("browser")) as page:
        yield page


@pytest.fixture
def page(browser: Page) -> Iterator[Page]:
    """Whatever a test does to it, the page neither complains nor asks for anything."""
    yield browser
    browser.value("0")  # by then it has said what it had to say
    assert browser.complaints == []
    assert len(browser.requests) == 1


@pytest.fixture(scope="module")
def plan() -> Gir:
    return allocated(mixed())


def show(page: Page, plan: Gir, folder: Path, fragment: str = "", **view: Any) -> None:
    path = folder / "report.html"
    path.write_text(memory_report(plan), encoding="utf-8")
    page.open(path.as_uri() + fragment, **view)


def rects(page: Page) -> Rects:
    return {int(index): tuple(box) for index, *box in page.value(RECTS)}


def middle(box: tuple[float, float, float, float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def press(page: Page, label: str) -> None:
    page.value(
        f"[...document.querySelectorAll('button')].find((b) => b.textContent === '{label}').click()"
    )


def test_every_buffer_is_a_rectangle_as_long_as_its_life(
    page: Page, plan: Gir, tmp_path: Path
) -> None:
    show(page, plan, tmp_path)
    found = rects(page)
    assert sorted(found) == list(range(len(plan.buffers)))
    whole = found[plan.inputs[0]]
    step = (whole[2] - whole[0]) / plan.steps
    for index, b in enumerate(plan.buffers):
        left, _, right, _ = found[index]
        assert left == pytest.approx(whole[0] + step * b.first, abs=0.1)
        assert right == pytest.approx(whole[0] + step * min(b.last + 1, plan.steps), abs=0.1)


def test_rectangles_are_as_high_as_buffers_are_large_and_at_their_addresses(
    page: Page, plan: Gir, tmp_path: Path
) -> None:
    show(page, plan, tmp_path)
    found = rects(page)
    for space in Space:
        inside = [(i, b) for i, b in enumerate(plan.buffers) if b.space is space]
        first, at = next((found[i], b) for i, b in inside if b.offset == 0)
        scale = (first[3] - first[1]) / at.nbytes
        for index, b in inside:
            _, top, _, bottom = found[index]
            assert bottom == pytest.approx(first[3] - (b.offset or 0) * scale, abs=0.1)
            assert bottom - top == pytest.approx(b.nbytes * scale, abs=0.1)


def test_hovering_says_what_a_tensor_is(page: Page, plan: Gir, tmp_path: Path) -> None:
    show(page, plan, tmp_path)
    assert page.value(TIP) is None
    covered = {b.alias for b in plan.buffers}
    edges = [0, *(t.start for t in timeline(plan).steps[1:]), timeline(plan).cycles]
    for index, box in rects(page).items():
        if index in covered:
            continue
        b = plan.buffers[index]
        page.mouse("mouseMoved", *middle(box))
        tip = page.value(TIP)
        last = min(b.last, plan.steps - 1)
        assert b.name in tip
        assert f"{b.dtype.value}[{','.join(map(str, b.shape))}]" in tip
        assert f"({b.nbytes:,} bytes)" in tip
        assert f"{b.space.value.upper()} 0x{b.offset:X} to 0x{(b.offset or 0) + b.nbytes:X}" in tip
        steps = f"step {last}" if b.first == last else f"steps {b.first} to {last}"
        assert f"{steps}, cycles {edges[b.first]:,} to {edges[last + 1]:,}" in tip
    page.mouse("mouseMoved", 5, 5)
    assert page.value(TIP) is None


def test_hovering_marks_the_steps_that_use_a_tensor_and_its_row(
    page: Page, plan: Gir, tmp_path: Path
) -> None:
    show(page, plan, tmp_path)
    box = rects(page)[plan.inputs[0]]
    page.mouse("mouseMoved", *middle(box))
    assert page.value(STEPS) == [0]
    hot = "[...document.querySelectorAll('tr.hot')].map((row) => row.dataset.item)"
    assert page.value(hot) == [f"b{plan.inputs[0]}"]


def test_hovering_where_no_tensor_is_says_what_the_step_does(
    page: Page, plan: Gir, tmp_path: Path
) -> None:
    show(page, plan, tmp_path)
    whole = rects(page)[plan.inputs[0]]
    lane = page.value("document.querySelector('[data-unit=DRAM]').getBoundingClientRect().top")
    for step, (_, work) in enumerate(schedule(plan)):
        x = whole[0] + (whole[2] - whole[0]) * (step + 0.5) / plan.steps
        page.mouse("mouseMoved", x, lane + 5)
        time = timeline(plan).steps[step]
        tip = page.value(TIP)
        is_npu = isinstance(work, Operation)
        name = work.node.opcode.name.lower() if isinstance(work, Operation) else work.nodes[0].op
        assert tip.startswith(f"Step {step}: {name}\n")
        assert f"Runs on\n{'NPU' if is_npu else 'CPU'}" in tip.replace("\n\n", "\n")
        assert f"{time.cycles:,} cycles" in tip
        assert all(f"{cycles:,} cycles" in tip for cycles in time.pes)


def test_the_address_says_which_tensor_is_shown(page: Page, plan: Gir, tmp_path: Path) -> None:
    index = plan.inputs[0]
    show(page, plan, tmp_path, f"#b{index}")
    assert plan.buffers[index].name in page.value(DETAILS)
    assert page.value(PICKED) == [f"b{index}"]
    page.click(*middle(rects(page)[plan.outputs[0]]))
    assert page.value("location.hash") == f"#b{plan.outputs[0]}"
    assert page.value(f"new Promise((done) => setTimeout(() => done({PICKED})))") == [
        f"b{plan.outputs[0]}"
    ]


def test_a_step_lists_the_tensors_alive_at_it(page: Page, plan: Gir, tmp_path: Path) -> None:
    show(page, plan, tmp_path, "#s2")
    rows = page.value(
        "[...document.querySelectorAll('#tensors tr[data-item]')].map((row) => row.dataset.item)"
    )
    alive = {f"b{i}" for i, b in enumerate(plan.buffers) if b.first <= 2 <= b.last}
    assert set(rows) == alive
    assert page.value(DETAILS).startswith("Step 2: conv2d")
    assert page.value(STEPS) == [2]


@pytest.mark.parametrize("fragment", ["#", "#b999999", "#s-1", "#b01", "#x", "#b1e1", "#%00<b>"])
def test_an_address_that_names_nothing_shows_nothing(
    page: Page, plan: Gir, tmp_path: Path, fragment: str
) -> None:
    show(page, plan, tmp_path, fragment)
    assert page.value(DETAILS) == ""
    assert len(rects(page)) == len(plan.buffers)


def test_time_can_be_cycles(page: Page, plan: Gir, tmp_path: Path) -> None:
    show(page, plan, tmp_path)
    press(page, "cycles")
    found = rects(page)
    whole = found[plan.inputs[0]]
    times = timeline(plan)
    for index, b in enumerate(plan.buffers):
        first = times.steps[b.first].start if b.first else 0
        share = (found[index][0] - whole[0]) / (whole[2] - whole[0])
        assert share == pytest.approx(first / times.cycles, abs=0.001)


def test_the_scale_can_be_the_capacity(page: Page, plan: Gir, tmp_path: Path) -> None:
    show(page, plan, tmp_path)
    limits = "[...document.querySelectorAll('.limit')].map((line) => line.dataset.limit)"
    assert page.value(limits) == ["peak", "peak"]
    press(page, "capacity")
    assert page.value(limits) == ["peak", "capacity", "peak", "capacity"]


def test_dragging_shows_a_stretch_of_time_and_a_double_click_shows_all(
    page: Page, plan: Gir, tmp_path: Path
) -> None:
    show(page, plan, tmp_path)
    whole = rects(page)[plan.inputs[0]]
    step, y = (whole[2] - whole[0]) / plan.steps, whole[1] + 5
    page.mouse("mousePressed", whole[0] + 1, y)
    for x in (whole[0] + step, whole[0] + 2 * step - 1):
        page.mouse("mouseMoved", x, y, held=True)
    page.mouse("mouseReleased", whole[0] + 2 * step - 1, y)
    assert set(rects(page)) == {i for i, b in enumerate(plan.buffers) if b.first <= 1}
    page.click(*middle(whole), count=2)
    assert len(rects(page)) == len(plan.buffers)


def test_the_drawing_obeys_the_keyboard(page: Page, plan: Gir, tmp_path: Path) -> None:
    show(page, plan, tmp_path)
    page.value("document.getElementById('plot').focus()")
    page.key("+")
    assert len(rects(page)) < len(plan.buffers)
    page.key("ArrowRight")
    order = sorted(range(len(plan.buffers)), key=lambda i: plan.buffers[i].first)
    assert page.value("location.hash") == f"#b{order[0]}"
    page.key("Escape")
    assert len(rects(page)) == len(plan.buffers)
    assert page.value("location.hash") == "#all"


def test_tables_are_sorted_by_their_headings(page: Page, plan: Gir, tmp_path: Path) -> None:
    show(page, plan, tmp_path)
    cycles = """[...document.querySelectorAll('#operators tbody tr')].map(
        (row) => Number(row.cells[4].textContent.replaceAll(",", "")))"""
    heading = "document.querySelectorAll('#operators th')[4]"
    times = [time.cycles for time in timeline(plan).steps]
    assert page.value(cycles) == times
    page.value(f"{heading}.firstChild.click()")
    assert page.value(cycles) == sorted(times, reverse=True)
    assert page.value(f"{heading}.getAttribute('aria-sort')") == "descending"
    page.value(f"{heading}.firstChild.click()")
    assert page.value(cycles) == sorted(times)


def test_cycles_are_added_up_by_operator_and_by_unit(page: Page, plan: Gir, tmp_path: Path) -> None:
    show(page, plan, tmp_path)
    cells = """[...document.querySelectorAll('#ID tbody tr')].map(
        (row) => [...row.cells].map((cell) => cell.textContent))"""
    time = timeline(plan)
    kinds: dict[str, list[int]] = {}
    for (_, work), timing in zip(schedule(plan), time.steps, strict=True):
        if isinstance(work, Operation):
            row = kinds.setdefault(work.node.opcode.name.lower(), [0, 0, 0, 0])
            row[:] = [
                row[0] + 1,
                row[1] + timing.cycles,
                *map(sum, zip(row[2:], timing.pes, strict=True)),
            ]
    rows = {row[0]: row for row in page.value(cells.replace("ID", "kinds"))}
    for kind, (count, cycles, pe0, pe1) in kinds.items():
        found = rows.pop(kind)
        assert found[1:4] == ["NPU", str(count), f"{cycles:,}"]
        assert found[6:] == [f"{pe0:,}", f"{pe1:,}"]
    assert {kind: row[1:4] for kind, row in rows.items()} == {"Neg": ["CPU", "2", "not known"]}
    units = {row[0]: row[1] for row in page.value(cells.replace("ID", "units"))}
    assert units == {
        "PE 0": f"{sum(t.pes[0] for t in time.steps):,}",
        "PE 1": f"{sum(t.pes[1] for t in time.steps):,}",
        "Exchange between PEs": f"{sum(t.exchange for t in time.steps):,}",
        "DRAM": f"{time.filling + sum(t.transfer for t in time.steps):,}",
    }


def test_the_summary_has_peaks_time_and_places(page: Page, plan: Gir, tmp_path: Path) -> None:
    show(page, plan, tmp_path)
    cards = page.value(
        "[...document.querySelectorAll('#summary .card')].map((card) => card.innerText)"
    )
    sram, dram, time, cycles, places, spilled = cards
    assert f"{plan.sram_bytes / 1024:.2f} KiB" in sram
    assert "of 32 MiB; fullest at step " in sram
    assert f"{(plan.dram_bytes + plan.constant_bytes) / 1024:.2f} KiB" in dram
    assert f"{timeline(plan).cycles:,} cycles at 2.0 GHz, {plan.steps} steps" in time
    assert f"{timeline(plan).cycles / 2:.0f} ns" in time
    assert "% DRAM" in cycles
    assert "75.0 %" in places
    assert "none" in spilled


def test_a_row_under_the_pointer_or_with_the_focus_marks_its_tensor(
    page: Page, plan: Gir, tmp_path: Path
) -> None:
    show(page, plan, tmp_path)
    row = "document.querySelector('#tensors tbody tr')"
    box = page.value(f"(({{left, top}}) => [left, top])({row}.getBoundingClientRect())")
    item = page.value(f"{row}.dataset.item")
    page.mouse("mouseMoved", box[0] + 5, box[1] + 5)
    assert page.value(STEPS)
    page.mouse("mouseMoved", 5, 5)
    assert not page.value(STEPS)
    page.value(f"{row}.querySelector('a').focus()")
    assert sorted(page.value(STEPS)) == page.value(f"F.buffers[{item[1:]}].users")


def test_what_is_not_looked_for_is_faint(page: Page, plan: Gir, tmp_path: Path) -> None:
    show(page, plan, tmp_path)
    page.value("document.getElementById('filter').focus()")
    for letter in "v3":
        page.key(letter)
    shown = "[...document.querySelectorAll('rect.buffer:not(.dim)')].map((r) => r.dataset.buffer)"
    wanted = {str(i) for i, b in enumerate(plan.buffers) if "v3" in b.name}
    assert set(page.value(shown)) == wanted
    assert page.value("document.querySelectorAll('#tensors tbody tr').length") == len(wanted)


def test_the_summary_and_the_spills_name_what_left_sram(page: Page, tmp_path: Path) -> None:
    plan = allocated(chain(32, 64, 4), sram_bytes=64 << 10)
    show(page, plan, tmp_path)
    spilled = [f"b{i}" for i, b in enumerate(plan.buffers) if b.spilled]
    rows = "[...document.querySelectorAll('#spills tr[data-item]')].map((r) => r.dataset.item)"
    assert sorted(page.value(rows)) == spilled
    assert f"{len(spilled)} tensors had to leave SRAM" in page.value(
        "document.getElementById('summary').innerText"
    )


def test_names_of_strangers_run_nothing(page: Page, tmp_path: Path) -> None:
    plan = allocated(renamed(mixed(), lambda name: name + HOSTILE))
    show(page, plan, tmp_path, "#b0")
    for box in rects(page).values():
        page.mouse("mouseMoved", *middle(box))
    assert page.value("document.querySelectorAll('img').length") == 0
    assert page.value("document.title") == f"Memory report: {plan.model.name}"
    assert page.value("document.querySelector('#details .heading').textContent") == (
        plan.buffers[0].name
    )
    assert page.value("document.querySelector('#tensors a').textContent") in [
        b.name for b in plan.buffers
    ]


def test_a_script_that_got_in_would_not_run(browser: Page, plan: Gir, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    forged = "<script>document.title = 'owned'</script></body>"
    path.write_text(memory_report(plan).replace("</body>", forged))
    browser.open(path.as_uri())
    assert browser.value("document.title") == f"Memory report: {plan.model.name}"
    assert "Content Security Policy" in browser.complaint()


def test_the_page_is_light_or_dark_as_its_reader_has_it(
    page: Page, plan: Gir, tmp_path: Path
) -> None:
    color = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    show(page, plan, tmp_path)
    assert min(page.value(color)) > 200
    show(page, plan, tmp_path, dark=True)
    assert max(page.value(color)) < 60


@pytest.mark.parametrize("width", [360, 800, 1920])
def test_the_page_is_never_wider_than_the_window(
    page: Page, plan: Gir, tmp_path: Path, width: int
) -> None:
    show(page, plan, tmp_path, width=width)
    assert page.value("document.documentElement.scrollWidth") <= width


def test_two_thousand_buffers_are_drawn(page: Page, tmp_path: Path) -> None:
    plan = allocated(chain(8, 16, 1000))
    assert len(plan.buffers) > 2000
    show(page, plan, tmp_path)
    assert len(rects(page)) == len(plan.buffers)
    assert page.value("document.querySelectorAll('#tensors tbody tr').length") == 200
    press(page, f"Show all {len(plan.buffers):,}")
    assert page.value("document.querySelectorAll('#tensors tbody tr').length") == len(plan.buffers)


def test_outlines_hide_no_buffer(page: Page, plan: Gir, tmp_path: Path) -> None:
    show(page, plan, tmp_path)
    assert outlines(page, "> 30") not in ([], ["none"])
    press(page, "capacity")
    assert outlines(page, "< 4") == ["none"]


def outlines(page: Page, height: str) -> list[str]:
    """The colours around the buffers that are drawn so high."""
    found: list[str] = page.value(
        f"""[...new Set([...document.querySelectorAll("rect.buffer:not(.alias)")]
        .filter((r) => r.getBoundingClientRect().height {height})
        .map((r) => getComputedStyle(r).stroke))]"""
    )
    return found
