"""What a model calls its inputs and outputs."""

from onnx import ModelProto


def get_pure_input_names(model: ModelProto) -> list[str]:
    """Names of the inputs that are not initialisers, in order."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [value.name for value in model.graph.input if value.name not in constants]


def get_output_names(model: ModelProto) -> list[str]:
    """Names of the outputs, in order."""
    return [value.name for value in model.graph.output]
