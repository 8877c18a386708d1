"""Bring a model to one version of the standard operators."""

from typing import Final

from onnx import ModelProto, NodeProto, defs, version_converter

from furiosa.optimizer.graph import default_opset, is_standard

# onnx's converter has no way down for these, though their later versions only admit more types and
# more attributes. They move to a domain that the converter leaves alone, and back.
_HELD: Final = (
    "Add",
    "BatchNormalization",
    "Div",
    "Identity",
    "Mul",
    "Pad",
    "Relu",
    "Reshape",
    "Shape",
    "Split",
    "Sub",
)
_HELD_DOMAIN: Final = "furiosa.held"


def convert(model: ModelProto, version: int) -> ModelProto:
    """The model in the given opset; itself when it already is.

    Shapes of inner values should be known: some conversions need them.
    Raises: NotImplementedError when an operator has no counterpart there.
    Source: reference of the optimizer, section 2.
    """
    found = default_opset(model)
    if found == version:
        return model
    if found > version:
        for node in model.graph.node:
            if is_standard(node, *_HELD):
                _make_expressible(node, found, version)
                node.domain = _HELD_DOMAIN
    model.opset_import.add(domain=_HELD_DOMAIN, version=1)
    try:
        model = version_converter.convert_version(model, version)
    except (RuntimeError, version_converter.ConvertError) as error:
        reason = str(error).rpartition("failed: ")[2]  # without a place in onnx's sources
        raise NotImplementedError(
            f"the model cannot be converted from opset {found} to {version}: {reason}"
        ) from error
    for node in model.graph.node:
        if node.domain == _HELD_DOMAIN:
            node.domain = ""
    for position, entry in enumerate(model.opset_import):
        if entry.domain == _HELD_DOMAIN:
            del model.opset_import[position]
            break
    return model


def _make_expressible(node: NodeProto, found: int, version: int) -> None:
    """Drop attributes that the older version lacks and that say what it always does."""
    new = defs.get_schema(node.op_type, found)
    old = defs.get_schema(node.op_type, version)
    defaults = {name: a.default_value for name, a in new.attributes.items()}
    extra = [a for a in node.attribute if a.name not in old.attributes]
    told = [a.name for a in extra if a != defaults[a.name]]
    if told or len(node.input) > old.max_input or len(node.output) > old.max_output:
        what = f"attribute {told[0]!r}" if told else "number of inputs or outputs"
        raise NotImplementedError(
            f"the model cannot be converted from opset {found} to {version}: node {node.name!r} "
            f"({node.op_type}) uses a later {what}"
        )
    for attribute in extra:
        node.attribute.remove(attribute)
