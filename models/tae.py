"""The tiny video autoencoder, in the state-dict layout of the published TAECVX (`encoder.N.*`,
`decoder.N.*`).

Legend: B batch, n frames or latents, C latent channels, h x w latent size, p patch, H x W = 8ph x
8pw pixels. One latent holds four frames. Convolutions are 2-D 3x3; time is mixed by memory blocks (which see
their own previous input), by pooling and by growth. Nothing is normalised, so a stream decoded
latent by latent equals one whole decode.

Between two stages the layout has only linear layers without bias (pool or growth 1x1, then a 3x3
convolution, with stride 2 or nearest upsampling). They are applied as ONE convolution at the lower
resolution, whose kernel is composed from the stored weights in float32: the same function, about
half the work. Residual shortcuts are constants added to that kernel, hence free. The last layer,
too, works at half resolution, on the four phases (even and odd rows and columns) of the full one,
which saves moving wide full-resolution maps through memory. With patches of p x p pixels both ends
work on patches (3 p^2 channels) instead of pixels: p times the picture for about the same work.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from configs.errors import UserError
from configs.limits import real_number, whole_number
from models.frames import own_columns, to_uint8
from models.parallel import SINGLE, SequenceGroup

LATENT_FRAMES = 4  # frames per latent
PIXELS_PER_CELL = 8  # of one latent's side, in patches
MAX_WIDTH = 8192  # channels; more is a mistake in a file
MAX_PATCH = 4

# Positions in the published sequences (reference, tiny video autoencoder).
ENCODER_FIRST, ENCODER_LAST = "0", "17"
ENCODER_STAGES = (
    ("2", "3", ("4", "5", "6")),
    ("7", "8", ("9", "10", "11")),
    ("12", "13", ("14", "15", "16")),
)
POOLS = (2, 2, 1)  # frames joined into one at each encoder stage
DECODER_FIRST, DECODER_LAST = "1", "22"
DECODER_STAGES = (
    (("3", "4", "5"), "7", "8"),
    (("9", "10", "11"), "13", "14"),
    (("15", "16", "17"), "19", "20"),
)
GROWTHS = (1, 2, 2)  # frames made from one after each decoder stage
REACH = 9  # latents back to which a memory reaches: 3 + 3 + 3 / 2 for its blocks, rounded up, and 1


@dataclass(frozen=True)
class TinyVAEConfig:
    """Widths are stored in the shapes too; a weight folder's config adds what shapes cannot say.

    encoder_widths: after the first convolution and after each of the three stages (published: 64
    throughout). decoder_widths: of the three stages and of the last, full-resolution layer
    (published: 256, 128, 64, 64). residual_shortcuts: parameter-free paths around every change of
    resolution; False is the published TAECVX. scaling_factor: latents handed to the world are
    multiplied by it. patch_size: pixels of a side that the first layer takes, and the last one gives,
    as channels (published: 1).
    """

    encoder_widths: tuple[int, int, int, int] = (64, 64, 64, 64)
    decoder_widths: tuple[int, int, int, int] = (256, 128, 64, 64)
    latent_channels: int = 16
    image_channels: int = 3
    residual_shortcuts: bool = False
    scaling_factor: float = 1.0
    patch_size: int = 1

    @property
    def pixels_per_latent(self) -> int:
        """Of one latent's side."""
        return PIXELS_PER_CELL * self.patch_size

    @property
    def patch_channels(self) -> int:
        """Values of a patch: image channels x patch_size^2."""
        return self.image_channels * self.patch_size**2

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> "TinyVAEConfig":
        """From a `config.json`; keys that start with an underscore are ignored.

        Raises UserError for unknown keys and for widths that are not four positive whole numbers.
        """
        known = {key: value for key, value in values.items() if not key.startswith("_")}
        unknown = sorted(set(known) - set(TinyVAEConfig.__dataclass_fields__))
        if unknown:
            allowed = sorted(TinyVAEConfig.__dataclass_fields__)
            raise UserError(f"tiny VAE config: unknown keys {unknown}; known are {allowed}")
        for key in ("encoder_widths", "decoder_widths"):
            if key in known:
                known[key] = _widths(key, known[key])
        config = TinyVAEConfig(**known)
        whole_number("tiny VAE config: latent_channels", config.latent_channels, 1, MAX_WIDTH)
        whole_number("tiny VAE config: image_channels", config.image_channels, 3, 3)
        whole_number("tiny VAE config: patch_size", config.patch_size, 1, MAX_PATCH)
        real_number("tiny VAE config: scaling_factor", config.scaling_factor, 1e-12, 1e6)
        if not isinstance(shortcuts := config.residual_shortcuts, bool):
            raise UserError(
                f"tiny VAE config: residual_shortcuts must be true or false, got {shortcuts!r:.60}"
            )
        return config

    @staticmethod
    def from_tensors(
        tensors: Mapping[str, Any], *, scaling_factor: float, residual_shortcuts: bool = False
    ) -> "TinyVAEConfig":
        """Infer all widths from the shapes of a TAECVX state dict (values: anything with
        `.shape`)."""
        try:
            first = tensors[f"encoder.{ENCODER_FIRST}.weight"].shape
            last = tensors[f"decoder.{DECODER_LAST}.weight"].shape
            encoder = (
                first[0],
                *(tensors[f"encoder.{conv}.weight"].shape[0] for _, conv, _ in ENCODER_STAGES),
            )
            decoder = (
                *(tensors[f"decoder.{conv}.weight"].shape[1] for _, _, conv in DECODER_STAGES),
                last[1],
            )
            channels = tensors[f"encoder.{ENCODER_LAST}.weight"].shape[0]
        except KeyError as missing:
            raise UserError(
                f"tiny VAE: not a TAECVX state dict: tensor {missing} is missing"
            ) from None
        except IndexError:
            raise UserError(
                "tiny VAE: not a TAECVX state dict: its convolutions are no [out, in, 3, 3]"
            ) from None
        return TinyVAEConfig(
            encoder_widths=encoder,
            decoder_widths=decoder,
            latent_channels=channels,
            residual_shortcuts=residual_shortcuts,
            scaling_factor=scaling_factor,
            patch_size=max(1, math.isqrt(first[1] // 3)),
        )

    def to_json(self) -> dict[str, Any]:
        return {"_class_name": "TinyVAE", **asdict(self)}


def _widths(key: str, value: Any) -> tuple[int, int, int, int]:
    if (
        not isinstance(value, list | tuple)
        or len(value) != 4
        or not all(type(n) is int and 0 < n <= MAX_WIDTH for n in value)
    ):
        raise UserError(
            f"tiny VAE config: {key} must be four positive whole numbers, got {value!r:.60}"
        )
    return (value[0], value[1], value[2], value[3])


def _convolution(inputs: int, outputs: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)


class MemoryBlock(nn.Module):
    """x_t -> relu(conv3(relu(conv2(relu(conv1([x_t ; x_{t-1}]))))) + x_t). A fresh one starts close
    to relu(x_t)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        last = _convolution(width, width)
        with torch.no_grad():
            last.weight.mul_(0.3)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.conv = nn.Sequential(
            _convolution(2 * width, width), nn.ReLU(), _convolution(width, width), nn.ReLU(), last
        )


class TimeMix(nn.Module):
    """Holds the 1x1 matrix of a time pool [C, sC] or a time growth [sC, C] under the published key
    `conv.weight`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)


class Kernel(NamedTuple):
    """One convolution, ready to apply."""

    weight: Tensor
    bias: Tensor | None


class DecoderKernels(NamedTuple):
    """The decoder as plain convolutions."""

    first: Kernel
    blocks: list[list[tuple[Kernel, ...]]]  # per stage, per memory block: three convolutions
    ups: list[list[Kernel]]  # per stage, per frame that grows out of one: [4 x width, inputs, 3, 3]
    last: Kernel  # [4 x 3 p^2, 4 x width, 3, 3]
    patch: int  # p


class TinyVAE(nn.Module):
    """Encoder and decoder. Video in [-1, 1] as [B, n, 3, H, W]; latents (unscaled) as [B, n / 4, C,
    h, w]."""

    def __init__(self, config: TinyVAEConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.encoder_widths
        encoder: dict[str, nn.Module] = {
            ENCODER_FIRST: _convolution(config.patch_channels, widths[0])
        }
        for (pool, conv, blocks), frames, before, after in zip(
            ENCODER_STAGES, POOLS, widths, widths[1:]
        ):
            encoder[pool] = TimeMix(frames * before, before)
            encoder[conv] = _convolution(before, after, bias=False)
            encoder |= {block: MemoryBlock(after) for block in blocks}
        encoder[ENCODER_LAST] = _convolution(widths[-1], config.latent_channels)

        widths = config.decoder_widths
        decoder: dict[str, nn.Module] = {
            DECODER_FIRST: _convolution(config.latent_channels, widths[0])
        }
        for (blocks, growth, conv), frames, before, after in zip(
            DECODER_STAGES, GROWTHS, widths, widths[1:]
        ):
            decoder |= {block: MemoryBlock(before) for block in blocks}
            decoder[growth] = TimeMix(before, frames * before)
            decoder[conv] = _convolution(before, after, bias=False)
        decoder[DECODER_LAST] = _convolution(widths[-1], config.patch_channels)
        self.encoder, self.decoder = nn.ModuleDict(encoder), nn.ModuleDict(decoder)

    @property
    def scaling_factor(self) -> float:
        return self.config.scaling_factor

    def encode(self, video: Tensor) -> Tensor:
        """Video [B, n, 3, H, W] in [-1, 1] to latents [B, n / 4, C, H / 8p, W / 8p],
        unscaled. Differentiable.

        Raises UserError unless n is a multiple of 4 and H and W are multiples of 8p.
        """
        batch, frames, _, height, width = video.shape
        unit = self.config.pixels_per_latent
        if not frames or frames % LATENT_FRAMES or height % unit or width % unit:
            raise UserError(
                f"tiny VAE: cannot encode {frames} frames of {height}x{width}: expected a multiple of {LATENT_FRAMES} "
                f"frames, height and width multiples of {unit}"
            )
        x = F.pixel_unshuffle(video.flatten(0, 1).div(2).add(0.5), self.config.patch_size)
        x = _apply(x, self._kernel(f"encoder.{ENCODER_FIRST}")).relu_()
        for (pool, conv, blocks), joined in zip(ENCODER_STAGES, POOLS):
            matrix = self.get_parameter(f"encoder.{pool}.conv.weight")
            spread = self.get_parameter(f"encoder.{conv}.weight")
            kernel = _down_kernel(matrix, spread, self.config.residual_shortcuts)
            x = F.conv2d(
                x.reshape(x.shape[0] // joined, -1, *x.shape[2:]), kernel, stride=2, padding=1
            )
            for block in blocks:
                x = _remember(x, _shifted(x, batch), self._block(f"encoder.{block}"))
        return _apply(x, self._kernel(f"encoder.{ENCODER_LAST}")).unflatten(0, (batch, -1))

    def reconstruct(self, latents: Tensor) -> Tensor:
        """Latents [B, n, C, h, w], unscaled, to all 4n frames [B, 4n, 3, H, W], about [-1, 1] but
        not clamped.

        Differentiable, parallel over time: what training uses.
        """
        frames, _ = _decode(self.kernels(), latents, None, SINGLE)
        return frames.mul(2).sub(1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents [B, n, C, h, w], unscaled, to video in [-1, 1]: 4n frames for even n, 4n - 3 for
        odd n.

        Of an odd number of latents the first one counts as a single frame, as in the published
        decoders."""
        video = self.reconstruct(latents).clamp(-1, 1)
        return video[:, LATENT_FRAMES - 1 :] if latents.shape[1] % 2 else video

    def stream(
        self, group: SequenceGroup | None = None, dtype: torch.dtype | None = None
    ) -> "TinyStreamDecoder":
        """A fresh streaming decoder; with a group, each worker decodes a slice of the width.

        dtype: what it computes in (None: as the weights are), see `device.pick_decoder_dtype`.
        """
        return TinyStreamDecoder(self, group or SINGLE, dtype)

    def kernels(self) -> DecoderKernels:
        """The decoder as plain convolutions, composed from the present weights. Differentiable."""
        blocks = [
            [self._block(f"decoder.{block}") for block in stage] for stage, _, _ in DECODER_STAGES
        ]
        ups = []
        for _, growth, conv in DECODER_STAGES:
            matrix = self.get_parameter(f"decoder.{growth}.conv.weight")
            spread = self.get_parameter(f"decoder.{conv}.weight")
            ups.append(_up_kernels(matrix, spread, self.config.residual_shortcuts))
        first, last = (
            self._kernel(f"decoder.{DECODER_FIRST}"),
            self._kernel(f"decoder.{DECODER_LAST}"),
        )
        return DecoderKernels(first, blocks, ups, _phase_kernel(last), self.config.patch_size)

    def _kernel(self, name: str) -> Kernel:
        return Kernel(self.get_parameter(f"{name}.weight"), self.get_parameter(f"{name}.bias"))

    def _block(self, name: str) -> tuple[Kernel, ...]:
        return tuple(self._kernel(f"{name}.conv.{index}") for index in (0, 2, 4))


class TinyStreamDecoder:
    """Four frames per latent, from the first on; keeps one feature map per memory block
    (`frames.StreamDecoder`)."""

    reach = REACH

    def __init__(
        self, vae: TinyVAE, group: SequenceGroup, dtype: torch.dtype | None = None
    ) -> None:
        self.config, self.group = vae.config, group
        with torch.no_grad():
            self._kernels = _ready(vae.kernels(), dtype)
        self._memory: list[Tensor] | None = None

    def push(self, latents: Tensor) -> np.ndarray:
        """Latents [n, C, h, w], scaled, whole width -> uint8 [4n, H, W of this worker, 3]."""
        return to_uint8(self.decode(latents))

    @torch.inference_mode()
    def decode(self, latents: Tensor) -> Tensor:
        """As `push`, but before rounding: [4n, 3, H, W of this worker], about [-1, 1]."""
        if latents.ndim != 4 or not len(latents) or latents.shape[1] != self.config.latent_channels:
            expected = f"[n, {self.config.latent_channels}, h, w]"
            raise UserError(f"tiny VAE: expected latents {expected}, got {list(latents.shape)}")
        weight = self._kernels.first.weight
        start, stop = own_columns(self.group, latents.shape[-1])
        latents = (
            latents[..., start:stop].to(weight.device, weight.dtype).div(self.config.scaling_factor)
        )
        frames, self._memory = _decode(self._kernels, latents[None], self._memory, self.group)
        return frames[0].mul(2).sub(1)

    def state(self) -> dict[str, Tensor]:
        # Copies: the maps are views of longer ones, which would travel along.
        return {
            f"memory.{index}": memory.clone() for index, memory in enumerate(self._memory or [])
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        weight = self._kernels.first.weight
        memory = [
            state[f"memory.{index}"].to(weight.device, weight.dtype) for index in range(len(state))
        ]
        self._memory = memory or None


def _decode(
    kernels: DecoderKernels, latents: Tensor, memory: list[Tensor] | None, group: SequenceGroup
) -> tuple[Tensor, list[Tensor]]:
    """Latents [B, n, C, h, w] -> frames [B, 4n, 3, H, W] in about [0, 1]; the memory blocks' last
    inputs [B, ...]."""
    batch = latents.shape[0]
    carried: list[Tensor] = []
    x = latents.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    x = _apply(3 * torch.tanh(x / 3), kernels.first, group).relu_()
    for stage, (blocks, ups) in enumerate(zip(kernels.blocks, kernels.ups)):
        frames = x.shape[0] // batch
        for block in blocks:
            past = _shifted(x, batch, memory[len(carried)] if memory else None)
            carried.append(x[frames - 1 :: frames])
            x = _remember(x, past, block, group)
        x = _with_halo(x, group)
        grown = [_convolve(x, up, group) for up in ups]
        if stage == len(kernels.ups) - 1:  # the last layer takes the phases as they are
            grown = [_apply(frame.relu_(), kernels.last, group) for frame in grown]
        x = F.pixel_shuffle(torch.stack(grown, 1).flatten(0, 1), 2).contiguous(
            memory_format=torch.channels_last
        )
    return F.pixel_shuffle(x, kernels.patch).unflatten(0, (batch, -1)), carried


def _shifted(x: Tensor, batch: int, first: Tensor | None = None) -> Tensor:
    """Each frame's predecessor. x [B n, ...] -> the same shape; `first` [B, ...] precedes frame 0
    (None: zeros)."""
    frames = x.shape[0] // batch
    head = torch.zeros_like(x[::frames]) if first is None else first
    if batch == 1:
        return torch.cat([head, x[:-1]])
    return torch.cat([head[:, None], x.unflatten(0, (batch, frames))[:, :-1]], 1).flatten(0, 1)


def _remember(
    x: Tensor, past: Tensor, kernels: tuple[Kernel, ...], group: SequenceGroup | None = None
) -> Tensor:
    """One memory block."""
    y = _apply(torch.cat([x, past], 1), kernels[0], group).relu_()
    y = _apply(y, kernels[1], group).relu_()
    return _apply(y, kernels[2], group).add_(x).relu_()


def _apply(x: Tensor, kernel: Kernel, group: SequenceGroup | None = None) -> Tensor:
    """3x3 convolution of x [n, C, h, w]; inside a group the neighbours' edge columns replace the
    zero padding."""
    return _convolve(_with_halo(x, group), kernel, group)


def _with_halo(x: Tensor, group: SequenceGroup | None) -> Tensor:
    if group is None or group.size == 1:
        return x
    left, right = group.halo(x, dim=3)
    return torch.cat([left, x, right], 3)


def _convolve(x: Tensor, kernel: Kernel, group: SequenceGroup | None) -> Tensor:
    # of zeros; otherwise the halo is there already
    columns = 1 if group is None or group.size == 1 else 0
    return F.conv2d(x, kernel.weight, kernel.bias, padding=(1, columns))


def _down_kernel(pool: Tensor, conv: Tensor, shortcut: bool) -> Tensor:
    """Time pool [c, s c, 1, 1] then convolution [o, c, 3, 3] as one kernel [o, s c, 3, 3] (stride
    2, pad 1)."""
    kernel = torch.einsum("ocyx,ci->oiyx", conv.float(), pool[:, :, 0, 0].float())
    if shortcut:
        # The 2x2 pixels of one output lie under taps 1 and 2; (frame, channel, row, column) are
        # averaged in groups.
        outputs, inputs = kernel.shape[:2]
        average = _regroup(inputs * 4, outputs).to(kernel).reshape(outputs, inputs, 2, 2)
        kernel = kernel + F.pad(average, (1, 0, 1, 0))
    return kernel.to(conv.dtype)


def _up_kernels(growth: Tensor, conv: Tensor, shortcut: bool) -> list[Kernel]:
    """Nearest x2, time growth [s c, c, 1, 1], convolution [o, c, 3, 3]: one kernel [4 o, c, 3, 3]
    for each of s frames.

    Output channels are (channel, row phase, column phase), as pixel_shuffle wants them. Row 2y + p
    of the upsampled map reads rows (2y + p - 1 .. 2y + p + 1) // 2 of the map below: two of the
    three taps coincide.
    """
    outputs, inputs = conv.shape[:2]
    even, odd = [[1, 0, 0], [0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 1]]
    # [phase, low tap, up tap]
    taps = torch.tensor([even, odd], dtype=torch.float32, device=conv.device)
    frames = growth.float().reshape(-1, inputs, inputs)
    kernel = torch.einsum("ocyx,sci,pky,qlx->sopqikl", conv.float(), frames, taps, taps).reshape(
        -1, inputs, 3, 3
    )
    if shortcut:
        duplicate = _regroup(inputs, kernel.shape[0]).to(kernel)
        kernel = kernel + F.pad(duplicate[:, :, None, None], (1, 1, 1, 1))
    return [Kernel(frame.to(conv.dtype), None) for frame in kernel.split(4 * outputs)]


def _phase_kernel(kernel: Kernel) -> Kernel:
    """A convolution [o, c, 3, 3] at full resolution as one [4 o, 4 c, 3, 3] on the four phases at
    half resolution.

    Row 2y + p reads row 2y + p + d, d = -1..1, which is phase (p + d) mod 2 of low row y + (p + d)
    // 2."""
    weight, bias = kernel
    taps = torch.zeros(2, 2, 3, 3).to(weight)  # [phase out, phase in, low tap, up tap]
    for phase in range(2):
        for d in (-1, 0, 1):
            taps[phase, (phase + d) % 2, (phase + d) // 2 + 1, d + 1] = 1
    weight = (
        torch.einsum("ocyx,pmky,qnlx->opqcmnkl", weight, taps, taps).flatten(0, 2).flatten(1, 3)
    )
    return Kernel(weight, None if bias is None else bias.repeat_interleave(4))


def _regroup(inputs: int, outputs: int) -> Tensor:
    """Matrix [outputs, inputs] that duplicates neighbouring channels, or averages groups of
    them."""
    large, small = max(inputs, outputs), min(inputs, outputs)
    spread = torch.eye(small)[torch.arange(large) * small // large]  # [large, small]
    return spread if outputs == large else spread.T / spread.sum(0)[:, None]


def _ready(kernels: DecoderKernels, dtype: torch.dtype | None) -> DecoderKernels:
    """In the format to compute in (composed in the weights' own), channels last."""

    def convert(kernel: Kernel) -> Kernel:
        weight = kernel.weight.detach().to(dtype=dtype, memory_format=torch.channels_last)
        return Kernel(weight, None if kernel.bias is None else kernel.bias.detach().to(dtype=dtype))

    blocks = [
        [tuple(convert(kernel) for kernel in block) for block in stage] for stage in kernels.blocks
    ]
    ups = [[convert(kernel) for kernel in stage] for stage in kernels.ups]
    return DecoderKernels(convert(kernels.first), blocks, ups, convert(kernels.last), kernels.patch)
