"""Threads that each run torch's operations alone. This file uses torch."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from spikeship.hw_models.errors import InputError


class Threads:
    """How many threads to run on.

    Args:
        count: how many; all cores this process may use by default.

    Raises:
        ValueError: less than one.
    """

    def __init__(self, count: int | None = None) -> None:
        if count is not None and count < 1:
            raise InputError(f"threads: {count} is not a number of threads; give at least 1")
        self.count = count or available_cores()

    @contextmanager
    def pool(self) -> Iterator[ThreadPoolExecutor]:
        """Threads in which torch uses no further ones; the caller's own setting stays.

        While they run, the caller's torch uses ``count`` threads.
        """
        before = torch.get_num_threads()
        with ThreadPoolExecutor(self.count, initializer=torch.set_num_threads, initargs=(1,)) as (
            pool
        ):
            torch.set_num_threads(self.count)
            try:
                yield pool
            finally:
                pool.shutdown(cancel_futures=True)
                torch.set_num_threads(before)


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
