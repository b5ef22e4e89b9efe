"""The full video autoencoder AutoencoderKLCogVideoX: encode, decode (whole, tiled, streaming,
sharded by width).

Legend: B batch, T frames (or latents) of one call, C latent channels, h x w latent size, H x W = 8h
x 8w pixels. Inside, tensors are [B, channels, T, height, width]; at the border frame-major: [B, T,
channels, height, width].

All that a pass carries besides its tensor is in one explicit `Pass`: the cache of the causal
convolutions (their last two input frames; kernel-1 convolutions need none), the group of workers
that share the width, and the rule for single frames. Facts: docs/reference.md sections 1.4 (names
and shapes) and 7 (chunks, cache, tiles, slices).
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.errors import UserError
from models.frames import own_columns, to_uint8
from models.parallel import SINGLE, SequenceGroup
from models.tiles import Tiles, in_tiles
from models.vae_config import PIXELS_PER_LATENT, FullVAEConfig

ENCODE_CHUNK = 8  # frames
DECODE_CHUNK = 2  # latents
REACH = 64  # latents back to which the decoder's memory reaches: about 45, and room
TIME_LEVELS = 2  # the first two down (up) blocks halve (double) time: four frames a latent


@dataclass
class Pass:
    """What goes along with a tensor through the network.

    cache: last two input frames [B, channels, 2, height, own width] of every causal convolution, by
    module name. group: the workers that share the width. double_single: a single frame becomes two
    where time doubles (streaming, docs/reference.md section 7.1); otherwise it stays one. in_place:
    the cache's tensors are allocated once and overwritten, not replaced.
    """

    cache: dict[str, Tensor] = field(default_factory=dict)
    group: SequenceGroup = field(default_factory=SequenceGroup.single)
    double_single: bool = False
    in_place: bool = False


@dataclass(frozen=True)
class LatentDistribution:
    """A Gaussian per latent value: mean and logvar [B, F, C, h, w], unscaled."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """mean + deviation x noise, noise of the same shape."""
        return self.mean + (self.logvar / 2).exp() * noise


class CausalConv3d(nn.Module):
    """3x3x3 convolution that looks two frames back: into the cache, or at copies of the very first
    frame."""

    cache_key = ""  # the module's name, set by FullVAE

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, padding=(0, 1, 1))

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        """[B, inputs, T, H, own W] -> [B, outputs, T, H, own W]."""
        past = run.cache.get(self.cache_key)
        first = x[:, :, :1].expand(-1, -1, 2, -1, -1) if past is None else past
        x = torch.cat([_like(x, first), x], 2)
        if run.in_place and past is not None:
            past.copy_(x[:, :, -2:])
        else:
            run.cache[self.cache_key] = x[:, :, -2:].clone()  # a view would keep all of x alive
        return convolve(self.conv, x, run.group)


class PointwiseConv3d(nn.Module):
    """1x1x1 convolution under the published key `.conv`; it has no past and no neighbours."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, T, H, own W] -> [B, outputs, T, H, own W]."""
        return self.conv(x)


class GroupNorm(nn.GroupNorm):
    """Group normalisation over the frames of this call and the width of all workers."""

    def forward(  # type: ignore[override]
        self, x: Tensor, run: Pass, latents: Tensor | None = None
    ) -> Tensor:
        """[B, c, T, H, own W] -> the same shape; the latents are `SpatialNorm`'s."""
        if run.group.size == 1:
            return super().forward(x)
        grouped = x.float().unflatten(1, (self.num_groups, -1)).flatten(2)  # [B, groups, values]
        mean, variance = _group_moments(grouped, run.group)
        y = ((grouped - mean) * torch.rsqrt(variance + self.eps)).view(x.shape)
        shape = (1, -1, *(1,) * (x.ndim - 2))
        return _like(x, (y * self.weight.view(shape) + self.bias.view(shape)).to(x.dtype))


