"""A live run put together: settings checked, then a session, a show and its files."""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from actors.fleet import Fleet
from actors.gang import peak_memory_of
from actors.head import check_machine
from actors.layout import Layout, visible_gpus
from actors.session import Session
from actors.source import ChunkSource, Take, WorldInfo
from actors.tasks import Tasks
from configs.choice import WeightChoice
from configs.errors import UserError
from configs.limits import check_output_folder
from configs.schema import RunConfig
from models.attention import check_degree
from models.checkpoint import Checkpoint
from models.controls import parse_signal
from models.device import threads
from models.engines.choose import Choice, choose_engine
from models.offline import clip_latents
from models.parts import Parts
from models.weight_folder import model_folder
from pipeline.broadcast import Broadcast
from pipeline.console import Console
from pipeline.host import Continuation
from pipeline.hosting import Hosting
from pipeline.keeping.keeping import Keeping, note_recordings
from pipeline.logs import logged
from pipeline.run_files import RunFiles
from pipeline.stage.control_log import read_control_log
from pipeline.stage.show import Show
from pipeline.stage.takes import followed_by, logged_engine, other_engine
from pipeline.video import read_start
from pipeline.worlds import FIRST, Worlds

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Launch:
    """All that a live run needs to know, checked: nothing has been started or written yet."""

    config: RunConfig
    info: WorldInfo
    weights: WeightChoice
    layout: Layout
    prompt: str
    seed: int
    takes: tuple[Take, ...]
    files: RunFiles
    keeping: Keeping
    continuation: Continuation | None  # of a drive that goes on
    engine: Choice
    notes: tuple[str, ...]  # what was chosen where nothing was named, and what to mind

    @staticmethod
    def make(config: RunConfig, tell: Callable[[str], None] = lambda line: None) -> "Launch":
        """Check all that a person can get wrong: UserError. ``tell`` hears what takes long."""
        files = RunFiles.checked(config)
        if config.keep_logs is not None:
            check_output_folder(config.keep_logs, "--keep-logs")
        labels = parse_signal(config.controls) if config.controls is not None else []
        weights, checkpoint, note = wanted_weights(config)
        layout = wanted_layout(config, checkpoint)
        if config.ray_address is None:
            check_machine()
        info = describe(checkpoint, layout)
        keeping = Keeping.of(config, checkpoint)
        continuation = keeping.held.continuation(files.record) if keeping.held else None
        prompt = config.prompt or checkpoint.default_prompt
        takes, seed = first_takes(config, info, continuation), config.seed
        if takes:
            prompt, seed = takes[0].prompts[takes[0].first], takes[0].seed
        engine = wanted_engine(config, checkpoint, layout, takes, tell)
        weights, info = replace(weights, engine=engine.name), replace(info, engine=engine.name)
        notes = (note, *checkpoint.notes, engine.of(layout.dit), other_engine(takes, engine.name))
        if labels:
            takes = (
                *takes[:-1],
                followed_by(takes[-1] if takes else Take(seed, (), ()), labels, prompt),
            )
        return Launch(
            config=config,
            info=info,
            weights=weights,
            layout=layout,
            prompt=prompt,
            seed=seed,
            takes=takes,
            files=files.recording(continuation.recording if continuation else None),
            keeping=keeping,
            continuation=continuation,
            engine=engine,
            notes=notes,
        )

    async def run(self, console: Console, begun: float) -> int:
        """Play it; the exit code. ``begun`` is when the command started."""
        with logged(self.config.log_level, self.config.keep_logs, console):
            logger.info("settings: %s", replace(self.config, token=None))
            return await self._run(console, begun)

    async def _run(self, console: Console, begun: float) -> int:
        fleet = self.fleet()
        worlds = self.worlds(fleet)
        try:
            return await self._play(worlds, fleet, console, begun)
        finally:
            await worlds.own.show.source.close()  # also where it never came to be shown

    async def _play(self, worlds: Worlds, fleet: Fleet, console: Console, begun: float) -> int:
        beside = Tasks()
        worlds.opened.append(lambda world: beside.start(note_recordings(world.show)))
        broadcast = Broadcast(worlds, self.config, self.files, console)
        self._introduce(console)
        going_on = Tasks()
        going_on.start(self._others_go_on(worlds, console))
        code = 1
        try:
            code = await broadcast.run()
        finally:
            await going_on.cancel()  # it would begin another world on workers that are gone
            await fleet.close()
            if worlds.own.show.figures.frames:
                text = json.dumps(told(worlds, fleet, begun), indent=2) + "\n"
                code = broadcast.write_summary(text) or code
            broadcast.name_files()
        return code

    def fleet(self) -> Fleet:
        """The workers, not yet started."""
        config = self.config
        return Fleet(self.info, self.weights, self.layout, config.ray_address, config.keep_logs)

    def session(self, fleet: Fleet) -> Session:
        """A world on the workers, not yet begun."""
        return Session(fleet)

    def worlds(self, fleet: Fleet) -> Worlds:
        """The first world and, where there is a page to ask for them, others on the same workers."""

        config = self.config
        hosting = Hosting(fleet, self.keeping, Checkpoint.open(self.weights))
        return Worlds(
            self.show(self.kept(self.session(fleet))),
            None if config.headless else hosting,
            continuation=self.continuation,
            most=config.worlds,
            rest=config.rests_after,
        )

    def kept(self, session: Session) -> ChunkSource:
        """The first world's session with its journal, unless nothing is kept."""
        keeping = self.keeping
        return keeping.session(session, Checkpoint.open(self.weights), FIRST, keeping.held)

    def show(self, session: ChunkSource, **settings: Any) -> Show:
        """The show of a session. Without a viewer and a duration, a script's end is the show's
        end."""
        alone = self.config.headless and self.config.duration is None
        return Show(
            session,
            seed=self.seed,
            prompt=self.prompt,
            takes=self.takes,
            stop_after_takes=alone and bool(self.takes),
            duration=self.config.duration,
            anew=not self.config.headless and self.continuation is None,
            **settings,
        )

    async def _others_go_on(self, worlds: Worlds, console: Console) -> None:
        """The drives of the launcher that died go on beside the first one."""
        await worlds.go_on(self.keeping.others, lambda line: console.say("journal", line))

    def _introduce(self, console: Console) -> None:
        for note in filter(None, self.notes):
            console.say("choice", note)
        for note in self.keeping.notes:
            console.say("journal", note)
        info, model = self.info, self.info.model_hash[:12]
        size = f"{info.width}x{info.height}"
        console.say("model", f"model {info.name} ({model}), {size}, seed {self.seed}")
        console.say("devices", f"devices: {self.layout}")


