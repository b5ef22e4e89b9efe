"""Runs a training stage in this process, or in several that share every step's work."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import tempfile
from multiprocessing.connection import Connection, wait
from pathlib import Path

from configs.errors import UserError
from models.device import use_threads
from models.parallel import SINGLE, SequenceGroup
from training import autoencoder, decoder, diffusion, distill
from training.settings import TrainSettings

STAGES = {
    "autoencoder": autoencoder.train,
    "diffusion": diffusion.train,
    "distill": distill.train,
    "decoder": decoder.train,
}
TIMEOUT_SECONDS = 1800.0  # a rank may wait long for another's data


def train(stage: str, settings: TrainSettings, minutes: float | None) -> bool:
    """One stage, resumed; True when it is done, False when the minutes were over."""
    if settings.ranks == 1:
        use_threads(settings.threads)
        return STAGES[stage](settings, SINGLE, minutes)
    if stage in ("diffusion", "distill"):
        diffusion.prepare(settings)  # once, not once per rank
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an ordered exit takes the ranks along
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        address = (Path(folder) / "ranks").as_uri()
        ends: list[Connection] = []
        workers = []
        for rank in range(settings.ranks):
            ours, theirs = context.Pipe(duplex=False)
            worker = context.Process(
                target=_rank, args=(rank, stage, settings, address, minutes, theirs), daemon=True
            )
            worker.start()
            theirs.close()
            ends.append(ours)
            workers.append(worker)
        wait([worker.sentinel for worker in workers])  # the first to end, well or not, decides
        for worker in workers:
            worker.join(timeout=60 if all(w.exitcode in (0, None) for w in workers) else 1)
            if worker.is_alive():
                worker.terminate()
        if any(worker.exitcode for worker in workers):
            raise UserError(
                f"{stage}: a rank failed (see above); what was saved is kept, repeat the command"
            )
        return bool(ends[0].recv())


def _rank(
    rank: int,
    stage: str,
    settings: TrainSettings,
    address: str,
    minutes: float | None,
    done: Connection,
) -> None:
    use_threads(settings.threads)
    group = SequenceGroup.join(
        rank, settings.ranks, init_method=address, timeout_seconds=TIMEOUT_SECONDS
    )
    try:
        done.send(STAGES[stage](settings, group, minutes))
    except UserError as error:
        if rank == 0:
            print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:  # a full disk, say, which only the rank that writes meets
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    finally:
        group.close()
