"""How long inferences of a model take, and how many a second there are.

    report = await BenchRunner(BenchConfig("model.onnx", queries=1000), "L").run()

Source: command-line reference 5, whose options are the fields of a BenchConfig.
"""

from furiosa.runtime.bench.config import BenchConfig, Workload
from furiosa.runtime.bench.histogram import Histogram
from furiosa.runtime.bench.report import BenchReport
from furiosa.runtime.bench.runner import BenchRunner, Stage
from furiosa.runtime.bench.timeline import Slot, Timeline

__all__ = [
    "BenchConfig",
    "BenchReport",
    "BenchRunner",
    "Histogram",
    "Slot",
    "Stage",
    "Timeline",
    "Workload",
]
