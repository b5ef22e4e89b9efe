"""The diffusion transformer: joint text and video attention, one timestep per latent, control
blocks.

Equations: docs/reference.md section 2 (arXiv 2412.03568 on the base of CogVideoX-2B); parameter
names: docs/reference.md section 1.3. Legend: B batch, F latents in the window, C latent channels, h
x w latent size, S = (h/p)(w/p) tokens per latent (a rank holds a stripe of them), N text tokens (a
rank holds a slice of them), D width, H heads, d head width.

What depends only on the prompt, the timesteps or the labels is computed by `embed_text`, `modulate`
and `control_keys`; a stream calls them when these change and `denoise` at every step. `forward` is
all of them in a row."""

import functools
import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.errors import UserError
from models.attention import check_degree, control_attention, control_bias, joint_attention
from models.device import tanh_gelu
from models.parallel import SINGLE, SequenceGroup
from models.transformer_config import TransformerConfig

QK_NORM_EPS = 1e-6


class TextTokens(NamedTuple):
    """This rank's slice of a projected prompt, tokens [B, N, D], and the number N_t of all ranks'
    tokens."""

    tokens: Tensor
    total: int


class Modulation(NamedTuple):
    """One norm's affine weights and timestep modulation folded into one scale and shift; gates are
    None in the head.

    scale, shift, gate [B, F, 1, D] for video; token_* [B, 1, D] for text or control tokens, from
    the last latent."""

    scale: Tensor
    shift: Tensor
    gate: Tensor
    token_scale: Tensor
    token_shift: Tensor
    token_gate: Tensor


class Timestep(NamedTuple):
    """Everything a row of timesteps [B, F] determines: two norms per block, one per control block,
    scale and shift."""

    blocks: list[tuple[Modulation, Modulation]]
    control: list[Modulation]
    head: tuple[Tensor, Tensor]


