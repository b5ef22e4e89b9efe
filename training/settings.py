"""What `configs/train_tiny.yaml` says: sizes, steps and rates of the whole recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from configs.errors import UserError
from configs.limits import check_path, check_seed, quoted, real_number, whole_number
from training.view import View

MOST: Final = 10**9  # of what is counted
LARGEST_SCALE: Final = 16
MOST_AT_ONCE: Final = 256  # processes or threads: more would stop the machine, not speed it up
AT_ONCE: Final = {"ranks", "threads", "processes"}
# whole numbers that may be 0, as a stage's steps may
MAY_BE_NONE: Final = {"pixel_shards", "control_start", "held_out_shards", "clip_every"}
SHARES: Final = {"road_share", "reverse_share", "own_share"}
TOKENS: Final = (1, 2)  # latent pixels along a side


@dataclass(frozen=True)
class TrainSettings:
    """What a config leaves out has these values. Folders are created; `work` is not part of the
    repository."""

    work: str = "build/train_tiny"  # rendered clips, latents, checkpoints
    output: str = "models/tiny"
    # folder of exported weights (models/tiny) to go on from instead of from nothing
    start: str = ""
    seed: int = 0
    device: str = "auto"
    ranks: int = 2  # processes that share each step's work (CPU; 1 on a GPU)
    threads: int = 1  # of each rank
    processes: int = 2  # that render

    shards: int = 30
    shard_clips: int = 24
    held_out_shards: int = 2
    clip_latents: int = 24
    scale: int = 1  # of the picture, 144 x 96, and patch size of the autoencoder: same latents
    road_share: float = 0.35  # of clips whose driver follows a road
    pixel_shards: int = 0  # whose frames are kept once they are encoded; 0 = of all

    encoder_widths: str = "16, 24, 64, 96"
    decoder_widths: str = "128, 64, 24, 12"
    latent_channels: int = 16
    autoencoder_steps: int = 2000
    autoencoder_latents: int = 8  # per step
    autoencoder_muon_rate: float = 0.012
    autoencoder_adam_rate: float = 2e-3
    decoder_steps: int = 320  # of the decoder alone
    decoder_muon_rate: float = 0.006
    decoder_adam_rate: float = 1e-3
    decoder_judge: float = 0.0  # weight of a judge of patches while the decoder goes on; 0 = none
    decoder_features: float = 1.0  # weight of the judge's features

    noise_groups: int = 2
    heads: int = 4
    head_width: int = 48
    layers: int = 6
    token: int = 2  # of so many latent pixels in a square; 1: four times as many tokens
    control_start: int = 1
    time_width: int = 64
    control_width: int = 64
    text_width: int = 64
    text_layers: int = 2
    text_steps: int = 1200
    diffusion_steps: int = 4000
    clip_every: int = 4  # steps, of which one is of stage 2; 0 = none
    own_share: float = 0.0  # of windows begin at a latent as the model itself expects it to be
    reverse_share: float = 0.15  # of windows that end in reverse, which drivers seldom choose
    diffusion_windows: int = 24  # per step, of three latents; longer windows count by their length
    diffusion_muon_rate: float = 0.01
    diffusion_adam_rate: float = 1.5e-3
    average_decay: float = 0.99

    distill_steps: int = 130
    distill_streams: int = 16
    distill_teacher_steps: int = 8  # per phase
    distill_guidance: float = 1.5  # of the teacher towards the text; 1 = none
    distill_control_guidance: float = 2.0  # of the teacher towards the labels; 1 = none
    distill_adam_rate: float = 3e-4
    distill_start: bool = False  # go on from the student of `start`, not from a copy of the teacher
    distill_judge: float = 0.0  # weight of a judge of the student's latents; 0 = none
    late_labels: int = 2
    guidance_scale: float = 1.5  # of the offline stages
    control_guidance: float = 2.0  # of stage 3, towards the labels

    def __post_init__(self) -> None:
        """Raises UserError: rather told now than after an hour."""
        for name, folder in (("work", self.work), ("output", self.output)):
            if not folder.strip():
                raise UserError(f"{name}: expected a folder, got nothing")
            check_path(Path(folder), name)
        check_seed(self.seed)
        whole_number("scale", self.scale, 1, LARGEST_SCALE)
        for name, kind in self.__annotations__.items():
            value = getattr(self, name)
            if kind == "int" and name != "seed":
                stage = name.endswith("_steps") and name != "distill_teacher_steps"
                none = name in MAY_BE_NONE or stage
                most = MOST_AT_ONCE if name in AT_ONCE else MOST
                whole_number(name, value, 0 if none else 1, most)
            elif kind == "float":
                real_number(name, value, 0, 1 if name in SHARES else 1e6)
        if self.token not in TOKENS:
            raise UserError(f"token: expected 1 or 2 latent pixels, got {self.token}")
        if self.average_decay >= 1:
            raise UserError(f"average_decay: expected less than 1, got {self.average_decay:g}")
        for name, other in (("late_labels", "noise_groups"), ("control_start", "layers")):
            if getattr(self, name) > getattr(self, other):
                limit = f"{other}, {getattr(self, other)}"
                raise UserError(f"{name}: expected at most {limit}, got {getattr(self, name)}")
        for name in ("encoder_widths", "decoder_widths"):
            widths(name, getattr(self, name))

    @property
    def view(self) -> View:
        return View(self.scale)


def widths(name: str, text: str) -> tuple[int, int, int, int]:
    """The channel counts of an autoencoder's four levels. Raises UserError."""
    try:
        first, second, third, fourth = (int(part) for part in text.split(","))
    except (ValueError, AttributeError):
        raise UserError(
            f"{name}: expected four channel counts like '8, 16, 32, 64', got {quoted(text)}"
        ) from None
    for count in (first, second, third, fourth):
        whole_number(name, count, 1, MOST)
    return first, second, third, fourth
