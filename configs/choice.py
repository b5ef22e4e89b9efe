"""Which weights to use: one record for every door (command line, API, workers)."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from configs.errors import UserError
from configs.parsers import PARSER, lora_files, tiny_decoder

# PyTorch and OpenVINO; the number format is the decoder's. Where two are as fast, the first is taken.
ENGINES = ("torch-fp32", "torch-bf16", "openvino-fp32", "openvino-int8")


@dataclass(frozen=True)
class WeightChoice:
    """A weight folder and what stands in for parts of it.

    base: the folder of what a transformer-only folder lacks. vae: ("tiny", FILE) puts a TAECVX file
    in place of the folder's decoder. lora: safetensors files fused into the transformer one after
    another, each with its scale. clip: a local CLIP folder, for weights that come without control
    embeddings. engine: what computes them (`models.engines`); None: PyTorch in the formats of the
    device. variant: which of several sets of weights side by side is read, such as "fp16"
    (`models.variants`); None: by rule. start: scaled latents fp32 [n, C, h, w] that worlds begin
    with in place of the folder's start clips.
    """

    path: Path
    base: Path | None = None
    vae: tuple[str, Path] | None = None
    lora: tuple[tuple[Path, float], ...] = ()
    clip: Path | None = None
    engine: str | None = None
    variant: str | None = None
    start: npt.NDArray[np.float32] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class WeightFlags:
    """The flags that choose weights, the same for every command that loads some; see
    `WeightChoice`. model_path None: the folder that `models.weight_folder.model_folder` finds. engine
    None: the fastest that fits, by measurement (`models.engines.choose`)."""

    model_path: Path | None = None
    base_model_path: Path | None = None
    lora: tuple[tuple[Path, float], ...] = field(default=(), metadata={PARSER: lora_files})
    vae: tuple[str, Path] | None = field(default=None, metadata={PARSER: tiny_decoder})
    clip: Path | None = None
    engine: str | None = None
    variant: str | None = None

    def __post_init__(self) -> None:
        check_engine(self.engine)

    def choice(self, folder: Path) -> WeightChoice:
        """The choice these flags make, once the folder is found."""
        return WeightChoice(
            path=folder,
            base=self.base_model_path,
            vae=self.vae,
            lora=self.lora,
            clip=self.clip,
            engine=self.engine,
            variant=self.variant,
        )


def check_engine(name: str | None) -> str | None:
    """An engine's name, or None. Raises UserError for another one."""
    if name is not None and name not in ENGINES:
        raise UserError(f"engine {str(name)[:40]!a}: expected one of {', '.join(ENGINES)}")
    return name
