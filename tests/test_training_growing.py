"""A grown network begins as the small one that it came from, and a wrong one is refused."""

from dataclasses import replace

import pytest
import torch

from configs.errors import UserError
from models.tae import TinyVAE, TinyVAEConfig
from models.transformer import Transformer
from training import autoencoder, diffusion
from training.growing import grown
from training.settings import TrainSettings

ENCODER, DECODER = (4, 8, 8, 12), (12, 8, 8, 6)
SMALL = TrainSettings(heads=2, head_width=16, layers=1, latent_channels=4)
LARGE = TrainSettings(heads=2, head_width=16, layers=1, latent_channels=6, scale=2)


def test_old_values_stay_new_columns_are_zero_and_new_rows_are_fresh() -> None:
    made = grown(torch.full((3, 3), 7.0), torch.ones(2, 2))
    assert made.tolist() == [[1, 1, 0], [1, 1, 0], [7, 7, 7]]
    with pytest.raises(ValueError, match="cannot grow"):
        grown(torch.zeros(2, 2), torch.ones(3, 2))


def test_a_grown_autoencoder_sees_and_paints_as_the_small_one_did_but_coarsely() -> None:
    torch.manual_seed(0)
    small = TinyVAE(TinyVAEConfig(ENCODER, DECODER, latent_channels=4))
    large = TinyVAE(TinyVAEConfig(ENCODER, DECODER, latent_channels=6, patch_size=2))
    autoencoder.load_what_fits(large, small.state_dict())
    video = torch.rand(1, 8, 3, 16, 24).mul(2).sub(1)
    doubled = video.repeat_interleave(2, -1).repeat_interleave(2, -2)
    with torch.no_grad():
        latents, wide = small.encode(video), large.encode(doubled)
        assert torch.allclose(wide[:, :, :4], latents, atol=1e-5)
        painted = small.reconstruct(latents).repeat_interleave(2, -1).repeat_interleave(2, -2)
        assert torch.allclose(large.reconstruct(wide), painted, atol=1e-4)


def test_a_grown_transformer_says_of_old_channels_what_the_small_one_said() -> None:
    torch.manual_seed(0)
    small, large = (Transformer(diffusion.transformer_config(each)) for each in (SMALL, LARGE))
    for each in (small, large):
        diffusion.initialise(each)
    torch.nn.init.normal_(small.proj_out.weight, std=0.02)
    diffusion.load_grown(large, small.state_dict())
    latents, words = torch.randn(1, 3, 6, 12, 18), torch.randn(1, 5, 64)
    rest = (torch.tensor([[0, 100, 600]]), words, torch.randn(1, 3, 64))
    with torch.no_grad():
        said, before = large(latents, *rest), small(latents[:, :, :4], *rest)
    assert torch.allclose(said[:, :, :4], before, atol=1e-5)
    assert not said[:, :, 4:].any()  # of the new ones nothing yet


def test_finer_tokens_read_and_say_what_the_coarse_ones_did_of_an_even_picture() -> None:
    torch.manual_seed(0)
    coarse = Transformer(diffusion.transformer_config(SMALL))
    fine = Transformer(diffusion.transformer_config(replace(SMALL, token=1)))
    assert (coarse.grid(12, 18), fine.grid(12, 18)) == (54, 216)
    diffusion.load_grown(fine, coarse.state_dict())
    pixels = torch.randn(1, 1, 54, 4)  # of four channels, each the same in a token of 2 x 2
    read = coarse.patch_embed(pixels.repeat_interleave(4, -1))
    assert torch.allclose(fine.patch_embed(pixels), read, atol=1e-5)
    said = coarse.proj_out(read).unflatten(-1, (4, 4)).mean(-1)
    assert torch.allclose(fine.proj_out(read), said, atol=1e-5)
    places = [net._positions(1, 12, 18, torch.zeros(1)) for net in (coarse, fine)]
    every_other = places[1].unflatten(-2, (12, 18))[..., ::2, ::2, :].flatten(-3, -2)
    assert torch.allclose(every_other, places[0], atol=1e-5)


def test_weights_of_a_larger_world_are_refused_in_words() -> None:
    large, small = (Transformer(diffusion.transformer_config(each)) for each in (LARGE, SMALL))
    with pytest.raises(UserError, match=r"start: .* of a smaller one.*cannot grow"):
        diffusion.load_grown(small, large.state_dict())


@pytest.mark.parametrize(
    "settings",
    [replace(LARGE, heads=3), replace(LARGE, head_width=32), replace(LARGE, layers=2)],
)
def test_another_inside_is_refused_and_not_filled_in(settings: TrainSettings) -> None:
    small = Transformer(diffusion.transformer_config(SMALL))
    other = Transformer(diffusion.transformer_config(settings))
    with pytest.raises(UserError, match="heads, head_width, layers and widths of these settings"):
        diffusion.load_grown(other, small.state_dict())
