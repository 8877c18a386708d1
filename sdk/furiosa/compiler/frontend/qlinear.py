"""Operators on stored integers as Dequantize -> operator -> Quantize: one function each, one table.

They are ONNX's QLinearConv and QLinearMatMul and those in which onnxruntime's quantiser writes models. A
model brought into this form means the same and takes the same way through the compiler as one that was
quantised in it. Scales and zero points must be constants.

Source: operator documentation of onnxruntime, domain com.microsoft.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import onnx

from furiosa.compiler.diagnostics import InvalidModel
from furiosa.compiler.frontend.rewrite import Rewrite, Site, rewrite
from furiosa.compiler.value import Array, Attribute

MICROSOFT: Final = "com.microsoft"
OLD_AXIS: Final = (
    "old_axis"  # attribute that `opset.settle` takes from a Softmax: 1 for the meaning until 12
)
_AGAIN: Final = "quantise the model anew, in QDQ form"
_GELU_OPSET: Final = 20  # the first one that has it


def dequantize_everywhere(model: onnx.ModelProto) -> bool:
    """Replace every operator of QLINEAR and STANDARD, in place; whether there was one.

    Nodes are as in opset 13 or later, whatever the opset of the model; `opset.settle` brings it there.

    Raises: InvalidModel, naming the node that cannot be brought into QDQ form.
    """
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    gelu_ = gelu if max(versions) >= _GELU_OPSET else gelu_of_erf
    done = rewrite(model, {**QLINEAR, "Gelu": gelu_}, MICROSOFT)
    return rewrite(model, STANDARD) or done


def conv(site: Site) -> None:
    x, sx, zx, w, sw, zw, sy, zy, bias = site.operands(8, 9)
    operands = [_real(site, "x", x, sx, zx), _real(site, "w", w, sw, zw, axis=0)]
    if bias:
        units = _scale(site, "x", sx, whole=True) * _scale(site, "w", sw)
        operands.append(_real(site, "b", bias, site.constant(units, "units"), "", axis=0))
    _stored(site, "Conv", operands, sy, zy)


def matmul(site: Site) -> None:
    a, sa, za, b, sb, zb, sy, zy = site.operands(8, 8)
    _scale(site, "a", sa, whole=True)
    operands = [_real(site, "a", a, sa, za), _real(site, "b", b, sb, zb, axis=-1)]
    _stored(site, "MatMul", operands, sy, zy)


def gemm(site: Site) -> None:
    a, sa, za, b, sb, zb, bias, sy, zy = site.operands(6, 9)
    alpha = np.float32(site.number("alpha", 1.0))
    out_axis = 0 if site.integer("transB", 0) else 1
    operands = [_real(site, "a", a, sa, za), _real(site, "b", b, sb, zb, axis=out_axis)]
    if bias:
        units = alpha * _scale(site, "a", sa, whole=True) * _scale(site, "b", sb)
        operands.append(_real(site, "c", bias, site.constant(units, "units"), "", axis=-1))
    if sy:
        _stored(site, "Gemm", operands, sy, zy)
    else:
        site.finish("Gemm", operands, _plain(site))


def add(site: Site) -> None:
    _binary(site, "Add")


def mul(site: Site) -> None:
    _binary(site, "Mul")


def where(site: Site) -> None:
    choice, x, sx, zx, y, sy, zy, sz, zz = site.operands(9, 9)
    operands = [choice, _real(site, "x", x, sx, zx), _real(site, "y", y, sy, zy)]
    _stored(site, "Where", operands, sz, zz)


def concat(site: Site) -> None:
    if len(site.node.input) < 5 or len(site.node.input) % 3 != 2:
        raise site.refuse(
            f"it has {len(site.node.input)} inputs, not 2 and 3 for each part", _AGAIN
        )
    names = list(site.node.input)
    parts = zip(names[2::3], names[3::3], names[4::3], strict=True)
    operands = [_real(site, f"x{index}", *part) for index, part in enumerate(parts)]
    _stored(site, "Concat", operands, *names[:2])


def sigmoid(site: Site) -> None:
    _unary(site, "Sigmoid")


def leaky_relu(site: Site) -> None:
    _unary(site, "LeakyRelu")


def average_pool(site: Site) -> None:
    _unary(site, "AveragePool")


def global_average_pool(site: Site) -> None:
    _unary(site, "GlobalAveragePool")


def softmax(site: Site) -> None:
    """`opset` says whose Softmax it is, which the opset of the model need not."""
    x, sx, zx, sy, zy = site.operands(4, 5)
    opset = site.integer("opset", 13)
    old = int(opset < 13)
    given: dict[str, Attribute] = {"axis": site.integer("axis", 1 if old else -1), OLD_AXIS: old}
    result = site.add("Softmax", [_real(site, "x", x, sx, zx)], given)
    site.finish("QuantizeLinear", [result, *_parameters(site, "y", sy, zy, result=True)], hint="y")


def gelu(site: Site) -> None:
    site.finish("Gelu", site.operands(1, 1), site.attributes)


def gelu_of_erf(site: Site) -> None:
    """x * (1 + erf(x / sqrt(2))) / 2, as exporters write it for opsets without Gelu."""
    (x,) = site.operands(1, 1)
    kind = site.draft.types.get(x)
    half = kind is not None and kind.elem_type == onnx.TensorProto.FLOAT16
    dtype = np.float16 if half else np.float32
    root, one, middle = (
        site.constant(np.array(number, dtype), hint)
        for number, hint in ((np.sqrt(2), "root"), (1, "one"), (0.5, "half"))
    )
    ratio = site.add("Div", [x, root], hint="div")
    raised = site.add("Add", [site.add("Erf", [ratio], hint="erf"), one], hint="add")
    site.finish("Mul", [site.add("Mul", [x, raised], hint="mul"), middle])


def quantize_linear(site: Site) -> None:
    x, scale, zero = site.operands(2, 3)
    parameters = _parameters(site, "y", scale, zero, result=True)
    site.finish("QuantizeLinear", [x, *parameters], site.attributes)


def dequantize_linear(site: Site) -> None:
    x, scale, zero = site.operands(2, 3)
    site.finish("DequantizeLinear", [x, *_parameters(site, "x", scale, zero)], site.attributes)


def _unary(site: Site, operator: str) -> None:
    x, sx, zx, sy, zy = site.operands(4, 5)
    _stored(site, operator, [_real(site, "x", x, sx, zx)], sy, zy)


def _binary(site: Site, operator: str) -> None:
    a, sa, za, b, sb, zb, sy, zy = site.operands(7, 8)
    _stored(site, operator, [_real(site, "a", a, sa, za), _real(site, "b", b, sb, zb)], sy, zy)


def _real(
    site: Site, hint: str, stored: str, scale: str, zero: str, axis: int | None = None
) -> str:
    """A float tensor: `stored` dequantised, with scales along `axis` or as a whole."""
    if not stored:
        raise site.refuse(f"its input {hint} is left out", _AGAIN)
    several = _scale(site, hint, scale, whole=axis is None).size > 1
    given: dict[str, Attribute] = {"axis": axis} if several and axis is not None else {}
    return site.add(
        "DequantizeLinear", [stored, *_parameters(site, hint, scale, zero)], given, hint=hint
    )


def _stored(site: Site, operator: str, operands: Sequence[str], scale: str, zero: str) -> None:
    """The operator in float and, under the node's own output, its result quantised."""
    result = site.add(operator, operands, _plain(site))
    _scale(site, "y", scale, whole=True)
    site.finish(
        "QuantizeLinear", [result, *_parameters(site, "y", scale, zero, result=True)], hint="y"
    )


