"""Stages 3 and 4 as a script: continue a clip for as long as asked, with every setting at hand."""

import argparse
from typing import TYPE_CHECKING, Final

from tqdm import tqdm

from configs.errors import UserError
from configs.geometry import FRAMES_PER_LATENT, PIXELS_PER_LATENT, frames_of
from configs.load import load
from configs.schema import StreamConfig, StreamSettings
from pipeline.commands.base import (
    add_common_arguments,
    given_labels,
    load_parts,
    open_checkpoint,
    say_length,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from models.parts import Parts

PURPOSE: Final = "Stages 3 and 4: continue a video for as long as you like, offline."
EXAMPLES: Final = """\
  python -m pipeline stream --prompt "A car on a desert road" --init-video base.mp4 --sample-groups 32 --output long.mp4
  python -m pipeline stream --stage 3 --prompt "..." --controls "D*20,DR*20" --output drive.mp4"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of ``stream``."""
    add_common_arguments(parser)
    stream = parser.add_argument_group("streaming")
    stream.add_argument(
        "--stage",
        metavar="3|4",
        help="default weights: stage 3 (DPM++) or 4 (one call a latent; default)",
    )
    stream.add_argument(
        "--init-video",
        metavar="FILE",
        help="clip to continue (default: a start clip of the weights)",
    )
    stream.add_argument(
        "--clip-frames",
        metavar="N",
        help="frames of the window, 4 G W + 1 (default: the weights' own)",
    )
    stream.add_argument(
        "--noise-groups", metavar="G", help="noise groups in the window (default: the weights' own)"
    )
    stream.add_argument(
        "--sample-groups", metavar="S", help="outer steps; the video has 4 S W frames (default 8)"
    )
    stream.add_argument(
        "--steps", metavar="T", help="inference steps, a multiple of G (default: the weights' own)"
    )
    stream.add_argument(
        "--late-labels",
        metavar="B",
        help="newest groups that follow the newest label (weights' own)",
    )
    stream.add_argument(
        "--control-guidance",
        metavar="X",
        help="guidance towards the labels; 1 = none (default: the weights' own)",
    )


def main(args: argparse.Namespace) -> int:
    """Make the video and print its path."""
    config = load(StreamConfig, vars(args), environment={})
    labels = given_labels(config)
    checkpoint = open_checkpoint(config, f"stage{config.stage}")
    settings = config.streaming(checkpoint.streaming)
    if config.init_video is not None and not config.init_video.is_file():
        raise UserError(
            f"init_video {config.init_video}: expected a video file, found nothing there"
        )

    from models.offline import fill_signal, signal_length, step_labels, stream_frames
    from pipeline.video import VideoWriter

    parts = load_parts(config, checkpoint)
    count = signal_length(settings, config.sample_groups)
    say_length(labels, count)
    labels = fill_signal(labels, count, config.control_seed)
    world = parts.world(settings, config.guidance_scale, config.height, config.width)
    height, width = (PIXELS_PER_LATENT * side for side in world.shape[1:])
    world.reset(
        config.seed,
        config.prompt,
        _start(config, parts, settings, height, width),
        labels[: settings.latents],
    )
    frames = FRAMES_PER_LATENT * settings.window_size * config.sample_groups
    with (
        VideoWriter(config.output, width, height, config.fps, overwrite=config.overwrite) as writer,
        tqdm(desc="video", total=frames, unit="frame", disable=None) as bar,
    ):
        for _, pictures in stream_frames(
            parts, world, step_labels(settings, labels, config.sample_groups)
        ):
            writer.write(pictures)
            bar.update(len(pictures))
    print(f"{config.output}: {writer.frames} frames of {width}x{height}")
    return 0


def _start(
    config: StreamConfig, parts: "Parts", settings: StreamSettings, height: int, width: int
) -> "Tensor":
    """The clean start of the stream: the init video's first frames, encoded, or a start clip of the
    weights."""
    if config.init_video is None:
        return parts.checkpoint.start_latents(config.prompt)

    from models.offline import clip_latents
    from pipeline.video import read_video

    wanted = frames_of(settings.latents)
    frames, fps = read_video(config.init_video)
    frames = resample(frames, fps, config.fps)[:wanted]
    if frames.shape[1:3] != (height, width):
        got = f"{frames.shape[2]}x{frames.shape[1]}"
        raise UserError(
            f"init_video {config.init_video}: expected {width}x{height} pixels, got {got}; scale it first"
        )
    if len(frames) < wanted:
        raise UserError(
            f"init_video {config.init_video}: expected at least {wanted} frames at {config.fps} FPS, got {len(frames)}"
        )
    return clip_latents(parts, frames, config.seed)


def resample(frames: "np.ndarray", fps: float, target: float) -> "np.ndarray":
    """Frames of a faster video at the target rate: frame round(k fps / target) (docs/reference.md
    section 5)."""
    if fps <= target:
        return frames
    return frames[
        [index for k in range(len(frames)) if (index := round(k * fps / target)) < len(frames)]
    ]
