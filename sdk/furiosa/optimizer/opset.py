"""Bring a model to one version of the standard operators."""

from typing import Final

from onnx import ModelProto, NodeProto, defs, helper, version_converter

from furiosa.optimizer.earlier import EARLIER, NoCounterpart
from furiosa.optimizer.graph import CONTRIB, Graph, default_opset, is_standard

_HELD_DOMAIN: Final = "furiosa.held"
_RESIZE_CHOOSES: Final = 11  # the opset from which on Resize says where it takes its values


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
        model = _hold(Graph(model), found, version)
    model.opset_import.add(domain=_HELD_DOMAIN, version=1)
    resized = {n.output[0] for n in model.graph.node if is_standard(n, "Upsample", "Resize")}
    try:
        model = version_converter.convert_version(model, version)
    except (RuntimeError, version_converter.ConvertError) as error:
        reason = str(error).rpartition("failed: ")[2]  # without a place in onnx's sources
        raise NotImplementedError(
            f"the model cannot be converted from opset {found} to {version}: {reason}; "
            f"export it with opset {version}"
        ) from error
    for node in model.graph.node:
        if node.domain == _HELD_DOMAIN:
            node.domain = ""
        if found < _RESIZE_CHOOSES and node.output[0] in resized:
            _place_as_before(node)
    for position, entry in enumerate(model.opset_import):
        if entry.domain == _HELD_DOMAIN:
            del model.opset_import[position]
            break
    return model


def _place_as_before(resize: NodeProto) -> None:
    """What Upsample and the first Resize always did; the converter leaves the new defaults."""
    modes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    resize.attribute.extend(helper.make_attribute(name, mode) for name, mode in modes.items())


def _hold(graph: Graph, found: int, version: int) -> ModelProto:
    """With all that can be said in the earlier version in a domain that the converter leaves alone.

    The converter has no way down for most operators, though their later versions only admit more
    types and more attributes.
    """
    for node in list(graph.nodes):
        if not is_standard(node, node.op_type):
            continue
        changed, rewrite = EARLIER.get(node.op_type, (0, None))
        said = [node]
        if rewrite is not None and version < changed <= found:
            try:
                said = rewrite(graph, node, version)
            except NoCounterpart as reason:
                raise _refusal(node, found, version, str(reason)) from None
            graph.replace(node, said)
        for each in said:
            if each is not node or _only_grew(node, found, version):
                if each is node:
                    _make_expressible(node, found, version)
                each.domain = each.domain or _HELD_DOMAIN
    if any(node.domain == CONTRIB for node in graph.nodes) and not any(
        entry.domain == CONTRIB for entry in graph.frame.opset_import
    ):
        graph.frame.opset_import.add(domain=CONTRIB, version=1)
    return graph.to_model()


def _only_grew(node: NodeProto, found: int, version: int) -> bool:
    """Does the operator exist in both versions, and has lost no attribute?"""
    try:
        new = defs.get_schema(node.op_type, found)
        old = defs.get_schema(node.op_type, version)
    except defs.SchemaError:
        return False
    return set(old.attributes) <= set(new.attributes)


def _make_expressible(node: NodeProto, found: int, version: int) -> None:
    """Drop attributes that the older version lacks and that say what it always does."""
    new = defs.get_schema(node.op_type, found)
    old = defs.get_schema(node.op_type, version)
    defaults = {name: a.default_value for name, a in new.attributes.items()}
    extra = [a for a in node.attribute if a.name not in old.attributes]
    told = [a.name for a in extra if a != defaults[a.name]]
    if told or len(node.input) > old.max_input or len(node.output) > old.max_output:
        what = f"attribute {told[0]!r}" if told else "number of inputs or outputs"
        raise _refusal(node, found, version, what)
    for attribute in extra:
        node.attribute.remove(attribute)


def _refusal(node: NodeProto, found: int, version: int, what: str) -> NotImplementedError:
    return NotImplementedError(
        f"the model cannot be converted from opset {found} to {version}: node {node.name!r} "
        f"({node.op_type}) uses a later {what}"
    )
