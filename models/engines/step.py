"""The transformer's step as a graph: the same equations as `models.transformer.Transformer.denoise`,
for one rank.

Legend: B prompts, F latents in the window, C x h x w one latent, S tokens per latent, p patch, N text
tokens, D width, H heads, d head width. A graph is made for one B; what a row of timesteps determines
(modulation, control keys of the whole vocabulary) is bound once per row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.attention import control_bias
from models.engines.openvino import Caller, Graph, constant, operations, parameter
from models.transformer import (
    Attention,
    ControlBlock,
    FeedForward,
    TextTokens,
    Timestep,
    Transformer,
    TransformerBlock,
)

if TYPE_CHECKING:
    from models.engines.openvino import Node

Keys = Sequence[tuple[Tensor, Tensor]]  # per control block: [1, n, H, d] and [1, n, H, D]


class GraphStepper:
    """Velocity of a window; see `models.engines.serve.Stepper`. Computes in float32."""

    def __init__(self, transformer: Transformer, rows: Sequence[tuple[Timestep, Keys]]) -> None:
        self._transformer = transformer
        self._rows = [[*_flat(row, keys)] for row, keys in rows]
        self._requests: dict[tuple[int, ...], Caller] = {}

    def velocity(self, latents: Tensor, text: TextTokens, row: int, labels: Tensor) -> Tensor:
        """Window [F, C, h, w], texts of B prompts, label ids [F] -> [B, F, C, h, w]."""
        key = (row, *latents.shape, *text.tokens.shape)
        if key not in self._requests:
            self._prepare(latents, text.tokens)
        request = self._requests[key]
        request.bind(0, latents)
        request.bind(1, text.tokens)
        request.bind(2, labels)
        return request()[0]

    def _prepare(self, latents: Tensor, tokens: Tensor) -> None:
        """Compile for these shapes; one request for every row of timesteps."""
        graph = _graph(self._transformer, self._rows[0], latents.shape, tokens.shape)
        for number, row in enumerate(self._rows):
            request = graph.request()
            for index, value in enumerate(row, start=3):
                request.bind(index, value)
            self._requests[(number, *latents.shape, *tokens.shape)] = request


def _flat(row: Timestep, keys: Keys) -> Iterator[Tensor]:
    """A row's tensors in the order in which `_Step` asks for them."""
    for norms in row.blocks:
        for norm in norms:
            yield from norm
    for norm, (k, v) in zip(row.control, keys, strict=True):
        yield from (norm.scale, norm.shift, norm.gate, k, v)
    yield from row.head


def _graph(
    transformer: Transformer, row: Sequence[Tensor], window: torch.Size, text: torch.Size
) -> Graph:
    latents, tokens = parameter(window), parameter(text)
    labels = parameter(window[:1], integers=True)
    bound = [parameter(value.shape) for value in row]
    step = _Step(transformer, window, text)
    velocity = step.build(latents, tokens, labels, iter(bound))
    return Graph([latents, tokens, labels, *bound], [velocity], torch.get_num_threads())


