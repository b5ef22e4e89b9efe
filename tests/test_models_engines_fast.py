"""Every fast path against the plain one, on a processor: the same function, whatever computes it."""

import copy
import shutil

import pytest
import torch
from torch import Tensor

from configs.errors import UserError
from models.device import Lane, Paths, attention_backend, capture
from models.engines.fast import CapturedStepper, Float8Linear, prepare, prepare_decoder, rounded
from models.transformer import Transformer
from models.vae import FullVAE
from models.vae_config import FullVAEConfig
from tests.small_world import CPU, SmallWeights

SMALL_VAE = FullVAEConfig(block_out_channels=(8, 8, 8, 8), layers_per_block=1, norm_num_groups=4)


@pytest.fixture
def model() -> Transformer:
    return SmallWeights().transformer(CPU, torch.float32)


def inputs(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents, timesteps, text, control."""
    draw = torch.Generator().manual_seed(seed)
    shapes = (1, 5, 4, 6, 10), (1, 7, 12), (1, 5, 10)
    latents, text, control = (torch.randn(shape, generator=draw) for shape in shapes)
    return latents, torch.tensor([[0, 249, 499, 749, 999]]), text, control


def error(model: Transformer, other: Transformer) -> float:
    with torch.inference_mode():
        expected, got = model(*inputs(1)), other(*inputs(1))
    return float((got - expected).norm() / expected.norm())


def test_one_product_for_queries_keys_and_values(model: Transformer) -> None:
    fused = prepare(copy.deepcopy(model), Paths(fused=True))
    assert 0 <= error(model, fused) < 1e-6
    assert not any("to_q." in name for name in fused.transformer_blocks[0].state_dict())


def test_eight_bit_floats_stay_near(model: Transformer) -> None:
    light = prepare(copy.deepcopy(model), Paths(float8=True))
    assert 1e-4 < error(model, light) < 0.08  # three bits of mantissa in every product
    assert error(prepare(copy.deepcopy(light), Paths()), light) == 0


def test_rounding_to_eight_bits_gives_rows_back() -> None:
    x = torch.randn(6, 64) * torch.tensor([1e-6, 1e-3, 1, 10, 1e3, 0])[:, None]
    small, scale = rounded(x)
    assert small.dtype == torch.float8_e4m3fn
    assert (
        float(((small.float() * scale - x).abs().amax(1) / x.abs().amax(1).clamp(1e-9)).max())
        < 0.04
    )


def test_the_device_s_product_of_eight_bits_is_the_reference_s() -> None:
    linear = torch.nn.Linear(32, 48).to(torch.bfloat16)
    ours, x = Float8Linear(linear), torch.randn(16, 32).to(torch.bfloat16)
    rows, scale = rounded(x)
    try:
        with torch.no_grad():
            given = torch._scaled_mm(
                rows, ours.weight.t(), scale, ours.scale.t(), linear.bias, out_dtype=torch.bfloat16
            )
    except RuntimeError as error:
        pytest.skip(f"no such product on this processor: {error}")
    difference = (ours(x) - given).detach().abs().max()
    assert float(difference) <= 0.02 * float(given.abs().max())


def test_a_captured_call_is_the_call_whatever_came_before(model: Transformer) -> None:
    with torch.inference_mode():
        rows = model.modulate(inputs(1)[1])
        vocabulary = model.control_keys(torch.randn(1, 10, 10), rows)
        stepper = CapturedStepper(model, [(rows, vocabulary)], attention="math")
        for seed in (1, 2, 1):
            latents, _, text, _ = inputs(seed)
            tokens, labels = model.embed_text(text), torch.tensor([seed, 0, 3, 9, 2])
            keys = [(k[:, labels], v[:, labels]) for k, v in vocabulary]
            with attention_backend("math"):
                expected = model.denoise(latents, tokens, rows, keys)
            assert torch.equal(stepper.velocity(latents[0], tokens, 0, labels), expected)
        two = tokens._replace(tokens=torch.cat((tokens.tokens, -tokens.tokens)))
        assert stepper.velocity(latents[0], two, 0, labels).shape == (2, *latents.shape[1:])


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_blocks_are_the_plain_ones(model: Transformer) -> None:
    said: list[str] = []
    compiled = prepare(copy.deepcopy(model), Paths(compiled=True, fused=True), said.append)
    assert error(model, compiled) < 1e-5 and said == ["block 1 of 3 prepared"]


@pytest.mark.parametrize("latents", [1, 3])
def test_the_decoder_in_another_order_and_its_cache_in_place(latents: int) -> None:
    torch.manual_seed(0)
    vae = FullVAE(SMALL_VAE).eval().requires_grad_(False)
    plain, fast = (
        vae.stream(),
        prepare_decoder(copy.deepcopy(vae), Paths(channels_last=True)).stream(in_place=True),
    )
    for number in range(4):
        latent = torch.randn(latents, 16, 4, 6, generator=torch.Generator().manual_seed(number))
        expected, got = plain.decode(latent), fast.decode(latent)
        assert torch.allclose(got, expected, atol=1e-5)
        if number == 1:
            held = {name: tensor.data_ptr() for name, tensor in fast.memory.items()}
            state = fast.state()
            kept = {name: tensor.clone() for name, tensor in state.items()}
    assert held == {name: tensor.data_ptr() for name, tensor in fast.memory.items()}
    assert all(torch.equal(state[name], kept[name]) for name in kept)  # a snapshot stays as it was


def test_lanes_and_capture_do_the_work_where_there_is_no_device() -> None:
    lane, x = Lane(CPU), torch.zeros(3)
    lane.follow()
    with lane.running():
        host = x + 1
    lane.wait()

    def add() -> None:
        x.add_(2)

    capture(add, CPU)()
    assert torch.equal(host, torch.ones(3)) and torch.equal(x, torch.full((3,), 2.0))


def test_paths_by_name() -> None:
    assert Paths.parse("plain") == Paths()
    assert Paths.parse("fused,graph,cudnn") == Paths(fused=True, graph=True, attention="cudnn")
    for wrong in ("warp", "flash,cudnn"):
        with pytest.raises(UserError):
            Paths.parse(wrong)
