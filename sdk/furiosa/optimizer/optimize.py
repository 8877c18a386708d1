"""The whole optimizer on one screen."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from onnx import ModelProto

from furiosa.optimizer import opset, source
from furiosa.optimizer.graph import Graph
from furiosa.optimizer.rewrites.expand_batch_norm import expand_batch_norm
from furiosa.optimizer.rewrites.expand_prelu import expand_prelu
from furiosa.optimizer.rewrites.expand_sum import expand_sum
from furiosa.optimizer.rewrites.fill_squeeze_axes import fill_squeeze_axes
from furiosa.optimizer.rewrites.fold_affine import fold_affine
from furiosa.optimizer.rewrites.fold_constants import fold_constants
from furiosa.optimizer.rewrites.fuse_gather import fuse_gather
from furiosa.optimizer.rewrites.normalize_gemm import normalize_gemm
from furiosa.optimizer.rewrites.remove_noops import remove_noops
from furiosa.optimizer.rewrites.rewrite_pad import rewrite_pad

OPSETS: Final = (12, 13)
REWRITES: Final[tuple[Callable[[Graph], bool], ...]] = (
    fill_squeeze_axes,
    fold_constants,
    remove_noops,
    rewrite_pad,
    fold_affine,
    expand_batch_norm,
    fuse_gather,
    expand_prelu,
    expand_sum,
    normalize_gemm,
)


def optimize_model(
    model: source.Source,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    opset_version: int = 13,
) -> ModelProto:
    """An equivalent model in the form the quantizer and the compiler work on best.

    Every node has a name of its own, every input a static shape (a dynamic batch becomes 1), what
    depends on no input is an initialiser, inner values carry their types, and `REWRITES` have run
    until nothing changed. Inputs and outputs keep names and order, results agree with the model's up
    to float32 rounding. Optimising twice gives the same as once.

    `model` is a ModelProto, the bytes of one, or a path; it is not changed. `input_shapes` gives
    inputs by name their dimensions.
    Raises: ValueError for another `opset_version` than 12 or 13, or a model or shape that is wrong;
    NotImplementedError when the model cannot be brought to that opset; RuntimeError when an input's
    shape is dynamic beyond the batch and not given.
    Source: reference of the optimizer, section 2.
    """
    if opset_version not in OPSETS:
        raise ValueError(f"Unsupported opset_version: {opset_version}")
    own = source.load(model)
    source.fix_input_shapes(own, input_shapes or {})
    typed = Graph(own)
    typed.infer()
    graph = Graph(opset.convert(typed.to_model(), opset_version))
    graph.infer()
    graph.prune()
    graph.name_nodes()
    while sum(rewrite(graph) for rewrite in REWRITES):  # all of them, each round
        graph.prune()
        graph.name_nodes()
        graph.infer()
    return graph.to_model()
