"""A random transformer in memory, as a world wants its weights: sizes that no small number of ranks
divides evenly."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from configs.schema import StreamSettings
from models.transformer import Transformer
from models.transformer_config import TransformerConfig
from models.world import World, WorldParts

CPU = torch.device("cpu")
# 6 heads: 1, 2, 3 or 6 ranks; 15 tokens per latent and 7 text tokens: uneven for 2 (and 7 for 3).
CONFIG = TransformerConfig(
    num_attention_heads=6,
    attention_head_dim=16,
    num_layers=3,
    in_channels=4,
    out_channels=4,
    time_embed_dim=16,
    text_embed_dim=12,
    sample_height=6,
    sample_width=10,
    max_text_seq_length=7,
    control_dim=10,
    control_start_layer=1,
    control_end_layer=3,
)


def embed_letters(prompts: Sequence[str]) -> Tensor:
    """Embeds a prompt by its length: enough to tell prompts apart."""
    generator = torch.Generator()
    return torch.stack(
        [torch.randn(7, 12, generator=generator.manual_seed(len(prompt))) for prompt in prompts]
    )


@dataclass(frozen=True)
class SmallWeights:
    """Random weights, the same for the same seed."""

    streaming: StreamSettings = field(default_factory=StreamSettings)
    transformer_config: TransformerConfig = CONFIG
    seed: int = 0
    engine: str | None = None

    def transformer(self, device: torch.device, dtype: torch.dtype) -> Transformer:
        torch.manual_seed(self.seed)
        model = Transformer(self.transformer_config).requires_grad_(False)
        for parameter in model.parameters():
            # larger than the default, so that text, time and controls matter
            if parameter.dim() > 1:
                parameter.normal_(std=1.5 / parameter[0].numel() ** 0.5)
        return model.to(device, dtype).eval()

    def controls(self) -> Tensor:
        return torch.randn(
            10, self.transformer_config.control_dim, generator=torch.Generator().manual_seed(5)
        )

    def parts(self, device: torch.device = CPU, dtype: torch.dtype = torch.float32) -> WorldParts:
        return WorldParts(
            self.transformer(device, dtype), self.controls(), self.streaming, embed_letters
        )


def small_world(settings: StreamSettings | None = None, **options: object) -> World:
    """A world on SmallWeights, on the CPU in fp32."""
    weights = SmallWeights(settings or StreamSettings())
    return World(weights.parts(), **options)  # type: ignore[arg-type]