def _group_moments(grouped: Tensor, group: SequenceGroup) -> tuple[Tensor, Tensor]:
    """Mean and variance [B, groups, 1] of values [B, groups, n] that are spread over workers with
    different n.

    Each worker sends (count, mean, sum of squares about its own mean): one small exchange, no
    cancellation."""
    mean = grouped.mean(2, keepdim=True)
    spread = (grouped - mean).square_().sum(2, keepdim=True)
    mine = torch.stack([torch.full_like(mean, grouped.shape[2]), mean, spread])
    counts, means, spreads = group.all_gather(mine[None], 0, sizes=[1] * group.size).unbind(1)
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    return mean, (spreads + counts * (means - mean).square()).sum(0) / total


class SpatialNorm(nn.Module):
    """GroupNorm, then scale and shift by 1x1x1 convolutions of the latents, spread to the features'
    size.

    The convolutions act on single values, so they run at the latents' size and only their results
    are spread."""

    def __init__(self, width: int, config: FullVAEConfig) -> None:
        super().__init__()
        self.norm_layer = GroupNorm(config.norm_num_groups, width, config.norm_eps)
        self.conv_y = PointwiseConv3d(config.latent_channels, width)
        self.conv_b = PointwiseConv3d(config.latent_channels, width)

    def forward(self, x: Tensor, run: Pass, latents: Tensor | None = None) -> Tensor:
        """x [B, c, T, H, own W], latents [B, C, T', h, own w] -> x's shape."""
        assert latents is not None, "the decoder's norms need the latents"
        frames, (height, width) = x.shape[2], latents.shape[3:]
        times = torch.tensor(_time_map(latents.shape[2], frames), device=x.device)
        scale, shift = (
            _like(x, conv(latents)[:, :, times])[:, :, :, :, None, :, None]
            for conv in (self.conv_y, self.conv_b)
        )
        y = self.norm_layer(x, run)
        # [B, c, T, h, s, w, s]
        blocks = y.unflatten(4, (width, -1)).unflatten(3, (height, -1))
        torch.addcmul(shift, blocks, scale, out=blocks)
        return y


