"""Videos as the stage scripts make them: a base clip (stage 2), a stream that continues one (stages 3
and 4)."""

import json

import numpy as np

from configs.errors import UserError
from configs.files import found_at
from configs.geometry import FRAMES_PER_LATENT, frames_of, latents_of
from configs.schema import BaseConfig, OfflineConfig, StreamConfig, StreamSettings
from models.checkpoint import Checkpoint
from models.device import pick_device
from models.engines.choose import with_engine
from models.frames import resample
from models.offline import (
    VideoRequest,
    clip_frames,
    clip_latents,
    fill_signal,
    make_base,
    make_stream,
    signal_length,
)
from models.parts import Parts
from models.progress import ProgressBar
from models.saving import save_tensors
from models.weight_folder import model_folder
from pipeline.video import VideoWriter, read_start, read_video


def write_base(config: BaseConfig, labels: list[str]) -> None:
    """Write a base video (and its latents as a start clip) and say what was made. labels: one per
    latent; continued at random. Raises UserError before anything loads."""
    parts = Parts(open_checkpoint(config, "stage2"), pick_device(config.device), config.dtype)
    count = latents_of(config.frames)
    say_length(labels, count)
    request = _request(config, fill_signal(labels, count, config.control_seed))
    with ProgressBar("base video", "step") as bar:
        latents = make_base(parts, request, config.frames, config.steps, bar.report)
    # an even number of latents decodes to three frames more, all of the first one
    frames = clip_frames(parts, latents)[-config.frames :]
    height, width = frames.shape[1:3]
    with VideoWriter(
        config.output, width, height, config.fps, overwrite=config.overwrite
    ) as writer:
        writer.write(frames)
    if config.start_clip is not None:
        prompts = {"prompts": json.dumps([config.prompt])}
        save_tensors(config.start_clip, {"clip.0": latents.float()}, prompts)
        print(config.start_clip)
    print(f"{config.output}: {len(frames)} frames of {width}x{height}")


def write_stream(config: StreamConfig, labels: list[str]) -> None:
    """Write a stream as it is decoded and say what was made. labels: one per latent; continued at
    random. Raises UserError before anything loads."""
    checkpoint = open_checkpoint(config, f"stage{config.stage}")
    settings = config.streaming(checkpoint.streaming)
    check_start(config, checkpoint)
    device = pick_device(config.device)
    if config.dtype == "auto":
        checkpoint = with_engine(checkpoint, device)
    height, width = config.height or checkpoint.height, config.width or checkpoint.width
    pictures = _own_start(config, settings, height, width)
    parts = Parts(checkpoint, device, config.dtype)
    count = signal_length(settings, config.sample_groups)
    say_length(labels, count)
    request = _request(config, fill_signal(labels, count, config.control_seed))
    start = (
        checkpoint.start_latents(config.prompt)
        if pictures is None
        else clip_latents(parts, pictures, config.seed)
    )
    frames = FRAMES_PER_LATENT * settings.window_size * config.sample_groups
    with (
        VideoWriter(config.output, width, height, config.fps, overwrite=config.overwrite) as writer,
        ProgressBar("video", "frame") as bar,
    ):
        for made in make_stream(parts, request, config.sample_groups, start, settings):
            writer.write(made)
            bar.report(writer.frames, frames)
    print(f"{config.output}: {writer.frames} frames of {width}x{height}")


def _request(config: OfflineConfig, labels: list[str]) -> VideoRequest:
    return VideoRequest(
        prompt=config.prompt,
        labels=labels,
        seed=config.seed,
        guidance=config.guidance_scale,
        height=config.height,
        width=config.width,
    )


def open_checkpoint(config: OfflineConfig, stage: str) -> Checkpoint:
    """Check the weight folder this run asks for (headers only) and say which one it is."""
    folder, line = model_folder(config.model_path, stage)
    print(line or f"model: {folder}")
    checkpoint = Checkpoint.open(config.choice(folder))
    for note in checkpoint.notes:
        print(note)
    return checkpoint


def check_start(config: StreamConfig, checkpoint: Checkpoint) -> None:
    """Raise UserError when there is nothing of the size asked for to start from."""
    if config.init_video is not None:
        if not config.init_video.is_file():
            raise UserError(
                f"init_video {config.init_video}: expected a video file, "
                f"found {found_at(config.init_video)} there"
            )
        return
    if config.start is not None:
        return
    width, height = config.width or checkpoint.width, config.height or checkpoint.height
    if (width, height) != (checkpoint.width, checkpoint.height):
        raise UserError(
            f"--width and --height: the start clips of {checkpoint.name} are "
            f"{checkpoint.width}x{checkpoint.height}; give an --init-video of {width}x{height}, or "
            "a --start of any size"
        )


def say_length(labels: list[str], wanted: int) -> None:
    """Padding and cutting are never silent."""
    if len(labels) < wanted:
        print(f"controls: {len(labels)} labels given, the other {wanted - len(labels)} are random")
    elif len(labels) > wanted:
        print(f"controls: {len(labels)} labels given, only the first {wanted} are used")


def _own_start(
    config: StreamConfig, settings: StreamSettings, height: int, width: int
) -> np.ndarray | None:
    """Frames uint8 [n, height, width, 3] that the user wants the stream to begin with, if any."""
    wanted = frames_of(settings.latents)
    if config.start is not None:
        return read_start(config.start, (height, width), settings.latents)
    if config.init_video is None:
        return None
    frames, fps = read_video(config.init_video)
    frames = resample(frames, fps, config.fps)[:wanted]
    if frames.shape[1:3] != (height, width):
        got = f"{frames.shape[2]}x{frames.shape[1]}"
        raise UserError(
            f"init_video {config.init_video}: expected {width}x{height} pixels, got {got}; "
            "scale it first, or give it as --start"
        )
    if len(frames) < wanted:
        raise UserError(
            f"init_video {config.init_video}: expected at least {wanted} frames at {config.fps} FPS, got {len(frames)}"
        )
    return frames
