"""Frozen run settings. Network shapes travel with the weights (models/); these say how to run
them."""

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from configs.choice import WeightFlags
from configs.errors import UserError
from configs.geometry import FPS, frames_of, is_whole, latents_of
from configs.limits import (
    check_output_file,
    check_prompt,
    check_seed,
    check_video_file,
    real_number,
    whole_number,
)
from configs.logs import LEVELS
from configs.parsers import PARSER, devices, host_names

HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:_-]{0,252}")
TOKEN = re.compile(r"[A-Za-z0-9_-]{16,200}")
ADDRESS = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}:[0-9]{1,5}")
DEFAULT_PROMPT = "A car drives along a road through open country under a clear sky."
ALL_DRIVES = "all"  # in place of the name of one that goes on
LEAST_REST = 10.0  # seconds: what a world costs is measured meanwhile
MAX_LATENTS = 1024  # of one window; attention grows with its square


@dataclass(frozen=True)
class StreamSettings:
    """How a weight folder streams (its ``streaming.json``); defaults are the published stage-4
    values.

    noise_groups G, window_size W (latents per group), inference_steps T, original_steps O,
    late_labels b: docs/reference.md sections 3.3 and 4. guidance_scale is the offline default of
    stages 2 and 3. control_guidance: how far a stream goes from what the model does without labels
    to what it does with them, one more model call; 1 = none. solver: "consistency" (stage 4, phased
    consistency) or "dpm" (stage 3, DPM++ 2M SDE), docs/reference.md section 3.4."""

    noise_groups: int = 4
    window_size: int = 1
    inference_steps: int = 4
    original_steps: int = 40
    late_labels: int = 1
    guidance_scale: float = 6.0
    control_guidance: float = 1.0
    solver: str = "consistency"

    def __post_init__(self) -> None:
        if self.solver not in ("consistency", "dpm"):
            raise UserError(
                f"streaming setting solver: expected consistency or dpm, got {self.solver!r}"
            )
        for name in (
            "noise_groups",
            "window_size",
            "inference_steps",
            "original_steps",
            "late_labels",
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UserError(
                    f"streaming setting {name}: expected a whole number of at least 1, got {value!r}"
                )
        for name in ("guidance_scale", "control_guidance"):
            real_number(f"streaming setting {name}", getattr(self, name), 0, 100)
        if self.latents > MAX_LATENTS:
            raise UserError(
                f"streaming settings: a window holds at most {MAX_LATENTS} latents, got {self.latents}"
            )
        if self.inference_steps % self.noise_groups:
            raise UserError(
                f"inference_steps must be a multiple of noise_groups ({self.noise_groups}), got {self.inference_steps}"
            )
        if self.late_labels > self.noise_groups:
            raise UserError(
                f"late_labels must be between 1 and noise_groups ({self.noise_groups}), got {self.late_labels}"
            )

    @property
    def latents(self) -> int:
        """F: latents in the model's window, the conditioning latent included."""
        return self.noise_groups * self.window_size + 1

    @property
    def distilled(self) -> bool:
        """Whether these are distilled weights (stage 4), which are made to run without guidance."""
        return self.solver == "consistency"

    @property
    def served_guidance(self) -> float:
        """guidance_scale; distilled weights run without."""
        return 1.0 if self.distilled else self.guidance_scale

    @property
    def inner_steps(self) -> int:
        """K: model calls per outer step."""
        return self.inference_steps // self.noise_groups


@dataclass(frozen=True)
class RunConfig(WeightFlags):
    """One live run (``python -m pipeline run``). None means: decided by the machine or by the
    weights.

    num_gpus_dit, num_gpus_vae: workers of the two groups (CPU workers where there is no GPU).
    visible_devices: the pool to take GPUs from (CUDA_VISIBLE_DEVICES); () = no GPU.
    start: a picture or a video that every world begins with. duration: seconds of shown stream,
    counted from the first frame.
    allow_host: further names under which people reach the page, such as that of a reverse proxy.
    replicas: how many DiT and VAE groups, which share the worlds among them.
    worlds: how many there may be at once, the first included. rest: seconds without a viewer after
    which a world rests; 0 = never, else 10 or more.
    token: what opens the page (never a flag: other users see those). None makes a new one; a
    launcher that is started again with the same token gets its pages back by themselves.
    keep_logs: a folder for the logs of launcher, Ray and workers.
    state: where journals lie, so that a drive can go on in another launcher; None: the user's state
    folder; no_state: nowhere. go_on: the name of a journal whose drive goes on; "" = the newest,
    "all" = every one of the launcher that was cut off last.
    """

    num_gpus_dit: int | None = None
    num_gpus_vae: int | None = None
    visible_devices: tuple[str, ...] | None = field(default=None, metadata={PARSER: devices})
    prompt: str | None = None
    start: Path | None = None
    seed: int = 42
    host: str = "127.0.0.1"
    port: int = 8000
    allow_host: tuple[str, ...] = field(default=(), metadata={PARSER: host_names})
    replicas: int = 1
    worlds: int = 8
    rest: float = 300.0
    token: str | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    duration: float | None = None
    headless: bool = False
    controls: str | None = None
    record: Path | None = None
    control_log: Path | None = None
    replay: Path | None = None
    summary: Path | None = None
    ray_address: str | None = None
    json_logs: bool = False
    log_level: str = "warning"
    keep_logs: Path | None = None
    state: Path | None = None
    no_state: bool = False
    go_on: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_state()
        for name in ("num_gpus_dit", "num_gpus_vae"):
            if getattr(self, name) is not None:
                whole_number(name, getattr(self, name), 1, 999)
        check_seed(self.seed)
        if self.log_level not in LEVELS:
            raise UserError(
                f"log_level: expected one of {', '.join(LEVELS)}, got {self.log_level[:60]!r}"
            )
        whole_number("port", self.port, 0, 65535)
        whole_number("replicas", self.replicas, 1, 64)
        whole_number("worlds", self.worlds, 1, 64)
        if real_number("rest", self.rest, 0, 1e7) < LEAST_REST and self.rest:
            raise UserError(
                f"rest: expected 0 (never) or at least {LEAST_REST:g} seconds, got {self.rest:g}"
            )
        if self.duration is not None:
            real_number("duration", self.duration, 0.25, 1e7)
        if self.prompt is not None:
            object.__setattr__(self, "prompt", check_prompt(self.prompt))
        self._check_addresses()

    def _check_addresses(self) -> None:
        """Where it listens, who may come in, whose cluster it joins."""
        if not HOST.fullmatch(self.host):
            raise UserError(
                f"host: expected a host name or an IP address such as 127.0.0.1, got {self.host!r}"
            )
        for name in self.allow_host:
            if not HOST.fullmatch(name) or name.count(":") == 1:  # more colons are an IPv6 address
                raise UserError(
                    f"allow_host: expected host names such as drive.example.org, without a port, got {name[:60]!r}"
                )
        if self.token is not None and not TOKEN.fullmatch(self.token):
            raise UserError(
                "MATRIX_TOKEN: expected 16 to 200 letters, digits, - or _; or do not set it"
            )
        if self.ray_address is not None and not ADDRESS.fullmatch(self.ray_address):
            raise UserError(
                f"ray_address: expected HOST:PORT such as 10.0.0.5:6379, got {self.ray_address!r}"
            )
        if (self.tls_cert is None) != (self.tls_key is None):
            raise UserError(
                "tls_cert and tls_key: expected both or none, got only one; name both files"
            )

    def _check_state(self) -> None:
        if self.no_state and (self.state is not None or self.go_on is not None):
            raise UserError("no_state: nothing is kept then; leave out state and continue")
        if self.go_on == ALL_DRIVES and self.headless:
            raise UserError(
                "continue: all worlds go on behind a page; leave out headless, or name one drive"
            )
        for door, others in (("go_on", ("prompt", "replay")), ("replay", ("prompt",))):
            for name in others if getattr(self, door) is not None else ():
                if getattr(self, name) is not None:
                    called = "continue" if door == "go_on" else door
                    raise UserError(f"{called}: the drive has its own past; leave out {name}")

    @property
    def rests_after(self) -> float:
        """Seconds without a viewer after which a world rests; infinite where nobody can watch."""
        return self.rest if self.rest and not self.headless else math.inf


@dataclass(frozen=True)
class OfflineConfig(WeightFlags):
    """What both stage scripts know. None means: what the weights say.

    controls: labels such as "D*9,DL*8", one per latent (4 frames), or one per frame with
    raw_controls; padded at random (control_seed) when short.
    """

    prompt: str = ""
    output: Path = Path("video.mp4")
    width: int | None = None
    height: int | None = None
    guidance_scale: float | None = None
    dtype: str = "auto"
    device: str = "auto"
    seed: int = 42
    fps: int = FPS
    controls: str | None = None
    raw_controls: bool = False
    control_seed: int = 42
    overwrite: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "prompt", check_prompt(self.prompt))
        check_video_file(self.output, "output", self.overwrite)
        for name in ("width", "height"):
            size = getattr(self, name)
            if size is not None and whole_number(name, size, 16, 4096) % 16:
                raise UserError(f"{name}: expected a multiple of 16 pixels, got {size}")
        if self.guidance_scale is not None:
            real_number("guidance_scale", self.guidance_scale, 0, 100)
        check_seed(self.seed)
        check_seed(self.control_seed, "control_seed")
        whole_number("fps", self.fps, 1, 120)


