"""The compiler on one screen."""

from typing import ClassVar, Final

from furiosa.compiler.cdfg import ir as cdfg
from furiosa.compiler.cdfg import parser as cdfg_parser
from furiosa.compiler.cdfg import printer as cdfg_printer
from furiosa.compiler.cdfg import verify as cdfg_verify
from furiosa.compiler.dfg import ir as dfg
from furiosa.compiler.dfg import parser as dfg_parser
from furiosa.compiler.dfg import printer as dfg_printer
from furiosa.compiler.dfg import verify as dfg_verify
from furiosa.compiler.dfg.passes.absorb_qdq import AbsorbQdq
from furiosa.compiler.dfg.passes.bypass_identity import BypassIdentity
from furiosa.compiler.dfg.passes.fold_affine import FoldAffine
from furiosa.compiler.dfg.passes.fold_constants import FoldConstants
from furiosa.compiler.dfg.passes.fuse_requantize import FuseRequantize
from furiosa.compiler.dfg.passes.hoist_quantize import HoistQuantize
from furiosa.compiler.dfg.passes.merge_quantize import MergeQuantize
from furiosa.compiler.dfg.passes.permute_inputs import PermuteInputs
from furiosa.compiler.dfg.passes.remove_dead import RemoveDead
from furiosa.compiler.dfg.passes.remove_lower import RemoveLower
from furiosa.compiler.dfg.passes.remove_unlower import RemoveUnlower
from furiosa.compiler.dfg.passes.sink_dequantize import SinkDequantize
from furiosa.compiler.dfg.passes.split import Split
from furiosa.compiler.gir import ir as gir
from furiosa.compiler.gir import parser as gir_parser
from furiosa.compiler.gir import printer as gir_printer
from furiosa.compiler.gir import verify as gir_verify
from furiosa.compiler.gir.passes.allocate import Allocate
from furiosa.compiler.infra import Ir, Lowering, Stage, Step
from furiosa.compiler.ldfg import ir as ldfg
from furiosa.compiler.ldfg import parser as ldfg_parser
from furiosa.compiler.ldfg import printer as ldfg_printer
from furiosa.compiler.ldfg import verify as ldfg_verify
from furiosa.compiler.ldfg.passes.merge_sections import MergeSections
from furiosa.compiler.ldfg.passes.remove_reshapes import RemoveReshapes
from furiosa.compiler.ldfg.passes.simplify_moves import SimplifyMoves
from furiosa.compiler.lir import ir as lir
from furiosa.compiler.lir import parser as lir_parser
from furiosa.compiler.lir import printer as lir_printer
from furiosa.compiler.lir import verify as lir_verify
from furiosa.compiler.lir.passes.form_ports import FormPorts
from furiosa.compiler.lower.cdfg_to_gir import CdfgToGir
from furiosa.compiler.lower.dfg_to_ldfg import DfgToLdfg
from furiosa.compiler.lower.gir_to_lir import GirToLir
from furiosa.compiler.lower.ldfg_to_cdfg import LdfgToCdfg
from furiosa.compiler.lower.lir_to_enf import LirToEnf
from furiosa.compiler.options import CompilerOptions


class ImportOnnx(Lowering[bytes, dfg.Dfg]):
    """The onnx package is imported here and not before: 0.2 s that importing the compiler need not pay."""

    name: ClassVar[str] = "import-onnx"

    def run(self, graph: bytes, options: CompilerOptions) -> dfg.Dfg:
        from furiosa.compiler.frontend.onnx import import_onnx

        return import_onnx(graph, options)


IRS: Final = (
    Ir(
        "dfg",
        dfg.Dfg,
        dfg_verify.RULES,
        dfg_printer.print_dfg,
        dfg_printer.arrays,
        dfg_parser.parse_dfg,
    ),
    Ir(
        "ldfg",
        ldfg.Ldfg,
        ldfg_verify.RULES,
        ldfg_printer.print_ldfg,
        ldfg_printer.arrays,
        ldfg_parser.parse_ldfg,
    ),
    Ir(
        "cdfg",
        cdfg.Cdfg,
        cdfg_verify.RULES,
        cdfg_printer.print_cdfg,
        cdfg_printer.arrays,
        cdfg_parser.parse_cdfg,
    ),
    Ir(
        "gir",
        gir.Gir,
        gir_verify.RULES,
        gir_printer.print_gir,
        gir_printer.arrays,
        gir_parser.parse_gir,
    ),
    Ir(
        "lir",
        lir.Lir,
        lir_verify.RULES,
        lir_printer.print_lir,
        lir_printer.arrays,
        lir_parser.parse_lir,
    ),
)

STAGES: Final = (
    Stage(
        "onnx",
        "dfg",
        (
            Step(ImportOnnx()),
            Step(MergeQuantize()),
            Step(BypassIdentity()),
            Step(FoldConstants(dequantize=False)),
            Step(FoldAffine()),
            Step(SinkDequantize()),
            Step(HoistQuantize()),
            Step(AbsorbQdq()),
            Step(BypassIdentity()),
            Step(RemoveDead()),
            Step(FoldConstants(dequantize=True)),
            Step(RemoveDead()),
        ),
    ),
    Stage(
        "dfg",
        "ldfg",
        (
            Step(PermuteInputs(), "Splitting graph(LAS)"),
            Step(RemoveLower(), "Splitting graph(LAS)"),
            Step(RemoveUnlower(), "Splitting graph(LAS)"),
            Step(FuseRequantize(), "Splitting graph(LAS)"),
            Step(Split(), "Splitting graph(LAS)"),
            Step(DfgToLdfg(), "Lowering graph(LAS)"),
            Step(SimplifyMoves(), "Optimizing graph"),
            Step(RemoveReshapes(), "Optimizing graph"),
            Step(MergeSections(), "Optimizing graph"),
        ),
    ),
    Stage("ldfg", "cdfg", (Step(LdfgToCdfg()),)),
    Stage("cdfg", "gir", (Step(CdfgToGir()), Step(Allocate()))),
    Stage("gir", "lir", (Step(GirToLir()),)),
    Stage("lir", "enf", (Step(FormPorts()), Step(LirToEnf()))),
)
