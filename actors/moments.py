"""Moments of a live stream as files: NAME.world (models/snapshot.py), the same that a world in Python
reads and writes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from actors.dit import pack
from actors.records import LatentChunk
from actors.source import Moment, Take
from actors.timeline import Commit, Prompt, Route
from actors.vae import unpack
from configs.errors import UserError
from configs.geometry import FRAMES_PER_LATENT, LATENTS_PER_SECOND
from models.checkpoint import Checkpoint
from models.snapshot import REPLAY, Snapshot, read_snapshot

LONGEST: Final = 24 * 3600 * LATENTS_PER_SECOND  # latents of a drive that is opened


def save(
    commit: Commit, moment: Moment, take: Take, path: Path, checkpoint: Checkpoint, engine: str
) -> None:
    """Write where ``commit`` stands, which must be the moment itself. Blocks. Raises UserError."""
    assert commit.index == moment.latent
    snapshot = snapshot_of(commit, take.labels, changes(take.prompts), checkpoint)
    snapshot.save(path, checkpoint, engine)


def load(path: Path, checkpoint: Checkpoint) -> tuple[Moment, Take]:
    """Read what ``save``, or a world in Python, wrote with these weights. Blocks. Raises UserError
    for one that the workers could not go on from."""
    snapshot, engine = read_snapshot(path, checkpoint)
    try:
        check_served(snapshot, checkpoint)
    except UserError as error:
        raise UserError(f"snapshot {path}: {error}") from None
    commit, prompts = commit_of(snapshot), every(snapshot.prompts, snapshot.index)
    moment = Moment(snapshot.index, commit.seed, commit.prompt.text, Route(commit))
    return moment, Take(commit.seed, snapshot.labels, prompts, engine)


def check_served(snapshot: Snapshot, checkpoint: Checkpoint) -> None:
    """Raise UserError unless workers that serve these weights can go on from it: a worker that
    cannot would be mended again and again, and every world with it."""
    served = checkpoint.streaming
    if (snapshot.settings, snapshot.guidance) != (served, served.served_guidance):
        raise UserError("its settings or its guidance are not those that are served here")
    config = checkpoint.transformer_config
    size, wanted = (
        tuple(snapshot.state.latents.shape[2:]),
        (config.sample_height, config.sample_width),
    )
    if size != wanted:
        raise UserError(f"latents of {size}: expected {wanted}, the size that is served here")
    if snapshot.index > LONGEST:
        hours = LONGEST // (3600 * LATENTS_PER_SECOND)
        raise UserError(f"a drive of {snapshot.index} latents: expected at most {hours} hours")
    numbers = (snapshot.state.latents, snapshot.state.text, *snapshot.latents)
    if not all(bool(torch.isfinite(each).all()) for each in numbers):
        raise UserError("it holds numbers that are none (NaN or infinite)")
    check_whole(snapshot)


def check_whole(snapshot: Snapshot) -> None:
    """Raise UserError unless the latents are in it from which workers make the decoder's memory
    again: any number of them can, whatever share of the width each has."""
    if len(snapshot.latents) != min(REPLAY, snapshot.index):
        raise UserError("the latents before it are missing, which rebuild the decoder's memory")


def snapshot_of(
    commit: Commit,
    labels: Sequence[str],
    prompts: Sequence[tuple[int, str]],
    checkpoint: Checkpoint,
) -> Snapshot:
    """A commit with a state as a snapshot. labels: of all latents before it; prompts: (latent,
    text) wherever they change."""
    assert commit.state is not None, "latent 0 needs no snapshot"
    _, height, width = (checkpoint.pixels_per_latent * n for n in commit.state.latents.shape[1:])
    latents = [latent for chunk in commit.history for latent in unpack(chunk)][-REPLAY:]
    assert len(latents) == min(REPLAY, commit.index)
    return Snapshot(
        state=commit.state,
        settings=checkpoint.streaming,
        guidance=checkpoint.streaming.served_guidance,
        labels=tuple(labels),
        prompts=tuple(prompts),
        frames=np.zeros((0, height, width, 3), np.uint8),
        memory={},
        latents=tuple(latents),
    )


def commit_of(snapshot: Snapshot) -> Commit:
    """Where a snapshot stands, which must be whole (`check_whole`)."""
    check_whole(snapshot)
    state = snapshot.state
    first = snapshot.index - len(snapshot.latents)
    return Commit(
        index=snapshot.index,
        seed=state.seed,
        prompt=Prompt(snapshot.prompts[-1][1], state.prompt_version, state.text.float().numpy()),
        state=state,
        history=tuple(
            LatentChunk(first + number, *pack(latent[None]))
            for number, latent in enumerate(snapshot.latents)
        ),
        frame=snapshot.index * FRAMES_PER_LATENT,
    )


def changes(prompts: tuple[str, ...]) -> tuple[tuple[int, str], ...]:
    """(latent, text) wherever the prompt in force changes, from one prompt a latent."""
    return tuple(
        (latent, text)
        for latent, text in enumerate(prompts)
        if not latent or text != prompts[latent - 1]
    )


def every(changes: tuple[tuple[int, str], ...], latents: int) -> tuple[str, ...]:
    """One prompt a latent, from where it changes."""
    ends = [latent for latent, _ in changes[1:]] + [latents]
    return tuple(
        text for (begin, text), end in zip(changes, ends, strict=True) for _ in range(begin, end)
    )
