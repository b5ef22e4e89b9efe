"""Which weights to use: one record for every door (command line, API, workers)."""

from dataclasses import dataclass, field
from pathlib import Path

from configs.parsers import PARSER, tiny_decoder


@dataclass(frozen=True)
class WeightChoice:
    """A weight folder and what stands in for parts of it.

    base: the folder of what a transformer-only folder lacks. vae: ("tiny", FILE) puts a TAECVX file
    in place of the folder's decoder. lora: a safetensors file fused into the transformer. clip: a
    local CLIP folder, for weights that come without control embeddings.
    """

    path: Path
    base: Path | None = None
    vae: tuple[str, Path] | None = None
    lora: Path | None = None
    clip: Path | None = None


@dataclass(frozen=True)
class WeightFlags:
    """The flags that choose weights, the same for every command that loads some; see
    `WeightChoice`. model_path None: the folder that `models.folder.model_folder` finds."""

    model_path: Path | None = None
    base_model_path: Path | None = None
    lora: Path | None = None
    vae: tuple[str, Path] | None = field(default=None, metadata={PARSER: tiny_decoder})
    clip: Path | None = None

    def choice(self, folder: Path) -> WeightChoice:
        """The choice these flags make, once the folder is found."""
        return WeightChoice(folder, self.base_model_path, self.vae, self.lora, self.clip)
