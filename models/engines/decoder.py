"""The tiny decoder as a graph: the same convolutions as `models.tae`, in float32 or int8.

Legend: h x w latent size, n frames at a stage. A graph decodes one latent: its inputs are the latent
[1, C, h, w] and the memory blocks' last inputs, its outputs four frames [4, 3, H, W] in about
[0, 1] and the next memory. It works on whole pictures: a worker of several decodes all columns and
hands on its own, so that any number of workers gives the same frames.

In int8 the convolutions above latent size, nine tenths of the work, multiply bytes: an input is rounded
to 256 steps of a range that was measured (`training.int8`), weights to 255 steps per output channel;
sums, shortcuts and the memory stay in float32 (Jacob et al., arXiv 1712.05877). What happens at latent
size colours whole areas, and stays exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from configs.errors import UserError
from models.engines.openvino import Caller, Graph, constant, operations, parameter
from models.frames import own_columns, to_uint8
from models.parallel import SINGLE, SequenceGroup
from models.tae import DECODER_STAGES, GROWTHS, REACH, DecoderKernels, Kernel, TinyVAE

if TYPE_CHECKING:
    from models.engines.openvino import Node

STEPS = 256  # of an input's range; weights have one less, so that they are symmetric
Ranges = Mapping[str, float]  # largest input of every convolution, by name


class GraphDecoder:
    """A decoder's graphs, compiled once per latent size and shared by its streams."""

    def __init__(self, vae: TinyVAE, ranges: Ranges | None = None) -> None:
        """ranges: of `convolutions`, for int8; None computes in float32."""
        self.config = vae.config
        self._ranges = ranges
        with torch.no_grad():
            self._kernels = vae.kernels()
        self._graphs: dict[tuple[int, int], Graph] = {}

    def stream(self, group: SequenceGroup | None = None) -> GraphStream:
        """A fresh streaming decoder; with a group, this worker's slice of the width."""
        return GraphStream(self, group or SINGLE)

    def request(self, height: int, width: int) -> Caller:
        """A caller of the graph for latents of height x width; it computes with as many threads as
        torch did when the first one was made."""
        size = (height, width)
        if size not in self._graphs:
            builder = _Decoder(self._kernels, self.config.scaling_factor, self._ranges)
            self._graphs[size] = Graph(*builder.build(*size), torch.get_num_threads())
        return self._graphs[size].request()

    def memory(self, height: int, width: int) -> list[Tensor]:
        """A fresh stream's memory: zeros [1, channels, rows, columns] per memory block."""
        widths = self.config.decoder_widths
        return [
            torch.zeros(1, channels, height << stage, width << stage)
            for stage, (channels, (blocks, _, _)) in enumerate(zip(widths, DECODER_STAGES))
            for _ in blocks
        ]


