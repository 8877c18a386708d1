"""Run a float model on sample data and watch its tensors."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from onnx import ModelProto, helper

from furiosa.optimizer.engine import onnxruntime
from furiosa.optimizer.graph import Array, Graph
from furiosa.quantizer.histogram import Extremes, Histogram
from furiosa.quantizer.prepare import prepare
from furiosa.quantizer.ranges import CalibrationMethod, Range, range_of

_Item = TypeVar("_Item")


class Calibrator:
    """Finds the range of each tensor that will be quantised.

    `model` is a ModelProto or the bytes of one, best the result of `optimize_model`; it is not
    changed. `percentage` is the share of values kept by the percentile methods, in percent.
    Memory does not grow with the data: two numbers a tensor for the min-max methods, else a histogram
    of 256 KiB.
    Raises: ValueError for a percentage outside (0, 100] or an unknown method; else as
    `optimize_model`.
    """

    def __init__(
        self,
        model: ModelProto | bytes,
        calibration_method: CalibrationMethod,
        *,
        percentage: float = 99.99,
    ) -> None:
        if not 0 < percentage <= 100:
            raise ValueError(f"percentage must be above 0 and at most 100, it is {percentage}")
        self._method = CalibrationMethod(calibration_method)
        self._percentage = percentage
        graph, self._plan = prepare(model)
        observer = Histogram if self._method.needs_histogram else Extremes
        self._observed: dict[str, Extremes] = {}  # by group; none where all ranges are natural
        self._watched: dict[str, Extremes] = {}  # by source
        for group, sources in self._plan.sources.items():
            for name in sources:
                if name not in self._plan.natural:
                    self._watched[name] = self._observed.setdefault(group, observer())
        self._inputs = [_Input.of(graph, value.name) for value in graph.inputs]
        self._fetched = [name for name in self._watched if not graph.is_input(name)]
        self._session = _session(graph.to_model(), self._fetched)
        self._samples = 0

    def collect_data(self, dataset: Iterable[Sequence[Array]]) -> None:
        """Run the model on every sample; call it as often as there is data.

        A sample holds one array for each input, in the model's order and of its shape and type.
        Samples are taken one at a time and not kept.
        Raises: ValueError naming the input that does not fit, or the tensor that became infinite or
        NaN; samples before the offending one count.
        """
        for sample in dataset:
            values = self._feed(sample)
            results = self._session.run(self._fetched, values) if self._fetched else []
            values |= zip(self._fetched, results, strict=True)
            for name, observed in self._watched.items():
                try:
                    observed.add(values[name])
                except ValueError as error:
                    raise ValueError(
                        f"tensor {name!r} of sample {self._samples}: {error}"
                    ) from error
            self._samples += 1

    def compute_range(self, verbose: bool = False) -> dict[str, Range]:
        """The (minimum, maximum) of each tensor to quantise, by name. Needs no further data.

        `verbose` draws a progress bar on stderr.
        Raises: RuntimeError before any data.
        """
        if not self._samples:
            raise RuntimeError("collect_data must be called before compute_range")
        groups = self._plan.sources
        ranges = {
            group: self._range_of(group)
            for group in (_with_bar(groups, len(groups)) if verbose else groups)
        }
        return {name: ranges[group] for name, group in self._plan.tensors.items()}

    def _range_of(self, group: str) -> Range:
        """What the method finds in the data, widened to the ranges that are known without."""
        natural = self._plan.natural
        known = [natural[name] for name in self._plan.sources[group] if name in natural]
        if group in self._observed:
            distribution = self._observed[group].distribution()
            known.append(range_of(distribution, self._method, self._percentage))
        low, high = min(low for low, _ in known), max(high for _, high in known)
        if self._method.is_symmetric and low < 0:
            return -max(-low, high), max(-low, high)
        return low, high

    def _feed(self, sample: Sequence[Array]) -> dict[str, Array]:
        if len(sample) != len(self._inputs):
            names = ", ".join(repr(i.name) for i in self._inputs)
            raise ValueError(
                f"sample {self._samples} has {len(sample)} arrays, the model has "
                f"{len(self._inputs)} inputs: {names}"
            )
        for given, expected in zip(sample, self._inputs, strict=True):
            if (found := _describe(given)) != str(expected):
                raise ValueError(
                    f"sample {self._samples}: input {expected.name!r} must be {expected}, "
                    f"it is {found}"
                )
        return {i.name: array for i, array in zip(self._inputs, sample, strict=True)}


@dataclass(frozen=True, slots=True)
class _Input:
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @classmethod
    def of(cls, graph: Graph, name: str) -> "_Input":
        shape = graph.shape(name)
        assert shape is not None  # an optimised model's inputs are static
        return cls(name, helper.tensor_dtype_to_np_dtype(graph.element_type(name)), shape)

    def __str__(self) -> str:
        return f"{self.dtype}{list(self.shape)}"


def _describe(value: object) -> str:
    """As `_Input` prints, e.g. float32[1, 3, 224, 224]; the type's name for what is no array."""
    if not isinstance(value, np.ndarray):
        return type(value).__name__
    return f"{value.dtype}{list(value.shape)}"


def _session(model: ModelProto, fetched: Sequence[str]) -> onnxruntime.InferenceSession:
    """Of the model with `fetched` as outputs, too."""
    present = {o.name for o in model.graph.output}
    types = {value.name: value for value in model.graph.value_info}
    model.graph.output.extend(
        types.get(name, helper.make_empty_tensor_value_info(name))
        for name in fetched
        if name not in present
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors: warnings concern the graph, not the caller's data
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


_BAR_WIDTH: Final = 30


def _with_bar(items: Iterable[_Item], total: int) -> Iterator[_Item]:
    """The items, with a bar on stderr that shows how many are done."""
    for done, item in enumerate(items):
        _draw(done, total)
        yield item
    _draw(total, total)
    sys.stderr.write("\n")


def _draw(done: int, total: int) -> None:
    filled = _BAR_WIDTH * done // max(total, 1)
    bar = "#" * filled + "." * (_BAR_WIDTH - filled)
    sys.stderr.write(f"\rcompute_range [{bar}] {done}/{total}")
    sys.stderr.flush()
