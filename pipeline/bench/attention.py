"""Control attention of one block: F keys in closed form against the published F S x F S causal form.

Both with the output projection, which the closed form applies to the F values. The second row
includes the projections of keys and values, which the published form computes on repeated tokens.
"""

from typing import Any, Final

import torch
import torch.nn.functional as functional

from models.attention import control_attention, control_bias
from models.device import use_threads
from pipeline.bench.options import Options
from pipeline.bench.table import table
from pipeline.bench.timing import stopwatch

# full size (docs/reference.md section 2)
FRAMES: Final = 5  # F: latents in the window
TOKENS: Final = 1350  # S: tokens of a latent
HEADS: Final = 30
WIDTH: Final = 64  # of a head


class ControlAttention:
    """Random queries [1, F, S, heads, width], controls [1, F, heads width] and projections."""

    def __init__(self, tokens: int, heads: int) -> None:
        generator = torch.Generator().manual_seed(0)
        inner = heads * WIDTH
        self.tokens, self.heads = tokens, heads
        self.q = torch.randn(1, FRAMES, tokens, heads, WIDTH, generator=generator)
        self.control = torch.randn(1, FRAMES, inner, generator=generator)
        *self.weights, self.last = torch.randn(3, inner, inner, generator=generator) * inner**-0.5
        self.repeated = self.control.repeat_interleave(tokens, dim=1)  # [1, F S, heads width]
        self.bias = control_bias(FRAMES, tokens, 0, tokens, self.q.device)

    def keys(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values [1, rows, heads, width] of controls [1, rows, heads width]."""
        k, v = ((x @ weight).unflatten(-1, (self.heads, WIDTH)) for weight in self.weights)
        return k, v

    def quadratic(self, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """The published form: k, v [1, F S, heads, width] to [1, F, S, heads width]."""
        query, key, value = (x.transpose(1, 2) for x in (self.q.flatten(1, 2), k, v))
        out = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return (out.transpose(1, 2).flatten(2) @ self.last).unflatten(1, (FRAMES, self.tokens))

    def closed_form(self, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """Ours: k, v [1, F, heads, width] to [1, F, S, heads width]."""
        last = self.last.unflatten(0, (self.heads, WIDTH))
        return control_attention(self.q, k, torch.einsum("bfhd,hdo->bfho", v, last), self.bias)


def measure(options: Options, tokens: int = TOKENS, heads: int = HEADS) -> dict[str, Any]:
    """Milliseconds of both forms, and how far apart their results are."""
    cores = use_threads()
    block = ControlAttention(tokens, heads)
    few, many = block.keys(block.control), block.keys(block.repeated)
    with torch.inference_mode():
        closed = stopwatch(lambda: block.closed_form(*few), 5)
        published = stopwatch(lambda: block.quadratic(*many), 2)
        closed_block = stopwatch(lambda: block.closed_form(*block.keys(block.control)), 5)
        published_block = stopwatch(lambda: block.quadratic(*block.keys(block.repeated)), 2)
        error = (block.closed_form(*few) - block.quadratic(*many)).abs().max().item()
    rows = [
        (name, ours, theirs, theirs / ours)
        for name, ours, theirs in (
            ("attention and output projection", closed, published),
            ("with key and value projections", closed_block, published_block),
        )
    ]
    title = f"one block, {FRAMES} x {tokens} tokens"
    table((title, "closed form ms", "quadratic ms", "times faster"), rows)
    print(f"largest difference {error:.1e}; {cores} threads, float32")
    return {
        "closed_ms": closed,
        "quadratic_ms": published,
        "closed_with_projections_ms": closed_block,
        "quadratic_with_projections_ms": published_block,
        "max_difference": error,
        "threads": cores,
    }
