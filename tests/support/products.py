"""Multiplications of a program: how many each side does in convolutions and matrix products."""

import math
from collections.abc import Iterator

import onnx
from onnx import numpy_helper

from furiosa.enf import HostSection, Opcode, Program

_NPU = (Opcode.CONV2D, Opcode.DEPTHWISE_CONV2D, Opcode.MATMUL)
_HOST = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def npu_share(program: Program) -> float:
    """Of all multiplications, those of the NPU."""
    npu, host = sum(_of_npu(program)), sum(_of_host(program))
    return npu / (npu + host)


def host_operators(program: Program) -> set[str]:
    return {node.op_type for model in _host_models(program) for node in model.graph.node}


def _of_npu(program: Program) -> Iterator[int]:
    for i in program.instructions:
        if i.opcode in _NPU:
            result = math.prod(program.buffers[i.out].shape)
            if i.opcode is Opcode.MATMUL:
                yield result * program.buffers[i.source0].shape[-1]
            else:
                yield result * math.prod(program.constants[i.weights].shape[1:])


def _of_host(program: Program) -> Iterator[int]:
    for model in _host_models(program):
        graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
        shapes = {t.name: numpy_helper.to_array(t).shape for t in graph.initializer}
        for info in (*graph.input, *graph.value_info, *graph.output):
            shapes[info.name] = tuple(d.dim_value for d in info.type.tensor_type.shape.dim)
        for node in graph.node:
            if node.op_type in _HOST:
                left, right = (shapes[name] for name in node.input[:2])
                result = math.prod(shapes[node.output[0]])
                match node.op_type:
                    case "Conv":
                        yield result * math.prod(right[1:])
                    case "ConvTranspose":
                        yield math.prod(left) * math.prod(right[1:])
                    case _:
                        yield result * math.prod(left) // math.prod(shapes[node.output[0]][:-1])


def _host_models(program: Program) -> Iterator[onnx.ModelProto]:
    for section in program.sections:
        if isinstance(section, HostSection):
            yield onnx.load_from_string(bytes(program.constants[section.graph]))
