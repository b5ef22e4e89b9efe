"""The decoder as a graph: equal to PyTorch's, streamed == whole, workers == one, int8 close."""

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from configs.errors import UserError
from models.engines.decoder import GraphDecoder, convolutions, largest_inputs
from models.frames import remember
from models.parallel import SequenceGroup
from models.tae import TinyVAEConfig
from tests.places import GOLDEN
from tests.small_vae import PATCHED, SMALL, error, published_vae, random_vae

pytest.importorskip("openvino")
KINDS = pytest.mark.parametrize(
    ("int8", "config"), [(False, SMALL), (True, SMALL), (False, PATCHED), (True, PATCHED)]
)


def _latents(count: int) -> Tensor:
    return torch.randn(count, 6, 4, 6, generator=torch.Generator().manual_seed(3))


def test_golden_stream_of_the_published_layout() -> None:
    vae = published_vae()
    case = load_file(GOLDEN / "cases" / "tae.safetensors")
    frames = GraphDecoder(vae).stream().decode(case["latents"][0] * vae.scaling_factor)
    expected = case["frames"][0]
    assert error(frames.clamp(-1, 1) / 2 + 0.5, expected) < 1e-4


@KINDS
def test_streamed_is_whole_and_memory_travels(int8: bool, config: TinyVAEConfig) -> None:
    vae, latents = random_vae(config), _latents(5)
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
def test_the_last_latents_rebuild_the_memory_to_the_bit(int8: bool, config: TinyVAEConfig) -> None:
    vae, latents = random_vae(config), _latents(20)
    decoder = GraphDecoder(vae, largest_inputs(vae, latents[None]) if int8 else None)
    undisturbed, other = decoder.stream(), decoder.stream()
    undisturbed.push(latents)
    remember(other, latents[-other.reach :], 1)
    pairs = zip(undisturbed.state().values(), other.state().values(), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)


@KINDS
def test_workers_and_threads_give_the_same_bytes(int8: bool, config: TinyVAEConfig) -> None:
    vae, latents = random_vae(config), _latents(3)
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
    vae, latents = random_vae(), _latents(8)
    ranges = largest_inputs(vae, latents[None])
    assert list(ranges) == convolutions()
    exact = vae.stream().decode(latents).clamp(-1, 1)
    rounded = GraphDecoder(vae, ranges).stream().decode(latents).clamp(-1, 1)
    assert not torch.equal(exact, rounded)
    noise = ((exact - rounded) / 2).pow(2).mean()
    assert -10 * torch.log10(noise) > 35


def test_wrong_latents_are_told() -> None:
    with pytest.raises(UserError, match=r"expected latents \[n, 6, h, w\], got \[6, 4, 6\]"):
        GraphDecoder(random_vae()).stream().decode(_latents(1)[0])