def wanted_weights(config: RunConfig) -> tuple[WeightChoice, Checkpoint, str]:
    """The weights, opened, with the start of one's own if there is one; and a line that says which
    they are, where none were named. Raises UserError."""
    folder, note = model_folder(config.model_path)
    weights = config.choice(folder)
    checkpoint = Checkpoint.open(weights)
    if config.start is None:
        return weights, checkpoint, note
    start = encoded_start(config.start, checkpoint)
    return (
        replace(weights, start=start),
        replace(checkpoint, start=torch.from_numpy(start)),
        note,
    )


def wanted_engine(
    config: RunConfig,
    checkpoint: Checkpoint,
    layout: Layout,
    takes: Sequence[Take],
    tell: Callable[[str], None],
) -> Choice:
    """The engine that is asked for, that made the takes, or that is the fastest here. Raises UserError."""
    device = torch.device("cuda" if layout.gpus else "cpu")
    if config.engine is None and (logged := logged_engine(takes)):
        return choose_engine(checkpoint, device, logged, tell, "which made this drive")
    return choose_engine(checkpoint, device, config.engine, tell)


def describe(checkpoint: Checkpoint, layout: Layout) -> WorldInfo:
    """What the weights show, before an engine is chosen."""
    return WorldInfo(
        name=checkpoint.name,
        model_hash=checkpoint.stream_hash,
        height=checkpoint.height,
        width=checkpoint.width,
        presets=tuple(checkpoint.presets),
        pictures=checkpoint.preset_pictures(),
        latents_per_step=checkpoint.streaming.window_size,
        devices=str(layout),
        moments=True,
        own_start=checkpoint.start is not None,
    )


def encoded_start(file: Path, checkpoint: Checkpoint) -> npt.NDArray[np.float32]:
    """Scaled latents of a picture or a video, as the API makes them of it. Raises UserError."""
    size = checkpoint.height, checkpoint.width
    frames = read_start(file, size, checkpoint.streaming.latents)
    with threads(1):
        latents = clip_latents(Parts(checkpoint, torch.device("cpu")), frames)
    return latents.float().numpy()


def first_takes(
    config: RunConfig, info: WorldInfo, continuation: Continuation | None
) -> tuple[Take, ...]:
    """Drives to follow first: one that goes on, or those of a control log. Raises UserError."""
    if continuation is not None:
        return (continuation.take,)
    return () if config.replay is None else tuple(read_control_log(config.replay, info))


def wanted_layout(config: RunConfig, checkpoint: Checkpoint) -> Layout:
    """Who works where. Raises UserError when there are too few devices, or too many workers for
    these weights."""
    layout = Layout.plan(
        config.num_gpus_dit,
        config.num_gpus_vae,
        visible_gpus(config.visible_devices),
        config.replicas,
    )
    check_layout(checkpoint, layout)
    return layout


def check_layout(checkpoint: Checkpoint, layout: Layout) -> None:
    """Raise UserError when these weights cannot be shared by that many workers."""
    config = checkpoint.transformer_config
    tokens = (config.sample_height // config.patch_size) * (
        config.sample_width // config.patch_size
    )
    check_degree(layout.dit, config.num_attention_heads, tokens)
    columns = config.sample_width
    if layout.vae > columns:
        raise UserError(
            f"NUM_GPUS_VAE={layout.vae}: the picture has {columns} latent columns; ask for at most {columns}"
        )


def told(worlds: Worlds, fleet: Fleet, begun: float) -> Mapping[str, Any]:
    """The summary of the first world, and where there were others, a record of each."""
    records = worlds.records()
    others = {"worlds": records} if len(records) > 1 else {}
    return {**summary(worlds.own.show, fleet, begun), **worlds.own.continued, **others}


def summary(show: Show, fleet: Fleet, begun: float) -> Mapping[str, Any]:
    """The record that ``--summary`` writes."""
    memory = {"launcher": peak_memory_of(os.getpid()), **fleet.groups.peak_memory}
    return {**show.figures.summary(begun, show.drops, memory), "engine": show.info.engine}