class GraphStream:
    """Four frames per latent, from the first on (`frames.StreamDecoder`)."""

    reach = REACH

    def __init__(self, decoder: GraphDecoder, group: SequenceGroup) -> None:
        self._decoder, self._group = decoder, group
        self._request: Caller | None = None
        self._size = (0, 0)
        self._memory: list[Tensor] = []

    def push(self, latents: Tensor) -> np.ndarray:
        """Latents [n, C, h, w], scaled, whole width -> uint8 [4n, H, W of this worker, 3]."""
        return to_uint8(self.decode(latents))

    def decode(self, latents: Tensor) -> Tensor:
        """As `push`, but before rounding: [4n, 3, H, W of this worker], about [-1, 1]."""
        channels = self._decoder.config.latent_channels
        if latents.ndim != 4 or not len(latents) or latents.shape[1] != channels:
            raise UserError(
                f"tiny VAE: expected latents [n, {channels}, h, w], got {list(latents.shape)}"
            )
        start, stop = own_columns(self._group, latents.shape[-1])
        frames = torch.cat([self._one(latent[None].float()) for latent in latents])
        unit = self._decoder.config.pixels_per_latent
        return frames[..., unit * start : unit * stop].mul(2).sub(1)

    def state(self) -> dict[str, Tensor]:
        return {f"memory.{index}": memory for index, memory in enumerate(self._memory)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self._memory = [state[f"memory.{index}"].float() for index in range(len(state))]

    def _one(self, latent: Tensor) -> Tensor:
        """[1, C, h, w] -> [4, 3, H, W]."""
        height, width = size = latent.shape[2], latent.shape[3]
        if self._request is None or size != self._size:
            self._request, self._size = self._decoder.request(height, width), size
        memory = self._memory or self._decoder.memory(height, width)
        for index, value in enumerate([latent, *memory]):
            self._request.bind(index, value)
        frames, *self._memory = self._request()
        return frames


def convolutions() -> list[str]:
    """Names of the convolutions that int8 rounds: STAGE.BLOCK.NUMBER, up.STAGE, last."""
    names = []
    for stage, (blocks, _, _) in enumerate(DECODER_STAGES[1:], start=1):
        names += [
            f"{stage}.{block}.{number}" for block in range(len(blocks)) for number in range(3)
        ]
        names.append(f"up.{stage}")
    return [*names, "last"]


def largest_inputs(vae: TinyVAE, streams: Tensor) -> dict[str, float]:
    """Measure the ranges that int8 needs, on streams of scaled latents [B, n, C, h, w] from fresh
    memory: the largest magnitude that reaches each convolution."""
    with torch.no_grad():
        builder = _Decoder(vae.kernels(), vae.config.scaling_factor, None)
    inputs, outputs = builder.build(*streams.shape[-2:])
    found = dict.fromkeys(convolutions(), 0.0)
    nodes = [*outputs, *(builder.inputs[name] for name in found)]
    request = Graph(inputs, nodes, torch.get_num_threads()).request()
    for latents in streams:
        memory = GraphDecoder(vae).memory(*streams.shape[-2:])
        for latent in latents:
            for index, value in enumerate([latent[None].float(), *memory]):
                request.bind(index, value)
            results = request()
            memory = results[1 : len(outputs)]
            for name, value in zip(found, results[len(outputs) :], strict=True):
                found[name] = max(found[name], float(value.abs().max()))
    return found


class _Decoder:
    """Builds the graph of one latent (`models.tae._decode`)."""

    def __init__(
        self, kernels: DecoderKernels, scaling_factor: float, ranges: Ranges | None
    ) -> None:
        self.ops = operations()
        self.kernels, self.scaling_factor, self.ranges = kernels, scaling_factor, ranges
        self.inputs: dict[str, Node] = {}  # of every convolution, before rounding

    def build(self, height: int, width: int) -> tuple[list[Node], list[Node]]:
        """Inputs (latent, memory) and outputs (frames, memory) for latents of height x width."""
        ops, kernels = self.ops, self.kernels
        latent = parameter((1, kernels.first.weight.shape[1], height, width))
        held: list[Node] = []
        carried: list[Node] = []
        bounded = ops.tanh(ops.multiply(latent, constant(1 / (3 * self.scaling_factor))))
        x = ops.relu(self._convolve("first", ops.multiply(bounded, constant(3.0)), kernels.first))
        frames = 1
        for stage, (blocks, ups) in enumerate(zip(kernels.blocks, kernels.ups)):
            size = (height << stage, width << stage)
            for number, block in enumerate(blocks):
                held.append(parameter((1, block[0].weight.shape[1] // 2, *size)))
                past, last = self._shifted(x, held[-1], frames)
                carried.append(last)
                x = self._remember(f"{stage}.{number}", x, past, block)
            x = self._grown(stage, x, ups, frames)
            frames *= GROWTHS[stage]
        if kernels.patch > 1:
            x = ops.depth_to_space(x, "depth_first", kernels.patch)
        return [latent, *held], [x, *carried]

    def _shifted(self, x: Node, memory: Node, frames: int) -> tuple[Node, Node]:
        """Each frame's predecessor, and the last frame."""
        if frames == 1:
            return memory, x
        parts = self._frames(x, frames)
        return self.ops.concat([memory, *parts[:-1]], 0), parts[-1]

    def _remember(self, name: str, x: Node, past: Node, block: tuple[Kernel, ...]) -> Node:
        """One memory block."""
        ops = self.ops
        y = ops.relu(self._convolve(f"{name}.0", ops.concat([x, past], 1), block[0]))
        y = ops.relu(self._convolve(f"{name}.1", y, block[1]))
        return ops.relu(ops.add(self._convolve(f"{name}.2", y, block[2]), x))

    def _grown(self, stage: int, x: Node, ups: list[Kernel], frames: int) -> Node:
        """Twice the size, and as many frames from each as there are kernels, in order of time; the
        last layer takes the phases as they are."""
        ops = self.ops
        grown = [self._convolve(f"up.{stage}", x, up) for up in ups]
        if stage == len(GROWTHS) - 1:
            grown = [self._convolve("last", ops.relu(y), self.kernels.last) for y in grown]
        grown = [ops.depth_to_space(y, "depth_first", 2) for y in grown]
        if len(grown) == 1:
            return grown[0]
        parts = [self._frames(y, frames) for y in grown]
        return ops.concat([part[frame] for frame in range(frames) for part in parts], 0)

    def _frames(self, x: Node, frames: int) -> list[Node]:
        if frames == 1:
            return [x]
        split = self.ops.split(x, constant(0), frames)
        return [split.output(frame) for frame in range(frames)]

    def _convolve(self, name: str, x: Node, kernel: Kernel) -> Node:
        """3x3, padded by zeros."""
        ops, weight = self.ops, constant(kernel.weight)
        self.inputs.setdefault(name, x)  # where one is used for several frames, of the first
        if self.ranges is not None and name in self.ranges:
            x, weight = self._rounded(x, self.ranges[name]), self._rounded_weight(kernel.weight)
        ones = [1, 1]
        y = ops.convolution(x, weight, ones, ones, ones, ones)
        return y if kernel.bias is None else ops.add(y, constant(kernel.bias.view(1, -1, 1, 1)))

    def _rounded(self, x: Node, high: float) -> Node:
        """x, never negative after a ReLU, in steps from 0 to `high`."""
        ends = [constant(0.0), constant(max(high, 1e-6))] * 2  # a block may never be active
        return self.ops.fake_quantize(x, *ends, STEPS)

    def _rounded_weight(self, weight: Tensor) -> Node:
        high = weight.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
        ends = [constant(-high), constant(high)] * 2
        return self.ops.fake_quantize(constant(weight), *ends, STEPS - 1)