class AdaptiveNorm(nn.Module):
    """LayerNorm modulated by the time embedding."""

    def __init__(self, config: TransformerConfig, chunks: int = 6) -> None:
        super().__init__()
        self.chunks = chunks
        self.linear = nn.Linear(config.time_embed_dim, chunks * config.width)
        self.norm = nn.LayerNorm(config.width, config.norm_eps, config.norm_elementwise_affine)

    def parts(self, activated: Tensor) -> list[Tensor]:
        """Map SiLU(time embedding) [B, F, De] to `chunks` tensors [B, F, D]."""
        return list(self.linear(activated).chunk(self.chunks, dim=-1))

    def fold(self, shift: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Return (scale, shift) that turn a plain LayerNorm into affine LayerNorm x (1 + scale) +
        shift."""
        scale = 1 + scale
        if self.norm.weight is None:
            return scale, shift
        return self.norm.weight * scale, torch.addcmul(shift, scale, self.norm.bias)

    def modulation(self, activated: Tensor) -> Modulation:
        """Return a block's six parts; text and control tokens use the last latent's
        (docs/reference.md section 2)."""
        shift, scale, gate, token_shift, token_scale, token_gate = self.parts(activated)
        scale, shift = self.fold(shift, scale)
        token_scale, token_shift = self.fold(token_shift[:, -1:], token_scale[:, -1:])
        return Modulation(
            scale=scale.unsqueeze(2),
            shift=shift.unsqueeze(2),
            gate=gate.unsqueeze(2),
            token_scale=token_scale,
            token_shift=token_shift,
            token_gate=token_gate[:, -1:],
        )

    def apply_to(self, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        """Normalise x [..., D] and apply folded scale and shift."""
        return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=self.norm.eps), scale)


class Attention(nn.Module):
    """Projections of one attention layer, with LayerNorm over each head of q and k."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width, bias = config.width, config.attention_bias
        self.heads = config.num_attention_heads
        self.to_q = nn.Linear(width, width, bias)
        self.to_k = nn.Linear(width, width, bias)
        self.to_v = nn.Linear(width, width, bias)
        self.norm_q = nn.LayerNorm(config.attention_head_dim, QK_NORM_EPS)
        self.norm_k = nn.LayerNorm(config.attention_head_dim, QK_NORM_EPS)
        self.to_out = nn.Sequential(nn.Linear(width, width))

    @property
    def last(self) -> nn.Linear:
        """The output projection."""
        return cast(nn.Linear, self.to_out[0])

    def query(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., H, d]."""
        return self.norm_q(self.to_q(x).unflatten(-1, (self.heads, -1)))

    def keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[..., D] -> keys and values [..., H, d]."""
        k = self.norm_k(self.to_k(x).unflatten(-1, (self.heads, -1)))
        return k, self.to_v(x).unflatten(-1, (self.heads, -1))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[..., D] -> queries, keys and values [..., H, d]."""
        return self.query(x), *self.keys(x)

    def out(self, x: Tensor) -> Tensor:
        """[..., H, d] -> [..., D]."""
        return self.to_out(x.flatten(-2))


class GELU(nn.Module):
    """Linear map and tanh-GELU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.proj = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return tanh_gelu(self.proj(x))


class FeedForward(nn.Module):
    """D -> 4D, tanh-GELU, 4D -> D."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GELU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Joint self-attention and feed-forward of text and video."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm1 = AdaptiveNorm(config)
        self.attn1 = Attention(config)
        self.norm2 = AdaptiveNorm(config)
        self.ff = FeedForward(config.width)

    def forward(
        self,
        y: Tensor,
        x: Tensor,
        rows: tuple[Modulation, Modulation],
        group: SequenceGroup,
        lengths: list[int],
    ) -> tuple[Tensor, Tensor]:
        """Text y [B, N, D], video x [B, F, S, D] -> the same, changed."""
        tokens = _joined(self.norm1, y, x, rows[0])
        mixed = joint_attention(*self.attn1.project(tokens), group, lengths)
        y, x = _added(y, x, self.attn1.out(mixed), rows[0])
        return _added(y, x, self.ff(_joined(self.norm2, y, x, rows[1])), rows[1])


def _joined(norm: AdaptiveNorm, y: Tensor, x: Tensor, row: Modulation) -> Tensor:
    """Normalise text and video and join them: [B, N + F S, D]."""
    text = norm.apply_to(y, row.token_scale, row.token_shift)
    return torch.cat((text, norm.apply_to(x, row.scale, row.shift).flatten(1, 2)), dim=1)


def _added(y: Tensor, x: Tensor, change: Tensor, row: Modulation) -> tuple[Tensor, Tensor]:
    """Add the joined change [B, N + F S, D] to text and video through their gates."""
    text, video = change.split((y.shape[1], change.shape[1] - y.shape[1]), dim=1)
    return torch.addcmul(y, row.token_gate, text), torch.addcmul(
        x, row.gate, video.unflatten(1, x.shape[1:3])
    )


class ControlBlock(nn.Module):
    """Video tokens attend to the control tokens, one per latent; the text is untouched."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm1 = AdaptiveNorm(config)
        self.attn1 = Attention(config)

    def keys(self, control: Tensor, row: Modulation) -> tuple[Tensor, Tensor]:
        """Embedded control [B, F, D] -> keys [B, F, H, d] and values [B, F, H, D], each head's
        output projected."""
        k, v = self.attn1.keys(self.norm1.apply_to(control, row.token_scale, row.token_shift))
        weight = self.attn1.last.weight.unflatten(1, v.shape[-2:])  # [D, H, d]
        return k, torch.einsum("bfhd,ohd->bfho", v, weight)

    def forward(
        self, x: Tensor, keys: tuple[Tensor, Tensor], row: Modulation, bias: Tensor
    ) -> Tensor:
        """Video x [B, F, S, D] -> the same, changed."""
        q = self.attn1.query(self.norm1.apply_to(x, row.scale, row.shift))
        change = control_attention(q, *keys, bias) + self.attn1.last.bias
        return torch.addcmul(x, row.gate, change)


class PatchEmbed(nn.Module):
    """Patches of p x p latents and text features to tokens."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        patch = config.patch_size
        self.proj = nn.Conv2d(config.in_channels, config.width, patch, patch)
        self.text_proj = nn.Linear(config.text_embed_dim, config.width)

    def forward(self, patches: Tensor) -> Tensor:
        """Patches [B, F, S, C p p] -> tokens [B, F, S, D]; the convolution's stride is its size, so
        it is a matrix."""
        return F.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


class TimeEmbedding(nn.Module):
    """Sinusoids of the timestep through two linear maps."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(config.width, config.time_embed_dim)
        self.linear_2 = nn.Linear(config.time_embed_dim, config.time_embed_dim)

    def forward(self, timesteps: Tensor) -> Tensor:
        """Timesteps [B, F] -> [B, F, De]; the sinusoids are computed in fp32."""
        half = self.linear_1.in_features // 2
        omega = torch.exp(torch.arange(half, device=timesteps.device) * (-math.log(10000) / half))
        angles = timesteps.unsqueeze(-1).float() * omega
        phi = torch.cat((angles.cos(), angles.sin()), dim=-1).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(phi)))