class _Step:
    """Builds the graph of one step, in the order of the transformer's own modules."""

    def __init__(self, transformer: Transformer, window: torch.Size, text: torch.Size) -> None:
        self.ops = operations()
        self.transformer, self.config = transformer, transformer.config
        self.frames, self.channels, self.height, self.width = window
        self.batch, self.texts = text[:2]
        self.tokens = transformer.grid(self.height, self.width)

    def build(self, latents: Node, text: Node, labels: Node, row: Iterator[Node]) -> Node:
        """All of it: velocity [B, F, C, h, w]. `row` gives the tensors of `_flat`."""
        ops, config, transformer = self.ops, self.config, self.transformer
        blocks = [
            [[next(row) for _ in range(6)] for _ in range(2)] for _ in range(config.num_layers)
        ]
        control = [[next(row) for _ in range(5)] for _ in transformer.control_blocks]
        head = (next(row), next(row))
        x, y = self._embedded(latents), text
        bias = control_bias(self.frames, self.tokens, 0, self.tokens, torch.device("cpu"))
        seen = constant(bias.flatten(0, 1))
        for i, block in enumerate(transformer.transformer_blocks):
            y, x = self._block(block, y, x, blocks[i])
            if 0 <= (j := i - config.control_start_layer) < len(control):
                x = self._control(transformer.control_blocks[j], x, control[j], labels, seen)
        final = transformer.norm_final
        x = self._norm(x, final.eps)
        if final.weight is not None:
            x = ops.add(ops.multiply(x, constant(final.weight)), constant(final.bias))
        x = self._modulated(x, *head, transformer.norm_out.norm.eps)
        return self._pictures(self._linear(x, transformer.proj_out))

    def _embedded(self, latents: Node) -> Node:
        """[F, C, h, w] -> tokens with their places [B, F, S, D]."""
        ops, patch, config = self.ops, self.config.patch_size, self.config
        rows, columns = self.height // patch, self.width // patch
        cut = self._shaped(latents, self.frames, self.channels, rows, patch, columns, patch)
        cut = ops.transpose(cut, constant((0, 2, 4, 1, 3, 5)))
        cut = self._shaped(cut, 1, self.frames, self.tokens, self.channels * patch * patch)
        projection = self.transformer.patch_embed.proj
        x = self._matrix(cut, projection.weight.flatten(1), projection.bias)
        like = torch.zeros(1)
        x = ops.add(
            x, constant(self.transformer._positions(self.frames, self.height, self.width, like))
        )
        shape = (self.batch, self.frames, self.tokens, config.width)
        return ops.broadcast(x, constant(shape)) if self.batch > 1 else x

    def _pictures(self, x: Node) -> Node:
        """[B, F, S, C p p] -> [B, F, C, h, w]."""
        patch, config = self.config.patch_size, self.config
        rows, columns = self.height // patch, self.width // patch
        outer = (self.batch, self.frames)
        x = self._shaped(x, *outer, rows, columns, config.out_channels, patch, patch)
        x = self.ops.transpose(x, constant((0, 1, 4, 2, 5, 3, 6)))
        return self._shaped(x, *outer, config.out_channels, self.height, self.width)

    def _block(
        self, block: TransformerBlock, y: Node, x: Node, rows: list[list[Node]]
    ) -> tuple[Node, Node]:
        """Joint attention and feed-forward of text y [B, N, D] and video x [B, F, S, D]."""
        tokens = self._joined(y, x, rows[0], block.norm1.norm.eps)
        y, x = self._added(y, x, self._attention(block.attn1, tokens), rows[0])
        tokens = self._joined(y, x, rows[1], block.norm2.norm.eps)
        return self._added(y, x, self._feed_forward(block.ff, tokens), rows[1])

    def _joined(self, y: Node, x: Node, row: list[Node], eps: float) -> Node:
        scale, shift, _, token_scale, token_shift, _ = row
        video = self._modulated(x, scale, shift, eps)
        video = self._shaped(video, self.batch, self.frames * self.tokens, self.config.width)
        text = self._modulated(y, token_scale, token_shift, eps)
        return self.ops.concat([text, video], 1)

    def _added(self, y: Node, x: Node, change: Node, row: list[Node]) -> tuple[Node, Node]:
        ops = self.ops
        lengths = (self.texts, self.frames * self.tokens)
        split = ops.variadic_split(change, constant((1,)), constant(lengths))
        video = self._shaped(
            split.output(1), self.batch, self.frames, self.tokens, self.config.width
        )
        text = ops.add(y, ops.multiply(row[5], split.output(0)))
        return text, ops.add(x, ops.multiply(row[2], video))

    def _attention(self, attention: Attention, tokens: Node) -> Node:
        """[B, n, D] -> [B, n, D]."""
        ops, length = self.ops, self.texts + self.frames * self.tokens
        q, k, v = (
            self._heads(self._linear(tokens, linear), length)
            for linear in (attention.to_q, attention.to_k, attention.to_v)
        )
        q, k = self._affine(q, attention.norm_q), self._affine(k, attention.norm_k)
        q, k, v = (ops.transpose(part, constant((0, 2, 1, 3))) for part in (q, k, v))
        mixed = ops.scaled_dot_product_attention(q, k, v)
        mixed = ops.transpose(mixed, constant((0, 2, 1, 3)))
        mixed = self._shaped(mixed, self.batch, length, self.config.width)
        return self._linear(mixed, attention.last)

    def _feed_forward(self, layers: FeedForward, tokens: Node) -> Node:
        wide = self._linear(tokens, layers.net[0].proj)  # type: ignore[arg-type]
        return self._linear(self.ops.gelu(wide, "tanh"), layers.net[2])  # type: ignore[arg-type]

    def _control(
        self, block: ControlBlock, x: Node, row: list[Node], labels: Node, bias: Node
    ) -> Node:
        """Video tokens attend to F control tokens (`models.attention.control_attention`)."""
        ops, attention = self.ops, block.attn1
        scale, shift, gate, keys, values = row
        length, heads = self.frames * self.tokens, attention.heads
        k, v = (ops.gather(part, labels, constant((1,))) for part in (keys, values))
        x_normed = self._modulated(x, scale, shift, block.norm1.norm.eps)
        q = self._heads(self._linear(x_normed, attention.to_q), length)
        q = ops.transpose(self._affine(q, attention.norm_q), constant((0, 2, 1, 3)))
        k = ops.transpose(k, constant((0, 2, 3, 1)))
        k = ops.multiply(k, constant(self.config.attention_head_dim**-0.5))
        weights = ops.softmax(ops.add(ops.matmul(q, k, False, False), bias), 3)  # [B, H, F S, F]
        v = ops.transpose(v, constant((0, 2, 1, 3)))  # [1, H, F, D]
        v = self._shaped(v, 1, heads * self.frames, self.config.width)
        weights = ops.transpose(weights, constant((0, 2, 1, 3)))
        weights = self._shaped(weights, self.batch, length, heads * self.frames)
        change = ops.add(ops.matmul(weights, v, False, False), constant(attention.last.bias))
        change = self._shaped(change, self.batch, self.frames, self.tokens, self.config.width)
        return ops.add(x, ops.multiply(gate, change))

    def _heads(self, x: Node, length: int) -> Node:
        heads = self.config.num_attention_heads
        return self._shaped(x, self.batch, length, heads, self.config.attention_head_dim)

    def _affine(self, x: Node, norm: nn.LayerNorm) -> Node:
        normed = self._norm(x, norm.eps)
        return self.ops.add(self.ops.multiply(normed, constant(norm.weight)), constant(norm.bias))

    def _modulated(self, x: Node, scale: Node, shift: Node, eps: float) -> Node:
        return self.ops.add(self.ops.multiply(self._norm(x, eps), scale), shift)

    def _norm(self, x: Node, eps: float) -> Node:
        return self.ops.mvn(x, constant((-1,)), True, eps, "inside_sqrt")

    def _linear(self, x: Node, linear: nn.Linear) -> Node:
        return self._matrix(x, linear.weight, linear.bias)

    def _matrix(self, x: Node, weight: Tensor, bias: Tensor | None) -> Node:
        product = self.ops.matmul(x, constant(weight), False, True)
        return product if bias is None else self.ops.add(product, constant(bias))

    def _shaped(self, x: Node, *shape: int) -> Node:
        return self.ops.reshape(x, constant(shape), False)
