"""Generate interactive worlds from Python: one process, no Ray, CPU or one GPU.

from the_matrix import the_matrix

generator = the_matrix(generation_model_path="models/stage2", streaming_model_path="models/stage3")
generator.generate(prompt="A car on a desert road", length=8, control_signal="D,D,D,DL,DL,DL",
output_folder="./")"""

import itertools
import logging
import math
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import matrix_live.imports  # noqa: F401 - finds the packages below, wherever this is installed
from configs.load import spin_briefly

spin_briefly()  # before torch is loaded
# ruff: noqa: E402
# isort: split
import numpy as np
import torch

from configs.choice import WeightChoice, check_engine
from configs.errors import UserError
from configs.files import found_at
from configs.geometry import (
    FPS,
    FRAMES_PER_LATENT,
    LATENTS_PER_SECOND,
    latents_of,
)
from configs.limits import (
    check_output_file,
    check_prompt,
    check_seed,
    home_path,
    real_number,
    whole_number,
)
from configs.version import installed_version
from models.checkpoint import Checkpoint
from models.controls import parse_signal, random_signal
from models.device import pick_device, threads
from models.engines.choose import with_engine
from models.live_world import LiveWorld
from models.offline import (
    VideoRequest,
    clip_frames,
    clip_latents,
    fill_signal,
    make_base,
    make_stream,
    signal_length,
    stream_frames,
)
from models.parts import Parts
from models.progress import ProgressBar
from models.snapshot import world_file
from models.weight_folder import model_folder
from pipeline.video import VideoWriter, read_start
from pipeline.video_results import Videos

BASE_SECONDS = 4  # the base video's limit: 65 frames
LONGEST = 86_400  # seconds
RANDOM_RUN = 4096  # latents drawn at a time for an endless random drive
__version__ = installed_version()

Progress = bool | Callable[[str, int, int], None]
log = logging.getLogger("the_matrix")


