"""The blocking twin of `furiosa.runtime`; a runner may be used by any number of threads."""

from furiosa.runtime._core.describe import Axis, DataType, Model, TensorDesc
from furiosa.runtime._core.errors import FuriosaRuntimeError, FuriosaRuntimeWarning
from furiosa.runtime._core.stats import Stats
from furiosa.runtime._core.validate import Tensor, TensorArray
from furiosa.runtime._source import ModelSource
from furiosa.runtime._sync.queue import Receiver, Submitter
from furiosa.runtime._sync.runner import Runner
from furiosa.runtime._sync.runtime import Runtime, create_queue, create_runner

__all__ = [
    "Axis",
    "DataType",
    "FuriosaRuntimeError",
    "FuriosaRuntimeWarning",
    "Model",
    "ModelSource",
    "Receiver",
    "Runner",
    "Runtime",
    "Stats",
    "Submitter",
    "Tensor",
    "TensorArray",
    "TensorDesc",
    "create_queue",
    "create_runner",
]
