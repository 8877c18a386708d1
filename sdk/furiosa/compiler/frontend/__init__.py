"""From foreign model formats to dfg. The only place in the compiler that imports onnx and tflite."""

from typing import ClassVar, Final

from furiosa.compiler.dfg.ir import Dfg
from furiosa.compiler.infra import Lowering
from furiosa.compiler.options import CompilerOptions

_TFLITE: Final = b"TFL3"  # file identifier, at bytes 4 to 8. Source: schema.fbs of TensorFlow Lite


def is_tflite(data: bytes) -> bool:
    return data[4:8] == _TFLITE


class ImportTflite(Lowering[bytes, Dfg]):
    """The tflite package is imported here and not before: importing the compiler need not pay for it."""

    name: ClassVar[str] = "import-tflite"

    def run(self, graph: bytes, options: CompilerOptions) -> Dfg:
        from furiosa.compiler.frontend.tflite.importer import import_tflite

        return import_tflite(graph, options)