class the_matrix:
    """Makes videos from a prompt and a control signal (docs/reference.md section 5). Models load
    once per object.

    generation_model_path: stage-2 weights. streaming_model_path: stage-3 (or stage-4) weights.
    Without a path: ``models/stage2`` and ``models/stage3`` if they exist, else the embedded small
    world. clip_path: a local CLIP folder, for weights that come without control embeddings; they
    are computed once and saved beside the weights. engine: what computes streams ("torch-fp32",
    "torch-bf16", "openvino-fp32", "openvino-int8"); None: the fastest here, measured once."""

    def __init__(
        self,
        generation_model_path: str | Path | None = None,
        streaming_model_path: str | Path | None = None,
        *,
        clip_path: str | Path | None = None,
        engine: str | None = None,
    ) -> None:
        """Read the headers of both weight folders. Raises UserError with one line for whatever is
        wrong with them."""
        self.generation = Checkpoint.open(_choice(generation_model_path, "stage2", clip_path))
        streaming = _choice(streaming_model_path, "stage3", clip_path)
        self.streaming = Checkpoint.open(replace(streaming, engine=check_engine(engine)))
        for note in dict.fromkeys((*self.generation.notes, *self.streaming.notes)):
            log.info(note)
        self._loaded: dict[tuple[Path, str | None, torch.device], Parts] = {}

    def generate(
        self,
        prompt: str,
        length: int = 4,
        control_signal: str | None = None,
        control_seed: int = 42,
        output_folder: str | Path = "./",
        guidance_scale: float | None = None,
        seed: int = 42,
        gpu_id: int = 0,
        *,
        progress: Progress = True,
        overwrite: bool = False,
    ) -> Videos:
        """Write ``base_video.mp4`` and, for more than 4 s, ``final_video.mp4`` at 16 FPS; return
        their paths (`Videos`). The same arguments give the same bytes. UserError before all.
        length: whole seconds; 16 frames each (and one more in the base video, 65 at most).
        control_signal: labels such as "D,D,DL" or "D*16,DL*8", one per latent (0.25 s); None =
        random; a short one goes on at random (control_seed). guidance_scale: None = the weights'
        own; stage 4 takes none. gpu_id: without GPUs, 0 is the CPU. progress: True = a bar on a
        terminal, lines elsewhere; or a function of (stage, done, total). overwrite: replace files.
        """
        whole_number("length", length, 1, LONGEST)
        _check_switches(progress, overwrite)
        device = _device(gpu_id)
        outputs = [
            check_output_file(_output_folder(output_folder) / name, "output", overwrite)
            for name in ("base_video.mp4", "final_video.mp4")
        ]
        request = VideoRequest(
            prompt=check_prompt(prompt),
            labels=self._signal(control_signal, length, check_seed(control_seed, "control_seed")),
            seed=check_seed(seed),
            guidance=_guidance(guidance_scale),
        )
        latents = self._base(outputs[0], request, length, device, progress, overwrite)
        if length <= BASE_SECONDS:
            return Videos(outputs[:1])
        self._final(outputs[1], request, length, latents, device, progress, overwrite)
        return Videos(outputs)

    def stream(
        self,
        prompt: str,
        controls: str | Iterable[str] | None = None,
        seed: int = 42,
        *,
        guidance_scale: float | None = None,
        gpu_id: int = 0,
        start: str | Path | torch.Tensor | None = None,
    ) -> Generator[tuple[int, np.ndarray], None, None]:
        """Drive the streaming model: yields (latent index, 4 frames uint8 [4, H, W, 3]) for as long
        as labels come.

        controls: an iterator that is asked for the next label right before each step, a signal such
        as "D*16,DL*8", or
            None for an endless random drive.
        start: a picture or video file of one's own, resized and continued, or scaled latents
        [n, C, h, w]; None = the weights' start clip for this prompt.

        Equals a live run with the same seed and labels, byte for byte on a CPU: one thread
        computes, as in a live rank."""
        prompt, seed, device = check_prompt(prompt), check_seed(seed), _device(gpu_id)
        guidance = self._streamed(_guidance(guidance_scale))
        labels = _endless(seed) if controls is None else _labels(controls)
        return self._stream(prompt, labels, seed, guidance, device, self._checked(start))

    def live(
        self,
        prompt: str,
        seed: int = 42,
        *,
        guidance_scale: float | None = None,
        gpu_id: int = 0,
        start: str | Path | torch.Tensor | None = None,
    ) -> LiveWorld:
        """Begin a world that is driven by hand: ``step(label)`` gives frames, ``save(path)``,
        ``rewind(latents)`` and ``branch()`` keep, undo and fork it.

        The arguments are those of ``stream``, and so are the frames."""
        prompt, seed = check_prompt(prompt), check_seed(seed)
        guidance = self._streamed(_guidance(guidance_scale))
        checked = self._checked(start)
        parts = self._streaming_parts(_device(gpu_id))
        latents = _latents(parts, checked)
        return LiveWorld.begin(parts, prompt, seed, start=latents, guidance=guidance)

    def open(self, path: str | Path, *, gpu_id: int = 0) -> LiveWorld:
        """Go on from a file that a world of these streaming weights was saved to.

        The frames that follow are those of the world that was saved, byte for byte on a CPU. Raises
        UserError."""
        file = world_file(path)
        return LiveWorld.open(self._streaming_parts(_device(gpu_id)), file)

    def _stream(
        self,
        prompt: str,
        labels: Iterable[str],
        seed: int,
        guidance: float | None,
        device: torch.device,
        start: torch.Tensor | np.ndarray | None,
    ) -> Generator[tuple[int, np.ndarray], None, None]:
        parts = self._streaming_parts(device)
        with threads(1):
            world = parts.world(guidance=guidance)
            latents = _latents(parts, start)
            world.reset(
                seed, prompt, self.streaming.start_latents(prompt) if latents is None else latents
            )
        frames = stream_frames(parts, world, labels)
        while True:
            with threads(1):  # only while we compute: the caller's own work keeps its threads
                latent = next(frames, None)
            if latent is None:
                return
            yield latent

    def _checked(self, start: str | Path | torch.Tensor | None) -> torch.Tensor | np.ndarray | None:
        """Latents, or the frames of a file. Raises UserError."""
        if isinstance(start, str | Path):
            weights, path = self.streaming, home_path(start, "start")
            size, latents = (weights.height, weights.width), weights.streaming.latents
            return read_start(path, size, latents)
        if start is not None and not isinstance(start, torch.Tensor):
            raise UserError(
                "start: expected a picture or video file, or a tensor of scaled latents "
                f"[n, C, h, w], got {type(start).__name__}"
            )
        return start

    def _signal(self, control_signal: str | None, length: int, control_seed: int) -> list[str]:
        """One label per latent that is made, the given ones first."""
        given = _signal(control_signal)
        wanted = latents_of(_base_frames(length))
        if length > BASE_SECONDS:
            wanted = signal_length(self.streaming.streaming, self._steps(length))
        _tell_about(given, LATENTS_PER_SECOND * length + 1, wanted)
        return fill_signal(given, wanted, control_seed)

    def _streamed(self, guidance: float | None) -> float | None:
        """What a stream is guided by: distilled weights (stage 4) are made to run without."""
        return None if self.streaming.streaming.distilled else guidance

    def _steps(self, length: int) -> int:
        """Outer steps of the final video."""
        return math.ceil(LATENTS_PER_SECOND * length / self.streaming.streaming.window_size)

    def _base(
        self,
        path: Path,
        request: VideoRequest,
        length: int,
        device: torch.device,
        progress: Progress,
        overwrite: bool,
    ) -> torch.Tensor:
        """Write the base video; returns its scaled latents."""
        parts = self._parts(self.generation, device)
        with _report("base video", "step", progress) as report:
            latents = make_base(parts, request, _base_frames(length), progress=report)
            pictures = clip_frames(parts, latents)
        height, width = pictures.shape[1:3]
        with VideoWriter(path, width, height, FPS, overwrite=overwrite) as writer:
            writer.write(pictures)
        return latents

    def _final(
        self,
        path: Path,
        request: VideoRequest,
        length: int,
        start: torch.Tensor,
        device: torch.device,
        progress: Progress,
        overwrite: bool,
    ) -> None:
        """Write the frames of the stream as they are decoded: memory does not grow with the
        length."""
        parts, frames = self._streaming_parts(device), FPS * length
        request = replace(request, guidance=self._streamed(request.guidance))
        height, width = self.streaming.height, self.streaming.width
        with (
            VideoWriter(path, width, height, FPS, overwrite=overwrite) as writer,
            _report("final video", "latent", progress) as report,
        ):
            for pictures in make_stream(parts, request, self._steps(length), start):
                writer.write(pictures[: frames - writer.frames])
                report(writer.frames // FRAMES_PER_LATENT, frames // FRAMES_PER_LATENT)

    def _streaming_parts(self, device: torch.device) -> Parts:
        return self._parts(with_engine(self.streaming, device), device)

    def _parts(self, checkpoint: Checkpoint, device: torch.device) -> Parts:
        key = (checkpoint.path, checkpoint.engine, device)
        if key not in self._loaded:
            self._loaded[key] = Parts(checkpoint, device)
        return self._loaded[key]


def _choice(path: str | Path | None, stage: str, clip_path: str | Path | None) -> WeightChoice:
    if path is not None and (not isinstance(path, str | Path) or not str(path).strip()):
        raise UserError(f"{stage} model path: expected a weight folder, got {path!r:.60}")
    folder, line = model_folder(
        None if path is None else home_path(path, f"{stage} model path"), stage
    )
    if line:
        log.info(line)
    if not isinstance(clip_path, str | Path | None):
        raise UserError(f"clip_path: expected a folder, got {clip_path!r:.60}")
    return WeightChoice(folder, clip=home_path(clip_path, "clip_path") if clip_path else None)


def _base_frames(length: int) -> int:
    """Frames of the base video."""
    return FPS * min(length, BASE_SECONDS) + 1


def _check_switches(progress: Progress, overwrite: bool) -> None:
    if not isinstance(progress, bool) and not callable(progress):
        raise UserError(f"progress: expected True, False or a function, got {progress!r:.60}")
    if not isinstance(overwrite, bool):
        raise UserError(f"overwrite: expected True or False, got {overwrite!r:.60}")


def _signal(text: str | None) -> list[str]:
    return [] if text is None else parse_signal(text)


def _labels(controls: str | Iterable[str]) -> Iterable[str]:
    if isinstance(controls, str):
        return parse_signal(controls)
    if not isinstance(controls, Iterable):
        raise UserError(
            f'controls: expected labels such as "D*16,DL*8" or an iterator of them, got {controls!r:.60}'
        )
    return controls


def _guidance(scale: float | None) -> float | None:
    return None if scale is None else real_number("guidance_scale", scale, 0, 100)


def _latents(parts: Parts, start: torch.Tensor | np.ndarray | None) -> torch.Tensor | None:
    """Scaled latents [n, C, h, w] of checked frames, on one thread as in a live run; latents stay
    what they are."""
    if not isinstance(start, np.ndarray):
        return start
    with threads(1):
        return clip_latents(parts, start)


def _device(gpu_id: int) -> torch.device:
    number = whole_number("gpu_id", gpu_id, 0, 1023)
    return pick_device("auto" if number == 0 else f"cuda:{number}")


def _output_folder(folder: str | Path) -> Path:
    if not isinstance(folder, str | Path) or not str(folder).strip():
        raise UserError(f"output_folder: expected a folder, got {folder!r:.60}")
    place = home_path(folder, "output_folder")
    if not place.is_dir():
        raise UserError(
            f"output_folder {folder}: expected an existing folder, found {found_at(place)}; "
            "create it first"
        )
    return place.absolute()


def _tell_about(labels: list[str], needed: int, used: int) -> None:
    """Padding and cutting are never silent. Labels beyond those needed belong to latents that are
    not shown."""
    if labels and len(labels) < needed:
        log.warning(
            "control_signal has %d labels, %d are needed: the rest is random", len(labels), needed
        )
    if len(labels) > used:
        log.warning("control_signal has %d labels, only the first %d are used", len(labels), used)


def _endless(seed: int) -> Iterator[str]:
    """Random labels without end: one long signal after another."""
    return itertools.chain.from_iterable(
        random_signal(RANDOM_RUN, seed + run) for run in itertools.count()
    )


@contextmanager
def _report(stage: str, unit: str, progress: Progress) -> Iterator[Callable[[int, int], None]]:
    """A function (done, total) that shows how far it is, calls the caller's function, or does
    nothing."""
    if callable(progress):
        yield lambda done, total: progress(stage, done, total)
    elif progress:
        with ProgressBar(stage, unit) as shown:
            yield shown.report
    else:
        yield lambda done, total: None
