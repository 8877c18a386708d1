"""What workers are told of the broker's settings."""

import dataclasses
from typing import Final

from furiosa.broker.settings import BrokerSettings
from furiosa.broker.workers import cgroup
from furiosa.broker.workers.pool import WorkerSettings

ANSWER_SECONDS: Final = 5.0  # for a worker that is not in the middle of a run


def worker_settings(settings: BrokerSettings) -> WorkerSettings:
    made = WorkerSettings(
        user=settings.worker_user,
        load_timeout=settings.load_timeout,
        run_timeout=settings.run_timeout,
        request_timeout=settings.run_timeout + ANSWER_SECONDS,  # it may come in the middle of a run
        max_enf_bytes=settings.max_program_bytes,
        cgroup=str(cgroup.delegated() or ""),
    )
    if settings.worker_memory_bytes:
        made = dataclasses.replace(made, memory_bytes=settings.worker_memory_bytes)
    return made