@dataclass(frozen=True)
class BaseConfig(OfflineConfig):
    """One base video (``python -m pipeline base``, stage 2).

    start_clip: also write the latents there, as the ``start_clips.safetensors`` of a weight folder.
    """

    output: Path = Path("base_video.mp4")
    start_clip: Path | None = None
    frames: int = 65
    steps: int = 50

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.start_clip is not None:
            check_output_file(self.start_clip, "start_clip", self.overwrite)
        whole_number("frames", self.frames, 5, frames_of(MAX_LATENTS + 1))
        if not is_whole(self.frames):
            raise UserError(f"frames: expected 4 n + 1 (5, 9, ... 65), got {self.frames}")
        whole_number("steps", self.steps, 1, 1000)


@dataclass(frozen=True)
class StreamConfig(OfflineConfig):
    """One offline stream (``python -m pipeline stream``, stages 3 and 4).

    init_video: a clip to continue (its first clip_frames frames, as they are). start: a picture or
    a video of any size, cut and resized. Neither: a clip of the weight folder. noise_groups G,
    clip_frames 4 G W + 1, steps T, late_labels b, control_guidance: override ``streaming.json`` of
    the weights.
    sample_groups S: outer steps; the video has 4 S W frames.
    """

    output: Path = Path("stream.mp4")
    stage: int = 4
    init_video: Path | None = None
    start: Path | None = None
    noise_groups: int | None = None
    clip_frames: int | None = None
    sample_groups: int = 8
    steps: int | None = None
    late_labels: int | None = None
    control_guidance: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.stage not in (3, 4):
            raise UserError(f"stage: expected 3 or 4, got {self.stage}")
        if self.start is not None and self.init_video is not None:
            raise UserError("start and init_video: a stream begins with one of them, not with both")
        whole_number("sample_groups", self.sample_groups, 1, 1_000_000)
        for name in ("noise_groups", "steps", "late_labels"):
            if getattr(self, name) is not None:
                whole_number(name, getattr(self, name), 1, 1000)
        if self.control_guidance is not None:
            real_number("control_guidance", self.control_guidance, 0, 100)
        if self.clip_frames is not None:
            whole_number("clip_frames", self.clip_frames, 5, frames_of(MAX_LATENTS + 1))
            if not is_whole(self.clip_frames):
                raise UserError(
                    f"clip_frames: expected 4 n + 1 (5, 9, ... 65), got {self.clip_frames}"
                )

    def streaming(self, weights: StreamSettings) -> StreamSettings:
        """The weights' settings with this run's overrides. Raises UserError for those that these
        weights cannot follow."""
        if weights.distilled and self.guidance_scale not in (None, 1.0):
            raise UserError(
                "guidance_scale: distilled weights (stage 4) are made to run without; "
                "leave it out, or use --stage 3"
            )
        groups = self.noise_groups or weights.noise_groups
        window = weights.window_size
        if self.clip_frames is not None:
            window, rest = divmod(latents_of(self.clip_frames) - 1, groups)
            if rest or not window:
                allowed = ", ".join(str(frames_of(n * groups + 1)) for n in (1, 2, 3)) + ", ..."
                raise UserError(
                    f"clip_frames: {groups} noise groups need {allowed}, got {self.clip_frames}"
                )
        return replace(
            weights,
            noise_groups=groups,
            window_size=window,
            inference_steps=self.steps or weights.inference_steps,
            late_labels=self.late_labels or min(weights.late_labels, groups),
            control_guidance=weights.control_guidance
            if self.control_guidance is None
            else self.control_guidance,
        )
