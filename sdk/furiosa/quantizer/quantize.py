"""From a float model and ranges to a quantised model."""

from collections.abc import Mapping, Sequence

import onnx
from onnx import ModelProto

from furiosa.quantizer.editor import take_edits
from furiosa.quantizer.insert import insert
from furiosa.quantizer.prepare import prepare


def quantize(
    model: ModelProto | bytes, tensor_name_to_range: Mapping[str, Sequence[float]]
) -> bytes:
    """The model in QDQ form (opset 13, int8), serialised.

    A model that was not optimised is optimised first, as for calibration. Types asked for with a
    `ModelEditor` are carried out. Ranges of tensors that are not quantised are ignored; the same
    input gives the same bytes.
    Raises: ValueError naming a tensor without a range, or when the model is quantised already or not
    float32; else as `furiosa.optimizer.optimize_model`.
    """
    graph, plan = prepare(model)
    insert(graph, plan, tensor_name_to_range, take_edits(graph.frame))
    graph.prune()
    graph.name_nodes()
    graph.infer()
    result = graph.to_model()
    onnx.checker.check_model(result)
    return result.SerializeToString(deterministic=True)
