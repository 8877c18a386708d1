"""Run models on NPUs: leases devices, loads a model, runs inferences. `sync` is the blocking twin.

Source: runtime reference 1.
"""

import os
from typing import TYPE_CHECKING, Final

from furiosa.common.on_use import on_use
from furiosa.runtime import _setup
from furiosa.runtime._core.describe import Axis, DataType, Model, TensorDesc
from furiosa.runtime._core.errors import FuriosaRuntimeError, FuriosaRuntimeWarning
from furiosa.runtime._core.stats import Stats
from furiosa.runtime._core.validate import Tensor, TensorArray
from furiosa.runtime._source import ModelSource
from furiosa.runtime._version import VERSION, full_version

if TYPE_CHECKING:
    from furiosa.runtime._async.queue import Receiver, Submitter
    from furiosa.runtime._async.runner import Runner
    from furiosa.runtime._async.runtime import Runtime, create_queue, create_runner
else:  # the blocking twin must not pay for an event loop's library
    __getattr__, __dir__ = on_use(
        __name__,
        {
            "Receiver": "_async.queue",
            "Runner": "_async.runner",
            "Runtime": "_async.runtime",
            "Submitter": "_async.queue",
            "create_queue": "_async.runtime",
            "create_runner": "_async.runtime",
        },
    )

__version__ = VERSION
__full_version__ = full_version()
is_legacy: Final = False
_setup.obey(os.environ)

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
    "__full_version__",
    "__version__",
    "create_queue",
    "create_runner",
    "full_version",
    "is_legacy",
]