def _control_embedding(config: TransformerConfig) -> nn.Sequential:
    """Control vectors [B, F, Dc] -> [B, F, D]; nothing where no block would read it."""
    if not config.steered:
        return nn.Sequential()
    return nn.Sequential(
        nn.Linear(config.control_dim, config.control_dim),
        nn.SiLU(),
        nn.Linear(config.control_dim, config.width),
        nn.SiLU(),
        nn.Linear(config.width, config.width),
    )


class Transformer(nn.Module):
    """Predicts the velocity of a window of latents. Build it under ``torch.device("meta")`` to skip
    initialisation."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.patch_embed = PatchEmbed(config)
        self.time_embedding = TimeEmbedding(config)
        self.control_embedding = _control_embedding(config)
        controlled = range(config.control_start_layer, config.control_end_layer)
        blocks = nn.ModuleList([TransformerBlock(config) for _ in range(config.num_layers)])
        self.transformer_blocks = cast(list[TransformerBlock], blocks)
        self.control_blocks = cast(
            list[ControlBlock], nn.ModuleList([ControlBlock(config) for _ in controlled])
        )
        self.norm_final = nn.LayerNorm(width, config.norm_eps, config.norm_elementwise_affine)
        self.norm_out = AdaptiveNorm(config, chunks=2)
        self.proj_out = nn.Linear(width, config.patch_size**2 * config.out_channels)
        # Tables of each size of window, made once and kept as long as the weights: captured steps
        # read them where they lie.
        self._position_table = functools.cache(position_table)
        self._control_bias = functools.cache(control_bias)

    def forward(
        self,
        latents: Tensor,
        timesteps: Tensor,
        text: Tensor,
        control: Tensor,
        group: SequenceGroup = SINGLE,
    ) -> Tensor:
        """latents [B, F, C, h, w], timesteps [B, F] (or [B]), text [B, N_t, Dt], control [B, F, Dc]
        -> velocity.

        The velocity has the latents' shape. Batches of one broadcast. Every rank of the group
        passes the same arguments and gets the whole result.
        """
        rows = self.modulate(timesteps)
        return self.denoise(
            latents, self.embed_text(text, group), rows, self.control_keys(control, rows), group
        )

    def embed_text(self, text: Tensor, group: SequenceGroup = SINGLE) -> TextTokens:
        """Project text [B, N_t, Dt] and keep this rank's slice."""
        start, stop = group.slice_bounds(text.shape[1])
        return TextTokens(self.patch_embed.text_proj(text[:, start:stop]), text.shape[1])

    def modulate(self, timesteps: Tensor) -> Timestep:
        """Compute every norm's modulation for timesteps [B, F]; [B] stands for the same timestep in
        all latents."""
        timesteps = timesteps.reshape(timesteps.shape[0], -1)
        activated = F.silu(self.time_embedding(timesteps))
        blocks = [
            (block.norm1.modulation(activated), block.norm2.modulation(activated))
            for block in self.transformer_blocks
        ]
        control = [block.norm1.modulation(activated) for block in self.control_blocks]
        scale, shift = self.norm_out.fold(*self.norm_out.parts(activated))
        return Timestep(blocks, control, (scale.unsqueeze(2), shift.unsqueeze(2)))

    def control_keys(self, control: Tensor, rows: Timestep) -> list[tuple[Tensor, Tensor]]:
        """Keys [B, n, H, d] and values [B, n, H, D] of every control block, for control vectors [B,
        n, Dc].

        They depend on the vector alone, not on its place: a stream computes them once for the whole
        vocabulary."""
        if not self.control_blocks:
            return []
        embedded = self.control_embedding(control)
        return [
            block.keys(embedded, row)
            for block, row in zip(self.control_blocks, rows.control, strict=True)
        ]

    def denoise(
        self,
        latents: Tensor,
        text: TextTokens,
        rows: Timestep,
        control: list[tuple[Tensor, Tensor]],
        group: SequenceGroup = SINGLE,
    ) -> Tensor:
        """One model call from prepared parts: latents [B, F, C, h, w] -> velocity [B, F, C, h,
        w]."""
        frames, height, width = latents.shape[1], latents.shape[3], latents.shape[4]
        tokens = self.grid(height, width)
        check_degree(group.size, self.config.num_attention_heads, tokens)
        start, stop = group.slice_bounds(tokens)
        x = self.patch_embed(self._patches(latents)[:, :, start:stop])
        x = x + self._positions(frames, height, width, x)[:, start:stop]
        y = text.tokens.expand(x.shape[0], -1, -1)
        texts, stripes = group.share_sizes(text.total), group.share_sizes(tokens)
        lengths = [part + frames * stripe for part, stripe in zip(texts, stripes, strict=True)]
        bias = self._control_bias(frames, tokens, start, stop, x.device)
        first = self.config.control_start_layer
        for i, block in enumerate(self.transformer_blocks):
            y, x = block(y, x, rows.blocks[i], group, lengths)
            if 0 <= (j := i - first) < len(control):
                x = self.control_blocks[j](x, control[j], rows.control[j], bias)
        x = self.proj_out(self.norm_out.apply_to(self.norm_final(x), *rows.head))
        return self._unpatch(group.all_gather(x, 2, stripes), height, width)

    def grid(self, height: int, width: int) -> int:
        """Return S, the tokens of a latent of height x width. Raises UserError when patches do not
        cover it."""
        patch = self.config.patch_size
        if height < patch or width < patch or height % patch or width % patch:
            raise UserError(
                f"latents of {height} x {width} cannot be cut into patches of {patch} x {patch}"
            )
        return (height // patch) * (width // patch)

    def _patches(self, latents: Tensor) -> Tensor:
        """[B, F, C, h, w] -> [B, F, S, C p p], raster order, features (channel, patch row, patch
        column)."""
        patch = self.config.patch_size
        # [B, F, C, rows, p, columns, p]
        cut = latents.unflatten(4, (-1, patch)).unflatten(3, (-1, patch))
        return cut.permute(0, 1, 3, 5, 2, 4, 6).flatten(4).flatten(2, 3)

    def _unpatch(self, x: Tensor, height: int, width: int) -> Tensor:
        """[B, F, S, C p p] -> [B, F, C, h, w]."""
        patch = self.config.patch_size
        cut = x.unflatten(3, (-1, patch, patch)).unflatten(2, (height // patch, width // patch))
        return cut.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)

    def _positions(self, frames: int, height: int, width: int, like: Tensor) -> Tensor:
        patch, config = self.config.patch_size, self.config
        return self._position_table(
            config.width,
            (frames, height // patch, width // patch),
            (config.temporal_interpolation_scale, config.spatial_interpolation_scale),
            like.dtype,
            like.device,
        )


def position_table(
    width: int,
    grid: tuple[int, int, int],
    scales: tuple[float, float],
    dtype: torch.dtype,
    device: torch.device,
) -> Tensor:
    """Return sin-cos positions [F, S, D] of a (frames, rows, columns) grid (docs/reference.md
    section 2, "Positions").

    A quarter of the channels encodes time, 3/8 the column, 3/8 the row; frames and places are
    divided by the scales."""
    with torch.inference_mode(False):
        frames, rows, columns = (torch.arange(n, dtype=torch.float64) for n in grid)
        time = _sinusoids(frames / scales[0], width // 4).view(len(frames), 1, 1, -1)
        column = _sinusoids(columns / scales[1], 3 * width // 8).view(1, 1, len(columns), -1)
        row = _sinusoids(rows / scales[1], 3 * width // 8).view(1, len(rows), 1, -1)
        parts = [part.expand(*grid, -1) for part in (time, column, row)]
        return torch.cat(parts, dim=-1).flatten(1, 2).float().to(device, dtype)


def _sinusoids(places: Tensor, width: int) -> Tensor:
    """[n] -> [n, width], sines first."""
    half = width // 2
    angles = places[:, None] * 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)
