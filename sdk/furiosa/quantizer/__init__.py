"""Post-training static quantization of ONNX models to int8."""

from furiosa.quantizer._version import FULL_VERSION, VERSION
from furiosa.quantizer.calibrate import Calibrator
from furiosa.quantizer.editor import ModelEditor, TensorType
from furiosa.quantizer.names import get_output_names, get_pure_input_names
from furiosa.quantizer.quantize import quantize
from furiosa.quantizer.ranges import CalibrationMethod

__version__ = VERSION
__full_version__ = FULL_VERSION

__all__ = [
    "CalibrationMethod",
    "Calibrator",
    "ModelEditor",
    "TensorType",
    "__full_version__",
    "__version__",
    "get_output_names",
    "get_pure_input_names",
    "quantize",
]