def _time_map(latents: int, frames: int) -> list[int]:
    """The latent that each frame belongs to: an odd number > 1 starts with the single frame of the
    first latent."""
    if frames > 1 and frames % 2:
        return [0] + [1 + k * (latents - 1) // (frames - 1) for k in range(frames - 1)]
    return [k * latents // frames for k in range(frames)]


Norm = Callable[[int], nn.Module]  # width -> GroupNorm (encoder) or SpatialNorm (decoder)


class ResnetBlock(nn.Module):
    """norm, SiLU, conv, norm, SiLU, conv, and a 1x1x1 shortcut where the width changes."""

    def __init__(self, inputs: int, outputs: int, norm: Norm) -> None:
        super().__init__()
        self.norm1, self.conv1 = norm(inputs), CausalConv3d(inputs, outputs)
        self.norm2, self.conv2 = norm(outputs), CausalConv3d(outputs, outputs)
        self.conv_shortcut = nn.Conv3d(inputs, outputs, 1) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, run: Pass, latents: Tensor | None = None) -> Tensor:
        """[B, inputs, T, H, own W] -> [B, outputs, T, H, own W]; latents for the decoder's norms."""
        y = self.conv1(F.silu(self.norm1(x, run, latents), inplace=True), run)
        y = self.conv2(F.silu(self.norm2(y, run, latents), inplace=True), run)
        return y.add_(self.conv_shortcut(x))


class Downsampler(nn.Module):
    """Average pairs of frames (if `time`), then a 2-D convolution with stride 2. The encoder is
    never sharded."""

    def __init__(self, width: int, time: bool) -> None:
        super().__init__()
        self.conv, self.time = nn.Conv2d(width, width, 3, stride=2), time

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        """[B, c, T, H, W] -> [B, c, T or ceil(T/2), H/2, W/2]."""
        if self.time and x.shape[2] > 1:
            single = x.shape[2] % 2  # the first of an odd number stays alone
            pairs = x[:, :, single:].unflatten(2, (-1, 2)).mean(3)
            x = torch.cat([x[:, :, :1], pairs], 2) if single else pairs
        return _per_frame(x, lambda frames: self.conv(F.pad(frames, (0, 1, 0, 1))))


class Upsampler(nn.Module):
    """Nearest x2 in space and (if `time`) in time, then a 2-D convolution."""

    def __init__(self, width: int, time: bool) -> None:
        super().__init__()
        self.conv, self.time = nn.Conv2d(width, width, 3, padding=1), time

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        """[B, c, T, H, own W] -> [B, c, T to 2T, 2H, 2 own W]; without `double_single` the first of
        an odd number of frames stays one."""
        if self.time and (x.shape[2] > 1 or run.double_single):
            single = x.shape[2] % 2 if x.shape[2] > 1 else 0
            times = [0] * single + [k for k in range(single, x.shape[2]) for _ in range(2)]
            x = _like(x, x[:, :, times])
        return _per_frame(
            x,
            lambda frames: convolve(self.conv, F.interpolate(frames, scale_factor=2.0), run.group),
        )


def _like(x: Tensor, values: Tensor) -> Tensor:
    """`values` in the order that x's elements have in memory: two orders in one call are slow."""
    last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
    order = last if x.is_contiguous(memory_format=last) else torch.contiguous_format
    return values.contiguous(memory_format=order)


def _per_frame(x: Tensor, apply: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a 2-D function to every frame of x [B, c, T, height, width]."""
    return apply(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (x.shape[0], -1)).transpose(1, 2)


def convolve(conv: nn.Conv2d | nn.Conv3d, x: Tensor, group: SequenceGroup) -> Tensor:
    """A 3-wide convolution; inside a group the neighbours' edge columns take the place of the zero
    padding."""
    if group.size == 1:
        return conv(x)
    left, right = group.halo(x, dim=x.ndim - 1)
    x = torch.cat([_like(x, left), x, _like(x, right)], -1)
    padding = (*conv.padding[:-1], 0)
    apply = F.conv3d if isinstance(conv, nn.Conv3d) else F.conv2d
    return apply(x, conv.weight, conv.bias, padding=padding)


class Block(nn.Module):
    """Resnet blocks and, at most, one change of resolution."""

    def __init__(self, inputs: int, outputs: int, layers: int, norm: Norm) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(
            ResnetBlock(outputs if i else inputs, outputs, norm) for i in range(layers)
        )
        self.downsamplers, self.upsamplers = nn.ModuleList(), nn.ModuleList()

    def forward(self, x: Tensor, run: Pass, latents: Tensor | None = None) -> Tensor:
        """[B, inputs, T, H, own W] -> [B, outputs, T*, H*, W*]; * changed by the resampler, if any."""
        for resnet in self.resnets:
            x = resnet(x, run, latents)
        for resample in (*self.downsamplers, *self.upsamplers):
            x = resample(x, run)
        return x


class Encoder(nn.Module):
    """Video [B, 3, T, H, W] -> moments [B, 2C, T', h, w]."""

    def __init__(self, config: FullVAEConfig) -> None:
        super().__init__()
        widths = config.block_out_channels

        def norm(width: int) -> nn.Module:
            return GroupNorm(config.norm_num_groups, width, config.norm_eps)

        self.conv_in = CausalConv3d(config.in_channels, widths[0])
        self.down_blocks = nn.ModuleList()
        for level, (inputs, outputs) in enumerate(zip((widths[0], *widths), widths, strict=False)):
            block = Block(inputs, outputs, config.layers_per_block, norm)
            if level < len(widths) - 1:
                block.downsamplers.append(Downsampler(outputs, level < TIME_LEVELS))
            self.down_blocks.append(block)
        self.mid_block = Block(widths[-1], widths[-1], 2, norm)
        self.norm_out = norm(widths[-1])
        self.conv_out = CausalConv3d(widths[-1], 2 * config.latent_channels)

    def forward(self, x: Tensor, run: Pass) -> Tensor:
        x = self.conv_in(x, run)
        for block in (*self.down_blocks, self.mid_block):
            x = block(x, run)
        return self.conv_out(F.silu(self.norm_out(x, run), inplace=True), run)


class Decoder(nn.Module):
    """Latents [B, C, T, h, w] -> video [B, 3, T', H, W]."""

    def __init__(self, config: FullVAEConfig) -> None:
        super().__init__()
        widths = config.block_out_channels[::-1]

        def norm(width: int) -> nn.Module:
            return SpatialNorm(width, config)

        self.conv_in = CausalConv3d(config.latent_channels, widths[0])
        self.mid_block = Block(widths[0], widths[0], 2, norm)
        self.up_blocks = nn.ModuleList()
        for level, (inputs, outputs) in enumerate(zip((widths[0], *widths), widths, strict=False)):
            block = Block(inputs, outputs, config.layers_per_block + 1, norm)
            if level < len(widths) - 1:
                block.upsamplers.append(Upsampler(outputs, level < TIME_LEVELS))
            self.up_blocks.append(block)
        self.norm_out = norm(widths[-1])
        self.conv_out = CausalConv3d(widths[-1], config.out_channels)

    def forward(self, latents: Tensor, run: Pass) -> Tensor:
        x = self.conv_in(latents, run)
        for block in (self.mid_block, *self.up_blocks):
            x = block(x, run, latents)
        return self.conv_out(F.silu(self.norm_out(x, run, latents), inplace=True), run)


class FullVAE(nn.Module):
    """Encoder and decoder with the published names and shapes (436 tensors at the published
    widths)."""

    def __init__(self, config: FullVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        for name, module in self.named_modules():
            if isinstance(module, CausalConv3d):
                module.cache_key = name

    @property
    def scaling_factor(self) -> float:
        return self.config.scaling_factor

    def channels_last(self) -> "FullVAE":
        """Order the kernels, and with them all maps, by channels last: the order that convolutions
        compute in, on a CPU a fifth faster. The numbers stay the same up to rounding."""
        orders = {4: torch.channels_last, 5: torch.channels_last_3d}
        for weight in self.parameters():
            if weight.ndim in orders:
                weight.data = weight.data.contiguous(memory_format=orders[weight.ndim])
        return self

    @torch.no_grad()
    def encode(self, video: Tensor, *, tiled: bool = False) -> LatentDistribution:
        """Video [B, n, 3, H, W] in [-1, 1] to a distribution of latents [B, F, C, H / 8, W / 8],
        unscaled.

        n = 1 + 4k frames give 1 + k latents, n = 4k give k. Raises UserError for other n, and for H
        or W that are no multiples of 8.
        """
        batch, frames, _, height, width = video.shape
        if frames % 4 > 1 or not frames or height % 8 or width % 8:
            raise UserError(
                f"VAE: cannot encode {frames} frames of {height}x{width}: expected 4k or 4k + 1 frames, height and "
                "width multiples of 8"
            )
        pixels, latents = self._tile_sizes()
        tiles = Tiles(pixels, latents) if tiled else None
        moments = in_tiles(video.transpose(1, 2), self._encode_chunks, tiles)
        mean, logvar = moments.transpose(1, 2).chunk(2, dim=2)
        return LatentDistribution(mean, logvar.clamp(-30, 20))

    @torch.no_grad()
    def decode(self, latents: Tensor, *, tiled: bool = False) -> Tensor:
        """Latents [B, n, C, h, w], unscaled, to video in about [-1, 1]: 4n frames for even n, 4n -
        3 for odd n.

        tiled: decode overlapping tiles of half the sample size and blend them, as the published
        offline scripts do; it bounds the memory and gives (slightly) different numbers.
        """
        pixels, size = self._tile_sizes()
        tiles = Tiles(size, pixels) if tiled else None
        return in_tiles(latents.transpose(1, 2), self._decode_chunks, tiles).transpose(1, 2)

    def stream(
        self, group: SequenceGroup | None = None, *, in_place: bool = False
    ) -> "FullStreamDecoder":
        """A fresh streaming decoder; with a group, each worker decodes a slice of the width.

        in_place: its memory is allocated once, by the first frames, and overwritten from then on.
        """
        return FullStreamDecoder(self, group or SINGLE, in_place)

    def _encode_chunks(self, video: Tensor) -> Tensor:
        """[B, 3, n, H, W] -> [B, 2C, F, h, w], eight frames at a time, the remainder with the first
        eight."""
        run = Pass()
        return torch.cat([self.encoder(chunk, run) for chunk in _chunks(video, ENCODE_CHUNK)], 2)

    def _decode_chunks(self, latents: Tensor) -> Tensor:
        run = Pass()
        return torch.cat([self.decoder(chunk, run) for chunk in _chunks(latents, DECODE_CHUNK)], 2)

    def _tile_sizes(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Height and width of a tile, in pixels and in latents."""
        height, width = self.config.sample_height // 2, self.config.sample_width // 2
        return (height, width), (height // PIXELS_PER_LATENT, width // PIXELS_PER_LATENT)


def _chunks(x: Tensor, size: int) -> list[Tensor]:
    """Split time (axis 2) into chunks of `size`; the remainder is joined to the first chunk."""
    first = size + x.shape[2] % size
    return [x] if x.shape[2] <= first else [x[:, :, :first], *x[:, :, first:].split(size, 2)]


class FullStreamDecoder:
    """Two latents first (eight frames), then latent after latent, four frames each (see
    `frames.StreamDecoder`)."""

    reach = REACH

    def __init__(self, vae: FullVAE, group: SequenceGroup, in_place: bool) -> None:
        self.config, self._decoder = vae.config, vae.decoder
        self._run = Pass(group=group, double_single=True, in_place=in_place)
        # the very first latent, until the second comes: [1, C, h, own w]
        self._waiting: Tensor | None = None

    def push(self, latents: Tensor) -> np.ndarray:
        """Latents [n, C, h, w], scaled, whole width -> uint8 [m, H, W of this worker, 3].

        m = 4n, but the very first latent only waits (m = 0) and comes out with the second.
        """
        return to_uint8(self.decode(latents))

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """As `push`, but before rounding: [m, 3, H, W of this worker], about [-1, 1]."""
        if latents.ndim != 4 or not len(latents) or latents.shape[1] != self.config.latent_channels:
            expected = f"[n, {self.config.latent_channels}, h, w]"
            raise UserError(f"VAE: expected latents {expected}, got {list(latents.shape)}")
        weight = self._decoder.conv_in.conv.weight
        start, stop = own_columns(self._run.group, latents.shape[-1])
        latents = (
            latents[..., start:stop].to(weight.device, weight.dtype).div(self.config.scaling_factor)
        )
        if self._run.cache:
            return torch.cat([self._frames(latent) for latent in latents.split(1)])
        latents = latents if self._waiting is None else torch.cat([self._waiting, latents])
        if len(latents) == 1:
            self._waiting = latents.clone()
            return latents.new_empty(
                0, self.config.out_channels, *(PIXELS_PER_LATENT * n for n in latents.shape[2:])
            )
        self._waiting = None
        first, *others = latents.split([2, *[1] * (len(latents) - 2)])
        return torch.cat([self._frames(chunk) for chunk in (first, *others)])

    def _frames(self, latents: Tensor) -> Tensor:
        """[T, C, h, w] -> [4T, 3, H, W]."""
        return self._decoder(latents.transpose(0, 1)[None], self._run)[0].transpose(0, 1)

    @property
    def memory(self) -> dict[str, Tensor]:
        """The last two input frames of every causal convolution, by its name."""
        return self._run.cache

    def state(self) -> dict[str, Tensor]:
        waiting = {} if self._waiting is None else {"waiting": self._waiting}
        held = {f"cache.{key}": value for key, value in self.memory.items()}
        if self._run.in_place:  # what was handed out must stay as it is
            held = {key: value.clone() for key, value in held.items()}
        return {**waiting, **held}

    def load_state(self, state: dict[str, Tensor]) -> None:
        weight = self._decoder.conv_in.conv.weight
        copied = self._run.in_place  # what is overwritten must be our own
        state = {
            key: value.to(weight.device, weight.dtype, copy=copied) for key, value in state.items()
        }
        self._waiting = state.get("waiting")
        self._run.cache = {
            key.removeprefix("cache."): value for key, value in state.items() if key != "waiting"
        }
