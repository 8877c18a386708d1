"""A user's program with every public name of the runtime, to be checked by mypy; it is not run."""

from pathlib import Path
from typing import Any, TextIO, assert_type

import numpy as np
import numpy.typing as npt

from furiosa import runtime
from furiosa.runtime import (
    Axis,
    DataType,
    FuriosaRuntimeError,
    FuriosaRuntimeWarning,
    Model,
    ModelSource,
    Receiver,
    Runner,
    Runtime,
    Stats,
    Submitter,
    Tensor,
    TensorArray,
    TensorDesc,
    create_queue,
    create_runner,
    sync,
)
from furiosa.runtime.bench import BenchConfig, BenchReport, BenchRunner, Workload
from furiosa.runtime.errors import DeviceBusy, SessionClosed, SessionTerminated
from furiosa.runtime.profiler import RecordFormat, Resource, profile

Outputs = list[npt.NDArray[Any]]
image: Tensor = np.zeros((1, 1, 28, 28), np.float32)
inputs: TensorArray = [image]
sources: list[ModelSource] = ["model.onnx", Path("model.onnx"), b"enf", bytearray(b"enf")]
config = {"permute_input": [[0, 3, 1, 2]]}


def describe(model: Model) -> None:
    assert_type(model.input_num, int)
    assert_type(model.inputs(), list[TensorDesc])
    desc = model.output(0)
    assert_type(desc, TensorDesc)
    assert_type(desc.shape, tuple[int, ...])
    assert_type(desc.dtype, DataType)
    assert_type(desc.axis(0), Axis)
    assert_type(model.summary(), str)


async def asynchronous() -> None:
    async with create_runner(
        sources[0], device="npu:0:0", wait=1.5, worker_num=2, batch_size=1, compiler_config=config
    ) as runner:
        assert_type(runner, Runner)
        assert_type(await runner.run(inputs), Outputs)
        assert_type(await runner.run(runner.allocate()), Outputs)
        assert_type(await runner.run_with(["logits"], {"image": image}), Outputs)
        assert_type(runner.stats(), Stats)
        describe(runner.model)
    assert_type(await (await create_runner(b"enf")).close(), bool)
    async with Runtime("warboy(2)*1", wait=60) as held:
        assert_type(held, Runtime)
        assert_type(held.devices, tuple[str, ...])
        assert_type(await held.create_runner(b"enf", worker_num=1), Runner)
        submitter, receiver = await held.create_queue(b"enf", input_queue_size=1)
    async with create_queue(b"enf", output_queue_size=8) as (submitter, receiver):
        assert_type(submitter, Submitter)
        assert_type(receiver, Receiver)
        await submitter.submit(inputs, context="it")
        assert_type(await receiver.recv(), tuple[Any, Outputs])
        async for context, outputs in receiver:
            assert_type((context, outputs), tuple[Any, Outputs])
        assert_type(await submitter.close(), bool)


def blocking() -> None:
    with sync.create_runner(sources[1], device=None, wait=None) as runner:
        assert_type(runner, sync.Runner)
        assert_type(runner.run(image), Outputs)
        assert_type(runner.run_with(["logits"], {"image": image}), Outputs)
        assert_type(runner.close(), bool)
    with sync.Runtime() as held:
        assert_type(held.create_runner(b"enf"), sync.Runner)
        with held.create_queue(b"enf") as (submitter, receiver):
            assert_type(submitter, sync.Submitter)
            submitter.submit(submitter.allocate(), 1)
            assert_type(receiver.recv(timeout=2.5), tuple[Any, Outputs])
            for _, outputs in receiver:
                assert_type(outputs, Outputs)


async def measured(file: TextIO) -> None:
    with profile(Resource.All, file=file) as profiler:
        with profiler.record("warm-up", warm_up=True):
            profiler.pause()
        profiler.resume()
        profiler.print_summary()
    with profile(format=RecordFormat.PandasDataFrame) as profiler:
        pass
    report = await BenchRunner(BenchConfig("model.onnx", queries=10), "L").run()
    assert_type(report, BenchReport)
    assert_type(report.workload, Workload)


def errors() -> None:
    try:
        blocking()
    except (DeviceBusy, SessionClosed, SessionTerminated) as error:
        known: FuriosaRuntimeError = error
        raise FuriosaRuntimeWarning(str(known)) from error
    assert_type(runtime.__full_version__, str)
    assert_type(runtime.full_version(), str)
    legacy: bool = runtime.is_legacy
    assert not legacy


async def mistakes() -> None:
    sync.create_runner(3)  # type: ignore[arg-type]
    create_runner(b"enf", worker_num="2")  # type: ignore[arg-type]
    (await create_runner(b"enf")).run("image")  # type: ignore[arg-type, unused-coroutine]
    sync.create_queue(b"enf").receiver.recv("1")  # type: ignore[arg-type]
    Runtime(wait="long")  # type: ignore[arg-type]
