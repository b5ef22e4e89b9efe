"""Fast paths of the transformer and the full decoder, each beside the plain one that it equals:
switched by `device.Paths`, compared by `python -m pipeline bench gpu`. docs/gpu.md says what each is
and what of it has been seen.

Legend: B prompts, F latents in the window, n tokens, D width, H heads, d head width.
"""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from models.device import Paths, attention_backend, capture, has_float8
from models.engines.step import Keys
from models.parallel import SINGLE, SequenceGroup
from models.transformer import Attention, TextTokens, Timestep, Transformer
from models.vae import FullVAE

LARGEST = 448.0  # of float8_e4m3fn


def prepare(
    transformer: Transformer, paths: Paths, say: Callable[[str], None] = lambda line: None
) -> Transformer:
    """Change a loaded transformer's blocks to take `paths`, in place, and return it. Its weights
    then have other names, so it is neither saved nor fused with a LoRA afterwards.

    say: is told what is being done, since compiling takes minutes at the first call.
    """
    for number, block in enumerate(transformer.transformer_blocks):
        if paths.fused:
            block.attn1 = cast(Attention, FusedAttention(block.attn1))
        if paths.float8:
            _to_float8(block)
        if paths.compiled:
            block.compile(dynamic=False)
        if paths != Paths() and number % 10 == 0:
            say(f"block {number + 1} of {len(transformer.transformer_blocks)} prepared")
    return transformer


class FusedAttention(nn.Module):
    """`Attention` with q, k and v from one product of weight [3 D, D]."""

    def __init__(self, plain: Attention) -> None:
        super().__init__()
        self.heads = plain.heads
        maps = (plain.to_q, plain.to_k, plain.to_v)
        wide = maps[0].in_features
        with torch.device("meta"):
            self.to_qkv = nn.Linear(wide, 3 * wide, maps[0].bias is not None)
        weight = torch.cat([one.weight.detach() for one in maps])
        self.to_qkv.weight = nn.Parameter(weight, requires_grad=False)
        if maps[0].bias is not None:
            bias = torch.cat([one.bias.detach() for one in maps])
            self.to_qkv.bias = nn.Parameter(bias, requires_grad=False)
        self.norm_q, self.norm_k, self.to_out = plain.norm_q, plain.norm_k, plain.to_out

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[..., D] -> queries, keys and values [..., H, d]."""
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        return self.norm_q(q), self.norm_k(k), v

    def out(self, x: Tensor) -> Tensor:
        """[..., H, d] -> [..., D]."""
        return cast(Tensor, self.to_out(x.flatten(-2)))


class Float8Linear(nn.Module):
    """A linear map in 8-bit floats: weights scaled once per output, inputs per row as they come.

    Where a device has no such units the same rounded numbers are multiplied in float32, which is
    what makes it comparable anywhere.
    """

    weight: Tensor
    scale: Tensor

    def __init__(self, plain: nn.Linear) -> None:
        super().__init__()
        weight, scale = rounded(plain.weight.detach())
        self.register_buffer("weight", weight)  # [outputs, inputs]
        self.register_buffer("scale", scale)  # [outputs, 1]
        self.bias = plain.bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., inputs] -> [..., outputs] in x's format."""
        rows, scale = rounded(x.flatten(0, -2))
        if has_float8(x.device):
            half = torch.bfloat16  # the only format in which devices give products scaled by row
            bias = None if self.bias is None else self.bias.to(half)
            out = torch._scaled_mm(
                rows,
                self.weight.t(),
                scale_a=scale,
                scale_b=self.scale.t(),
                bias=bias,
                out_dtype=half,
            ).to(x.dtype)
        else:
            out = (rows.float() @ self.weight.float().t()) * scale * self.scale.t()
            out = (out if self.bias is None else out + self.bias.float()).to(x.dtype)
        return out.unflatten(0, x.shape[:-1])


def rounded(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of x [m, n] in float8_e4m3fn and the fp32 factors [m, 1] that give them back."""
    scale = x.abs().amax(1, keepdim=True).float().clamp_min(1e-12) / LARGEST
    return (x.float() / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn), scale


def _to_float8(module: nn.Module) -> None:
    """The large maps of a block: attention and feed-forward. Norms' small ones stay."""
    for name, child in list(module.named_children()):
        if isinstance(child, nn.Linear) and min(child.weight.shape) >= 16:
            setattr(module, name, Float8Linear(child))
        elif not name.startswith("norm"):
            _to_float8(child)


class CapturedStepper:
    """Velocity of a window, captured once per row of timesteps and shape, then replayed: the host
    hands over latents, text and labels and starts one thing.

    On a CPU the same static buffers are used without capturing, which is how equality is held.
    """

    def __init__(
        self,
        transformer: Transformer,
        rows: Sequence[tuple[Timestep, Keys]],
        group: SequenceGroup | None = None,
        attention: str = "auto",
    ) -> None:
        self._transformer, self._rows = transformer, rows
        self._group = group or SINGLE
        self._attention = attention
        self._calls: dict[tuple[int, ...], _Call] = {}

    def velocity(self, latents: Tensor, text: TextTokens, row: int, labels: Tensor) -> Tensor:
        """Window [F, C, h, w], texts of B prompts, label ids [F] -> [B, F, C, h, w]. The result is
        overwritten by the next call of this row."""
        key = (row, *latents.shape, *text.tokens.shape)
        if key not in self._calls:
            self._calls[key] = self._captured(latents, text, row, labels)
        return self._calls[key](latents, text.tokens, labels)

    def _captured(self, latents: Tensor, text: TextTokens, row: int, labels: Tensor) -> "_Call":
        modulation, vocabulary = self._rows[row]
        inputs = (latents.clone(), text.tokens.clone(), labels.clone())
        out = latents.new_empty(text.tokens.shape[0], *latents.shape)

        def work() -> None:
            window, tokens, ids = inputs
            keys = [(k.index_select(1, ids), v.index_select(1, ids)) for k, v in vocabulary]
            batch = window.expand(tokens.shape[0], *window.shape)
            prompt = TextTokens(tokens, text.total)
            with attention_backend(self._attention):
                out.copy_(self._transformer.denoise(batch, prompt, modulation, keys, self._group))

        return _Call(inputs, out, capture(work, latents.device))


class _Call:
    """A captured call: its static inputs and output, and what runs it."""

    def __init__(
        self, inputs: tuple[Tensor, Tensor, Tensor], out: Tensor, replay: Callable[[], None]
    ) -> None:
        self._inputs, self._out, self._replay = inputs, out, replay

    def __call__(self, *values: Tensor) -> Tensor:
        for held, value in zip(self._inputs, values, strict=True):
            held.copy_(value)
        self._replay()
        return self._out


def prepare_decoder(vae: FullVAE, paths: Paths) -> FullVAE:
    """Change a loaded autoencoder's decoder to take `paths`, in place, and return it."""
    if paths.channels_last:
        vae.channels_last()
    return vae
