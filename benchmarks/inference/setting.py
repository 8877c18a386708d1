"""What every figure needs: a broker, compiled networks, images, and which CPU is whose."""

import contextlib
import os
from collections.abc import Iterator
from functools import cache

import numpy as np
import numpy.typing as npt

from benchmarks import broker, networks
from furiosa.common.tensor import TensorSpec
from furiosa.compiler import CompilerOptions, compile
from furiosa.enf import read

PE = "npu:0:0"
FUSED = "npu:1"  # of another card, so that both can be leased at once
NETWORKS = {
    "resnet50": networks.resnet50,
    "mobilenet_v2": networks.mobilenet_v2,
    "resnet8": networks.resnet8,
    "mnistnet": networks.mnistnet,
}

_CPUS = sorted(os.sched_getaffinity(0))
ALL_CPUS = frozenset(_CPUS)
PE_CPU = frozenset(_CPUS[:1])  # the broker gives its CPUs to PEs in order
PES_CPUS = frozenset(_CPUS[:2])
OTHER_CPUS = frozenset(_CPUS[1:2] or _CPUS)  # than that of the first PE; the second is idle then
CLIENT_CPUS = frozenset(_CPUS[2:] or _CPUS)  # while both PEs work

Array = npt.NDArray[np.generic]


@contextlib.contextmanager
def serving(*settings: str, cpus: frozenset[int] = PES_CPUS) -> Iterator[broker.Broker]:
    """A broker with two cards and these CPUs; with two of them npu0 has the same ones as npu1."""
    with contextlib.ExitStack() as opened:
        with on(cpus):
            made = opened.enter_context(broker.running(2, ("--embedded",), *settings))
        yield made


@contextlib.contextmanager
def on(cpus: frozenset[int]) -> Iterator[None]:
    """This thread, and what it starts, runs there meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@cache
def network(name: str) -> bytes:
    return NETWORKS[name]()


@cache
def program(name: str, target: str = "warboy") -> bytes:
    return compile(network(name), CompilerOptions(target=target))


def inputs(model: bytes) -> list[Array]:
    """Random ones for an ENF."""
    return [_random(spec) for spec in read(model).input_specs]


def _random(spec: TensorSpec) -> Array:
    rng, dtype = np.random.default_rng(0), spec.dtype.numpy
    if dtype.kind == "f":
        return rng.normal(size=spec.shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, spec.shape, endpoint=True).astype(dtype)
