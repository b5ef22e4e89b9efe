"""The arithmetic of cost against PyTorch's own counter, the modules' own numbers and the exchanges
that really happen. On meta tensors: published sizes take no memory and no time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from configs.schema import StreamSettings
from models.cost import (
    Window,
    call_cost,
    decoder_cost,
    step_cost,
    tiny_decoder_cost,
    transformer_parameters,
)
from models.parallel import SequenceGroup
from models.tae import TinyVAE, TinyVAEConfig, _decode
from models.transformer import TextTokens, Transformer, TransformerConfig
from models.vae import FullVAE, Pass
from models.vae_config import FullVAEConfig

PUBLISHED = TransformerConfig(control_start_layer=15)
SMALL = TransformerConfig(
    num_attention_heads=6,
    attention_head_dim=32,
    num_layers=6,
    time_embed_dim=64,
    text_embed_dim=64,
    sample_height=12,
    sample_width=18,
    max_text_seq_length=32,
    control_dim=16,
    control_start_layer=2,
    control_end_layer=6,
)
CONFIGS = pytest.mark.parametrize("config", [PUBLISHED, SMALL], ids=["published", "small"])
TINY = TinyVAEConfig()
FULL = FullVAEConfig()


class CountingGroup(SequenceGroup):
    """A rank whose peers answer with nothing: counts exchanges and the bytes that leave it."""

    def __init__(self, rank: int, size: int) -> None:
        super().__init__(rank, size)
        self.exchanges = self.sent = 0

    def _exchange(self, outgoing: list[Tensor], shapes: list[list[int]]) -> list[Tensor]:
        self.exchanges += 1
        self.sent += sum(
            part.numel() * part.element_size()
            for rank, part in enumerate(outgoing)
            if rank != self.rank
        )
        return [outgoing[0].new_empty(shape) for shape in shapes]


class Alive(TorchDispatchMode):
    """Bytes of the tensors made within that are alive at once, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._sizes: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self._sizes = {ref: size for ref, size in self._sizes.items() if not ref.expired()}
        given = {t.untyped_storage()._cdata for t in args if isinstance(t, Tensor)}
        for tensor in out if isinstance(out, tuple | list) else (out,):
            storage = tensor.untyped_storage() if isinstance(tensor, Tensor) else None
            if storage is not None and storage._cdata not in given:  # views are nothing new
                self._sizes[StorageWeakRef(storage)] = storage.nbytes()
        self.peak = max(self.peak, sum(self._sizes.values()))
        return out


def call(config: TransformerConfig, group: SequenceGroup, batch: int = 1) -> Callable[[], Tensor]:
    """A model call of a window of five latents from prepared parts, on meta tensors."""
    with torch.device("meta"):
        model = Transformer(config).to(torch.bfloat16).requires_grad_(False)
        shape = (5, config.in_channels, config.sample_height, config.sample_width)
        latents = torch.empty(batch, *shape, dtype=torch.bfloat16)
        rows = model.modulate(torch.zeros(1, 5))
        keys = model.control_keys(torch.empty(1, 5, config.control_dim, dtype=torch.bfloat16), rows)
        length = config.max_text_seq_length
        first, stop = group.slice_bounds(length)
        tokens = torch.empty(batch, stop - first, config.width, dtype=torch.bfloat16)
    return lambda: model.denoise(latents, TextTokens(tokens, length), rows, keys, group)


def counted(work: Callable[[], object]) -> float:
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        work()
    return float(counter.get_total_flops())


@CONFIGS
@pytest.mark.parametrize("batch", [1, 2])
def test_operations_of_a_call_are_what_pytorch_counts(
    config: TransformerConfig, batch: int
) -> None:
    window = Window.of(config, StreamSettings(), batch=batch)
    ours = call_cost(config, window).operations
    assert ours == pytest.approx(counted(call(config, SequenceGroup.single(), batch)), rel=0.02)


@CONFIGS
@pytest.mark.parametrize("ranks", [2, 3])
def test_exchanges_of_a_call_are_those_that_happen(config: TransformerConfig, ranks: int) -> None:
    group = CountingGroup(0, ranks)
    work = call(config, group)
    ours = call_cost(config, Window.of(config, StreamSettings()), ranks)
    assert ours.operations == pytest.approx(counted(work), rel=0.02)
    assert ours.exchanges == group.exchanges
    assert ours.sent == pytest.approx(group.sent, rel=0.02)


