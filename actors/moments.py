"""Moments of a live stream as files: NAME.world (models/snapshot.py), the same that a world in Python
reads and writes."""

from pathlib import Path

import numpy as np
import torch

from actors.records import LatentChunk
from actors.source import Moment, Take
from actors.timeline import Commit, Prompt, Route
from actors.vae import unpack
from configs.choice import WeightChoice
from configs.errors import UserError
from configs.geometry import FRAMES_PER_LATENT
from models.checkpoint import Checkpoint
from models.snapshot import REPLAY, Snapshot, read_snapshot


def save(
    commit: Commit, moment: Moment, take: Take, path: Path, weights: WeightChoice, engine: str
) -> None:
    """Write where ``commit`` stands, which must be the moment itself. Blocks. Raises UserError."""
    if commit.state is None or commit.index != moment.latent:
        raise UserError(
            f"save: latent {moment.latent} is not kept; expected one that is, such as {commit.index}"
        )
    checkpoint = Checkpoint.open(weights)
    _, height, width = (checkpoint.pixels_per_latent * n for n in commit.state.latents.shape[1:])
    latents = [latent for chunk in commit.history for latent in unpack(chunk)][-REPLAY:]
    whole = len(latents) == min(REPLAY, commit.index)
    memory = commit.memories[0] if commit.fits(1) else {}
    assert memory is not None
    snapshot = Snapshot(
        state=commit.state,
        settings=checkpoint.streaming,
        guidance=checkpoint.streaming.served_guidance,
        labels=take.labels,
        prompts=changes(take.prompts),
        frames=np.zeros((0, height, width, 3), np.uint8),
        memory={name: torch.from_numpy(array) for name, array in memory.items()},
        latents=tuple(latents) if whole else (),
    )
    snapshot.save(path, checkpoint, engine)


def load(path: Path, weights: WeightChoice) -> tuple[Moment, Take]:
    """Read what ``save``, or a world in Python, wrote with these weights. Blocks. Raises
    UserError."""
    snapshot, engine = read_snapshot(path, Checkpoint.open(weights))
    state = snapshot.state
    prompts = every(snapshot.prompts, snapshot.index)
    text = snapshot.prompts[-1][1]
    first = snapshot.index - len(snapshot.latents)
    commit = Commit(
        index=snapshot.index,
        seed=state.seed,
        prompt=Prompt(text, state.prompt_version, state.text.numpy()),
        state=state,
        memories=_memories(snapshot),
        history=tuple(
            LatentChunk(first + number, latent[None].numpy(), bfloat16=False)
            for number, latent in enumerate(snapshot.latents)
        ),
        frame=snapshot.index * FRAMES_PER_LATENT,
    )
    moment = Moment(snapshot.index, state.seed, text, Route(commit))
    return moment, Take(state.seed, snapshot.labels, prompts, engine)


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


def _memories(snapshot: Snapshot) -> tuple[dict[str, np.ndarray], ...]:
    if not snapshot.memory:
        return ()
    return ({name: tensor.float().numpy() for name, tensor in snapshot.memory.items()},)
