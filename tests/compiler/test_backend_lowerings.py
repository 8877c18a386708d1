"""From ldfg down to lir, as text: golden/<step>/<case>.txt has the graph before and after."""

from typing import Any

import pytest

from furiosa.compiler.cdfg.ir import Cdfg
from furiosa.compiler.gir.ir import Gir, Role
from furiosa.compiler.gir.passes.allocate import Allocate
from furiosa.compiler.infra import Ir, Lowering, Pass, graph_of
from furiosa.compiler.ldfg.ir import Ldfg
from furiosa.compiler.lir.ir import Lir
from furiosa.compiler.lower.cdfg_to_gir import CdfgToGir
from furiosa.compiler.lower.dfg_to_ldfg import DfgToLdfg
from furiosa.compiler.lower.gir_to_lir import GirToLir
from furiosa.compiler.lower.ldfg_to_cdfg import LdfgToCdfg
from furiosa.compiler.options import CompilerOptions
from furiosa.compiler.pipeline import IRS
from furiosa.enf.isa import Opcode
from furiosa.enf.limits import Limits
from support import goldens
from support.npu_graphs import Plan, chain
from support.sketches import placed_cnn

OPTIONS = CompilerOptions()
_IR = {ir.type: ir for ir in IRS}


def cnn(*, host: bool = True) -> Ldfg:
    return DfgToLdfg().run(placed_cnn(host=host), OPTIONS)


def cdfg(graph: Ldfg, target: str = "warboy-2pe") -> Cdfg:
    return LdfgToCdfg().run(graph, CompilerOptions(target=target))


def gir(graph: Ldfg) -> Gir:
    return CdfgToGir().run(cdfg(graph), OPTIONS)


def allocated(graph: Ldfg, **limits: int) -> Gir:
    return Allocate(Limits(**limits)).run(gir(graph), OPTIONS).graph


def broken(graph: Any) -> list[str]:
    ir: Ir = _IR[type(graph)]
    return [message for rule in ir.rules for message in rule(graph)]


def golden(name: str, before: Any, after: Any) -> None:
    assert broken(after) == []
    goldens.check(name, _IR[type(before)].print(before), _IR[type(after)].print(after))


def block() -> Ldfg:
    """A residual block large enough to be worth sharing, then a vector."""
    plan = Plan()
    x = plan.conv(plan.input(1, 3, 32, 32), 16, 3, 2)
    y = plan.add(plan.conv(plan.conv(x, 32), 16, 3), x)
    flat = plan.reshape(plan.max_pool(y), 1, 16 * 64, 1, 1)
    return plan.done(plan.conv(flat, 10))


@pytest.mark.parametrize("target", ["warboy", "warboy-2pe"])
def test_sections_become_tasks_on_pes(target: str) -> None:
    golden(f"ldfg-to-cdfg/{target}", block(), cdfg(block(), target))


def test_buffers_live_from_their_writer_to_their_last_reader() -> None:
    graph = cdfg(cnn())
    golden("cdfg-to-gir/cnn", graph, CdfgToGir().run(graph, OPTIONS))


def test_buffers_that_never_meet_share_addresses() -> None:
    graph = gir(cnn())
    golden("allocate/cnn", graph, graph_of(Allocate().run(graph, OPTIONS)))


def test_what_does_not_fit_in_sram_spills_and_passes_in_tiles() -> None:
    graph = gir(block())
    golden("allocate/spilled", graph, Allocate(Limits(sram_bytes=6144)).run(graph, OPTIONS).graph)


def test_operations_become_instructions() -> None:
    """Without a host section: its bytes are the business of the onnx package."""
    graph = allocated(cnn(host=False))
    golden("gir-to-lir/cnn", graph, GirToLir().run(graph, OPTIONS))


def test_pes_share_instructions() -> None:
    graph = allocated(block())
    golden("gir-to-lir/shared", graph, GirToLir().run(graph, OPTIONS))


def test_a_value_between_npu_sections_stays_in_sram() -> None:
    plan = Plan()
    x = plan.table(plan.input(1, 2, 4, 4))
    graph = gir(plan.done(plan.add(plan.host(plan.table(x)), x)))
    roles = {buffer.name: buffer.role for buffer in graph.buffers}
    assert list(roles.values()) == [
        Role.INPUT,
        Role.ACTIVATION,
        Role.HOST,
        Role.HOST,
        Role.OUTPUT,
    ]
    assert roles[x] is Role.ACTIVATION


def test_equal_constants_become_one() -> None:
    plan = Plan()
    lir = GirToLir().run(allocated(plan.done(plan.table(plan.table(plan.input(4))))), OPTIONS)
    first, second = lir.instructions
    assert first.weights == second.weights
    assert len(lir.constants) == 1


def test_constants_that_begin_alike_stay_apart() -> None:
    graph = chain(length=2)
    (section,) = graph.sections
    first, second = (node.weights for node in section.nodes)  # type: ignore[union-attr]
    assert first is not None
    assert second is not None
    first.flat[0] = second.flat[0]
    second.flat[-1] = 5
    lir = GirToLir().run(allocated(graph), OPTIONS)
    assert lir.instructions[0].weights != lir.instructions[1].weights
    assert lir.instructions[0].bias == lir.instructions[1].bias


def test_instructions_name_no_staging_buffer() -> None:
    graph = allocated(block(), sram_bytes=6144)
    lir = GirToLir().run(graph, OPTIONS)
    assert [b.name for b in lir.buffers] == [
        b.name for b in graph.buffers if b.role not in (Role.WEIGHTS, Role.SCRATCH)
    ]
    assert len(lir.buffers) < len(graph.buffers)
    assert lir.sram_bytes == graph.sram_bytes


def test_a_reshape_in_sram_takes_the_place_of_its_source() -> None:
    graph = allocated(block())
    (task,) = graph.tasks
    (reshape,) = (o for o in task.operations if o.node.opcode is Opcode.RESHAPE)  # type: ignore[union-attr]
    out, source = graph.buffers[reshape.out], graph.buffers[reshape.sources[0]]
    assert (out.alias, out.offset) == (reshape.sources[0], source.offset)


def test_a_lowering_does_not_change_its_input() -> None:
    graph: Any = block()
    works: tuple[Lowering[Any, Any] | Pass[Any], ...] = (
        LdfgToCdfg(),
        CdfgToGir(),
        Allocate(),
        GirToLir(),
    )
    for work in works:
        show = _IR[type(graph)].print
        before = show(graph)
        result = work.run(graph, OPTIONS)
        assert show(graph) == before
        graph = graph_of(result)
    assert isinstance(graph, Lir)
