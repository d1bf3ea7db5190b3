"""Work shared among Ray workers, on this machine or over many: each piece counts once.

A worker that dies takes nothing with it: Ray gives its piece to another. Results are kept by the
piece's own key, so a piece that was done twice is counted once, and they come back in the order
of their keys, whoever did what when.
"""

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

from spikeship.deploy.errors import DeployError
from spikeship.deploy.run import ray_session
from spikeship.hw_models.errors import reason
from spikeship.hw_models.simulator.cpu.threads import available_cores

Shared = TypeVar("Shared")
Piece = TypeVar("Piece")
Result = TypeVar("Result")

RETRIES = 3  # of a piece whose worker died
AHEAD = 2  # pieces handed out per worker, so that none waits for its next
CONNECT_S = 10.0


class ClusterError(DeployError):
    """Workers that cannot be had or do not come back: which, why, and what to do."""


@dataclass(frozen=True)
class Crew:
    """Workers that wait for work.

    Attributes:
        workers: pieces in work at once.
        threads: of each.
        beside: workers that share one machine's memory.
        cpus: what Ray sets aside for a piece.
    """

    workers: int
    threads: int
    beside: int
    cpus: int

    def each_once(
        self,
        work: Callable[[Shared, Piece], Result],
        shared: Shared,
        pieces: Iterable[tuple[int, Piece]],
        done: Callable[[Result], None],
    ) -> list[Result]:
        """Do every piece on some worker.

        Args:
            work: what to do with a piece. It may be done twice, so it must do nothing but compute.
            shared: what every piece needs; sent once.
            pieces: each with its key, the place of its first image; made when they are needed.
            done: is given every result once.

        Returns:
            Results in the order of their keys.

        Raises:
            ClusterError: a piece ended every worker that got it, or the cluster went away.
            Exception: what ``work`` raised.
        """
        import ray

        task = ray.remote(num_cpus=self.cpus, max_retries=RETRIES)(work)
        handed = ray.put(shared)
        results: dict[int, Result] = {}
        running: dict[Any, int] = {}
        ahead = iter(pieces)
        while True:
            while len(running) < AHEAD * self.workers and (piece := next(ahead, None)) is not None:
                running[task.remote(handed, piece[1])] = piece[0]
            if not running:
                return [results[key] for key in sorted(results)]
            (ready, *_), _ = ray.wait(list(running))
            key = running.pop(ready)
            result = _result(ready, key)
            if key not in results:
                results[key] = result
                done(result)


@contextmanager
def crew(workers: int | None, address: str | None, threads: int | None) -> Iterator[Crew]:
    """Start Ray on this machine, or join a cluster; leave nothing running here afterwards.

    Where the program has already called ``ray.init``, that cluster is used, and left as it is.

    Args:
        workers: how many; by default one for each machine of a cluster.
        address: ``HOST:PORT`` of a cluster; None for this machine.
        threads: of each worker; by default the cores shared among them.

    Raises:
        ClusterError: Ray is not installed, no cluster answers, or it has no such machine.
    """
    with ray_session.unreported():
        try:
            import ray
        except ImportError as error:
            raise ClusterError(
                "workers: Ray is not installed; run pip install 'spikeship[cluster]'"
            ) from error
        if not ray.is_initialized():
            at = _own(workers, threads) if address is None else _at(address, workers, threads)
            with at as made:
                yield made
            return
        if address is not None:
            raise ClusterError(
                f"workers: this program works on a Ray cluster already, not on {address}; leave "
                "out the address, or call ray.shutdown() before"
            )
        yield _joined(workers, threads)


@contextmanager
def _own(workers: int | None, threads: int | None) -> Iterator[Crew]:
    """Workers of a Ray that nobody but this process uses."""
    cores = available_cores()
    count = workers or cores
    options = {
        "num_cpus": count,
        "include_dashboard": False,
        # by default Ray runs what memory is too small for again and again
        "_system_config": {"task_oom_retries": RETRIES},
    }
    with (
        ray_session.folder() as folder,
        ray_session.closed(),
        _started("local", _temp_dir=str(folder), **options),
    ):
        if fault := ray_session.open_door():
            raise ClusterError(
                f"workers: Ray would take calls {fault}; install another version of it, as in "
                "constraints.txt, or give the --address of a cluster"
            )
        yield Crew(count, threads or max(1, cores // count), beside=count, cpus=1)


@contextmanager
def _at(address: str, workers: int | None, threads: int | None) -> Iterator[Crew]:
    """Workers of a cluster that others have started."""
    _find(address)
    with _started(address):
        yield _joined(workers, threads)


@contextmanager
def _started(address: str, **options: Any) -> Iterator[None]:
    import ray

    with ray_session.termination_kept():
        try:
            with nullcontext() if address == "local" else _silence():
                _start(address, **options)
            ray_session.restore()
            yield
        finally:
            ray.shutdown()


def _find(address: str) -> None:
    """Look whether anyone listens there: Ray itself would try for a minute, and aloud."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()
    except (OSError, ValueError, OverflowError) as error:
        raise _no_cluster(address, error) from error


@contextmanager
def _silence() -> Iterator[None]:
    """Send this process's stderr nowhere: Ray's own threads write there past Python."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _start(address: str, **options: Any) -> None:
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> ClusterError:
    return ClusterError(
        f"workers: Ray does not start at {address} ({reason(error)}); --address takes the "
        "HOST:PORT of a cluster's head, and without it the workers run on this machine"
    )


def _joined(workers: int | None, threads: int | None) -> Crew:
    """Workers of the cluster that this process has joined."""
    import ray

    machines = [
        int(node["Resources"].get("CPU", 0))
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"] and node["Resources"].get("CPU", 0) >= 1
    ]
    if not machines or (threads or 1) > max(machines):
        largest = max(machines, default=0)
        raise ClusterError(
            f"workers: the cluster's largest machine has {largest} CPUs, {threads or 1} are asked "
            "for; give fewer --threads"
        )
    count = workers or len(machines)
    threads = threads or max(1, min(sum(machines) // count, min(machines)))
    return Crew(count, threads, beside=1, cpus=threads)


def _result(reference: Any, key: int) -> Any:
    """What a piece came to.

    Raises:
        ClusterError: its workers died. Exception: what its work raised.
    """
    import ray
    from ray import exceptions

    try:
        return ray.get(reference)
    except exceptions.RayTaskError as error:
        raise error.cause from None
    except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError) as error:
        raise ClusterError(
            f"workers: the images from {key} on ended {RETRIES + 1} workers, most often for want "
            "of memory; use fewer --workers or a smaller --memory"
        ) from error
    except exceptions.RayError as error:
        raise ClusterError(
            f"workers: the cluster was lost ({reason(error)}); run it again"
        ) from error
