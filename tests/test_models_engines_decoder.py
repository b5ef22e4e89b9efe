"""The decoder as a graph: equal to PyTorch's, streamed == whole, workers == one, int8 close."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from configs.errors import UserError
from models.engines.decoder import GraphDecoder, convolutions, largest_inputs
from models.parallel import SequenceGroup
from models.tae import TinyVAE, TinyVAEConfig

pytest.importorskip("openvino")
GOLDEN = Path(__file__).parent / "golden"
SMALL = TinyVAEConfig(
    (4, 8, 8, 12), (16, 12, 8, 4), latent_channels=6, residual_shortcuts=True, scaling_factor=0.7
)


PATCHED = replace(SMALL, patch_size=2)
KINDS = pytest.mark.parametrize(
    ("int8", "config"), [(False, SMALL), (True, SMALL), (False, PATCHED), (True, PATCHED)]
)


def _random(config: TinyVAEConfig = SMALL) -> TinyVAE:
    torch.manual_seed(1)
    vae = TinyVAE(config).eval()
    with torch.no_grad():
        for value in vae.parameters():
            value.add_(torch.randn_like(value) * 0.05)
    return vae


def _latents(count: int) -> Tensor:
    return torch.randn(count, 6, 4, 6, generator=torch.Generator().manual_seed(3))


def test_golden_stream_of_the_published_layout() -> None:
    tensors = load_file(GOLDEN / "taecvx_shaped.safetensors")
    vae = TinyVAE(TinyVAEConfig.from_tensors(tensors, scaling_factor=1.15258426))
    vae.load_state_dict(tensors, strict=True)
    case = load_file(GOLDEN / "cases" / "tae.safetensors")
    frames = GraphDecoder(vae).stream().decode(case["latents"][0] * vae.scaling_factor)
    expected = case["frames"][0]
    error = (frames.clamp(-1, 1) / 2 + 0.5 - expected).abs().max() / expected.abs().max()
    assert error < 1e-4


@KINDS
def test_streamed_is_whole_and_memory_travels(int8: bool, config: TinyVAEConfig) -> None:
    vae, latents = _random(config), _latents(5)
    decoder = GraphDecoder(vae, largest_inputs(vae, latents[None]) if int8 else None)
    whole = decoder.stream().decode(latents)
    if not int8:
        assert torch.allclose(whole, vae.stream().decode(latents), atol=1e-5)
    first = decoder.stream()
    frames = [first.decode(latent[None]) for latent in latents[:3]]
    second = decoder.stream()
    second.load_state(first.state())
    frames += [second.decode(latent[None]) for latent in latents[3:]]
    assert torch.equal(torch.cat(frames), whole)


@KINDS
def test_workers_and_threads_give_the_same_bytes(int8: bool, config: TinyVAEConfig) -> None:
    vae, latents = _random(config), _latents(3)
    ranges = largest_inputs(vae, latents[None]) if int8 else None
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = GraphDecoder(vae, ranges).stream().push(latents)
        torch.set_num_threads(2)
        decoder = GraphDecoder(vae, ranges)
        slices = [decoder.stream(SequenceGroup(rank, 3)).push(latents) for rank in range(3)]
    finally:
        torch.set_num_threads(before)
    assert (torch.cat([torch.from_numpy(part) for part in slices], 2).numpy() == whole).all()


def test_int8_stays_close() -> None:
    vae, latents = _random(), _latents(8)
    ranges = largest_inputs(vae, latents[None])
    assert list(ranges) == convolutions()
    exact = vae.stream().decode(latents).clamp(-1, 1)
    rounded = GraphDecoder(vae, ranges).stream().decode(latents).clamp(-1, 1)
    assert not torch.equal(exact, rounded)
    noise = ((exact - rounded) / 2).pow(2).mean()
    assert -10 * torch.log10(noise) > 35


def test_wrong_latents_are_told() -> None:
    with pytest.raises(UserError, match=r"expected latents \[n, 6, h, w\], got \[6, 4, 6\]"):
        GraphDecoder(_random()).stream().decode(_latents(1)[0])