def _plain(site: Site) -> dict[str, Attribute]:
    """The attributes, which are those of the operator in float; images lie in memory as ONNX says."""
    if site.integer("channels_last", 0):
        raise site.refuse(
            "attribute 'channels_last' is 1", "quantise the model before onnxruntime optimises it"
        )
    return site.without("channels_last")


def _parameters(site: Site, hint: str, scale: str, zero: str, *, result: bool = False) -> list[str]:
    """Names of a scale and, if there is one, a zero point, both without dimensions if they are one number.

    A `result` needs the zero point, which gives it its type.
    """
    names = []
    for what, name in (("scale", scale), ("zero point", zero)):
        if not name and what == "zero point" and not result:
            continue
        data = _constant(site, hint, what, name)
        if what == "zero point" and data.dtype not in (np.int8, np.uint8, np.int32):
            raise site.refuse(
                f"the zero point of {hint} is of type {data.dtype}", "quantise to 8 bits"
            )
        one = data.size == 1 and data.ndim
        names.append(site.constant(data.reshape(()), f"{hint}/{what[:5]}") if one else name)
    return names


def _scale(site: Site, hint: str, name: str, *, whole: bool = False) -> Array:
    """float32 [n], or [] for one. Raises: InvalidModel, for several if there may be one only."""
    data = _constant(site, hint, "scale", name)
    if data.dtype != np.float32 or data.ndim > 1 or (whole and data.size != 1):
        raise site.refuse(
            f"the scale of {hint} is {data.dtype}{list(data.shape)}", f"{_AGAIN}, per tensor"
        )
    return data if data.size > 1 else data.reshape(())


def _constant(site: Site, hint: str, what: str, name: str) -> Array:
    data = site.draft.data(name)
    if data is None or not data.size:
        raise _no_constant(site, hint, what)
    return data


def _no_constant(site: Site, hint: str, what: str) -> InvalidModel:
    return site.refuse(f"the {what} of {hint} is not a constant", _AGAIN)


STANDARD: Final[Mapping[str, Rewrite]] = {"QLinearConv": conv, "QLinearMatMul": matmul}

QLINEAR: Final[Mapping[str, Rewrite]] = {
    "DequantizeLinear": dequantize_linear,
    "Gelu": gelu,
    "QGemm": gemm,
    "QLinearAdd": add,
    "QLinearAveragePool": average_pool,
    "QLinearConcat": concat,
    "QLinearConv": conv,
    "QLinearGlobalAveragePool": global_average_pool,
    "QLinearLeakyRelu": leaky_relu,
    "QLinearMul": mul,
    "QLinearSigmoid": sigmoid,
    "QLinearSoftmax": softmax,
    "QLinearWhere": where,
    "QuantizeLinear": quantize_linear,
}