@CONFIGS
def test_weights_are_counted_to_the_last_number(config: TransformerConfig) -> None:
    with torch.device("meta"):
        model = Transformer(config)
    assert transformer_parameters(config) == sum(p.numel() for p in model.parameters())


def test_activations_of_the_published_call_are_those_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # as on devices: no scores in memory
        return torch.empty_like(q)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", fused)
    work, alive = call(PUBLISHED, SequenceGroup.single()), Alive()
    with torch.no_grad(), alive:
        work()
    ours = call_cost(PUBLISHED, Window.of(PUBLISHED, StreamSettings()))
    assert ours.activations == pytest.approx(alive.peak, rel=0.1)


def test_inner_steps_and_guided_labels_are_more_calls() -> None:
    window = Window.of(PUBLISHED, StreamSettings())
    one = step_cost(PUBLISHED, StreamSettings(), window)
    twenty = StreamSettings(window_size=4, inference_steps=20, solver="dpm")
    assert step_cost(PUBLISHED, twenty, window).operations == 5 * one.operations
    guided = StreamSettings(control_guidance=2.0)
    assert step_cost(PUBLISHED, guided, window).operations == 2 * one.operations


def full_decode(group: SequenceGroup, height: int, width: int) -> tuple[Callable[[], Tensor], Pass]:
    """The decode of a latent in the middle of a stream, on meta tensors."""
    with torch.device("meta"):
        decoder = FullVAE(FULL).decoder.to(torch.bfloat16).requires_grad_(False)
        start, stop = group.slice_bounds(width)
        latent = torch.empty(1, 16, 1, height, stop - start, dtype=torch.bfloat16)
    run = Pass(group=group, double_single=True)
    with torch.no_grad():
        decoder(latent, run)
    return lambda: decoder(latent, run), run


def test_the_full_decoder_costs_what_pytorch_counts() -> None:
    work, run = full_decode(SequenceGroup.single(), 60, 90)
    ours = decoder_cost(FULL, 60, 90)
    assert ours.operations == pytest.approx(counted(work), rel=0.02)
    assert ours.state == sum(t.numel() * t.element_size() for t in run.cache.values())
    with torch.device("meta"):
        decoder = FullVAE(FULL).decoder
    assert ours.weights == 2 * sum(p.numel() for p in decoder.parameters())
    alive = Alive()
    with torch.no_grad(), alive:
        work()
    # the memory of this latent replaces that of the last one
    assert ours.activations + ours.state == pytest.approx(alive.peak, rel=0.1)


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_full_decoder_exchanges_what_it_says(ranks: int) -> None:
    group = CountingGroup(ranks // 2 if ranks > 2 else 0, ranks)
    work, _ = full_decode(group, 60, 90)
    group.exchanges = group.sent = 0
    ours, operations = decoder_cost(FULL, 60, 90, ranks), counted(work)
    assert ours.exchanges == group.exchanges
    assert ours.sent == pytest.approx(group.sent, rel=0.02)
    # beside its own columns a worker computes nothing but the halo's products
    assert ours.operations == pytest.approx(operations, rel=0.02)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_tiny_decoder_costs_what_pytorch_counts(ranks: int) -> None:
    group = CountingGroup(ranks // 2 if ranks > 2 else 0, ranks)
    with torch.device("meta"):
        kernels = TinyVAE(TINY).kernels()
        start, stop = group.slice_bounds(90)
        latents = torch.empty(1, 1, 16, 60, stop - start)
    _, memory = _decode(kernels, latents, None, group)
    group.exchanges = group.sent = 0
    operations = counted(lambda: _decode(kernels, latents, memory, group))
    ours = tiny_decoder_cost(TINY, 60, 90, ranks, itemsize=4)
    assert ours.operations == pytest.approx(operations, rel=0.02)
    assert ours.exchanges == group.exchanges
    assert ours.sent == pytest.approx(group.sent, rel=0.02)
    assert ours.state == sum(t.numel() * t.element_size() for t in memory)
