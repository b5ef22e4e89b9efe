"""The full autoencoder: golden numbers, diffusers' own as the oracle, streaming, small cache,
workers == one."""

import json

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX
from safetensors.torch import load_file
from torch import Tensor

from configs.errors import UserError
from models.parallel import SequenceGroup
from models.vae import CausalConv3d, FullVAE, Pass
from models.vae_config import FullVAEConfig
from tests.places import GOLDEN
from tests.ranks import run_ranks
from tests.small_vae import error, shaken

SMALL = FullVAEConfig((8, 8, 12, 16), 1, 4, norm_num_groups=4, sample_height=96, sample_width=160)


def _random() -> FullVAE:
    torch.manual_seed(3)
    return shaken(FullVAE(SMALL), 0.1)


def _golden() -> FullVAE:
    folder = GOLDEN / "stage4" / "vae"
    vae = FullVAE(FullVAEConfig.from_json(json.loads((folder / "config.json").read_text())))
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    vae.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=True)
    return vae.eval()


def test_full_shape_has_the_published_names_and_size() -> None:
    with torch.device("meta"):
        state = FullVAE(FullVAEConfig()).state_dict()
    assert len(state) == 436
    assert sum(tensor.numel() for tensor in state.values()) == 215_583_907
    assert (
        sum(tensor.numel() for name, tensor in state.items() if name.startswith("encoder"))
        == 92_215_456
    )
    for name, shape in {
        "encoder.conv_in.conv.weight": (128, 3, 3, 3, 3),
        "encoder.down_blocks.1.resnets.0.conv_shortcut.weight": (256, 128, 1, 1, 1),
        "encoder.down_blocks.2.downsamplers.0.conv.weight": (256, 256, 3, 3),
        "encoder.conv_out.conv.weight": (32, 512, 3, 3, 3),
        "decoder.mid_block.resnets.1.norm2.norm_layer.weight": (512,),
        "decoder.up_blocks.3.resnets.3.norm1.conv_y.conv.weight": (128, 16, 1, 1, 1),
        "decoder.up_blocks.0.upsamplers.0.conv.bias": (512,),
        "decoder.conv_out.conv.weight": (3, 128, 3, 3, 3),
    }.items():
        assert tuple(state[name].shape) == shape


def test_golden_decode_stream_and_encode() -> None:
    case, vae = load_file(GOLDEN / "cases" / "vae.safetensors"), _golden()
    latents = case["latents"].transpose(1, 2)
    assert error(vae.decode(latents).transpose(1, 2), case["full"]) < 1e-4
    stream, scaled = vae.stream(), latents[0] * vae.scaling_factor
    assert len(stream.decode(scaled[:1])) == 0
    for index, latent in enumerate(scaled[1:]):
        expected = case[f"stream.{index}"][0].transpose(0, 1)
        assert error(stream.decode(latent[None]), expected) < 1e-4
    moments = vae.encode(case["video"].transpose(1, 2))
    assert error(moments.mean.transpose(1, 2), case["encode_mean"]) < 1e-4
    assert error(moments.logvar.transpose(1, 2), case["encode_logvar"]) < 1e-4


def test_equals_diffusers_whole_and_tiled() -> None:
    vae = _random()
    theirs = AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=SMALL.block_out_channels,
        layers_per_block=SMALL.layers_per_block,
        latent_channels=SMALL.latent_channels,
        norm_num_groups=SMALL.norm_num_groups,
        sample_height=SMALL.sample_height,
        sample_width=SMALL.sample_width,
    ).eval()
    theirs.load_state_dict(vae.state_dict(), strict=True)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for count in (1, 2, 3, 4):
            latents = torch.randn(1, count, 4, 4, 5, generator=generator)
            expected = theirs.decode(latents.transpose(1, 2)).sample.transpose(1, 2)
            assert error(vae.decode(latents), expected) < 1e-5
        for count in (1, 4, 8, 13):
            video = torch.rand(1, count, 3, 24, 32, generator=generator) * 2 - 1
            expected = theirs.encode(video.transpose(1, 2)).latent_dist
            ours = vae.encode(video)
            assert error(ours.mean.transpose(1, 2), expected.mean) < 1e-5
            assert error(ours.logvar.transpose(1, 2), expected.logvar) < 1e-5
            noise = torch.randn(ours.mean.shape, generator=generator)
            sample = expected.mean + expected.std * noise.transpose(1, 2)
            assert error(ours.sample(noise).transpose(1, 2), sample) < 1e-5
        theirs.enable_tiling()
        for height, width in ((8, 23), (6, 14), (6, 10)):  # tiles of 6 x 10 latents
            latents = torch.randn(1, 2, 4, height, width, generator=generator)
            expected = theirs.decode(latents.transpose(1, 2)).sample.transpose(1, 2)
            assert error(vae.decode(latents, tiled=True), expected) < 1e-5
        video = torch.rand(1, 5, 3, 64, 176, generator=generator) * 2 - 1
        expected = theirs.encode(video.transpose(1, 2)).latent_dist.mean
        assert error(vae.encode(video, tiled=True).mean.transpose(1, 2), expected) < 1e-5
    assert error(vae.encode(video).mean.transpose(1, 2), expected) > 1e-3, (
        "tiling is meant to matter here"
    )


def test_pairs_with_a_kept_cache_equal_one_call() -> None:
    vae, latents = _random(), torch.randn(1, 4, 8, 4, 5)
    run = Pass(double_single=True)
    with torch.no_grad():
        pairs = torch.cat([vae.decoder(pair, run) for pair in latents.split(2, 2)], 2)
    assert torch.equal(pairs.transpose(1, 2), vae.decode(latents.transpose(1, 2)))


def test_stream_waits_for_two_latents_then_gives_four_frames_each() -> None:
    vae, latents = _random(), torch.randn(6, 4, 4, 5)
    stream = vae.stream()
    counts = [stream.push(latent[None]) for latent in latents]
    assert [len(frames) for frames in counts] == [0, 8, 4, 4, 4, 4]
    assert counts[0].shape == (0, 32, 40, 3) and counts[0].dtype == np.uint8
    for cuts in ([6], [1, 3, 2], [2, 4]):
        again = vae.stream()
        frames = [again.push(part) for part in latents.split(cuts)]
        assert np.array_equal(np.concatenate(frames), np.concatenate(counts))


def test_the_cache_holds_two_frames_per_kernel_3_convolution_and_nothing_else() -> None:
    vae, stream = _random(), None
    stream = vae.stream()
    stream.push(torch.randn(2, 4, 4, 5))
    causal = {
        name: module
        for name, module in vae.decoder.named_modules()
        if isinstance(module, CausalConv3d)
    }
    state = stream.state()
    assert set(state) == {f"cache.decoder.{name}" for name in causal}
    for name, module in causal.items():
        kept = state[f"cache.decoder.{name}"]
        assert kept.shape[:3] == (1, module.conv.in_channels, 2)
        assert kept.untyped_storage().nbytes() == kept.nbytes, (
            "a view would keep the whole feature map alive"
        )


@pytest.mark.parametrize("pushed", [0, 1, 3])
def test_a_stream_goes_on_after_its_state_is_carried_over(pushed: int) -> None:
    vae, latents = _random(), torch.randn(5, 4, 4, 5)
    undisturbed, first, second = vae.stream(), vae.stream(), vae.stream()
    expected = [undisturbed.push(latent[None]) for latent in latents]
    for latent in latents[:pushed]:
        first.push(latent[None])
    second.load_state(first.state())
    for latent, frames in zip(latents[pushed:], expected[pushed:]):
        assert np.array_equal(second.push(latent[None]), frames)


def _shard(group: SequenceGroup, latents: Tensor) -> list[Tensor]:
    stream = _random().channels_last().stream(group)
    return [stream.decode(latent[None]) for latent in latents]


def test_channels_last_is_the_order_of_every_map_and_the_same_numbers() -> None:
    """One map in the other order, and what follows is copied again and again."""
    latents, orders = torch.randn(3, 4, 4, 5), set()
    plain, last = _random().stream(), _random().channels_last().stream()
    for latent in latents:
        assert torch.allclose(last.decode(latent[None]), plain.decode(latent[None]), atol=1e-5)

    def look(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (x,) = inputs
        last = torch.channels_last if x.ndim == 4 else torch.channels_last_3d
        orders.add(x.is_contiguous(memory_format=last))

    vae = _random().bfloat16().channels_last()  # small maps in float32 take another kernel
    for module in vae.decoder.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Conv3d) and module.in_channels > 4:
            module.register_forward_pre_hook(look)
    stream = vae.stream()
    for latent in latents:
        stream.decode(latent[None])
    assert orders == {True}


@pytest.mark.parametrize(("workers", "width"), [(2, 5), (3, 7), (4, 6)])
def test_workers_on_uneven_slices_equal_one(workers: int, width: int) -> None:
    latents = torch.randn(6, 4, 4, width)
    plain = _random().stream()
    alone = [plain.decode(latent[None]) for latent in latents]
    shards = run_ranks(workers, _shard, latents)
    assert len({shard[0].shape[-1] for shard in shards}) == 2
    for step, expected in enumerate(alone):
        joined = torch.cat([shard[step] for shard in shards], -1)
        if step == 0:
            assert joined.shape == expected.shape and len(joined) == 0
        else:
            assert error(joined, expected) < 1e-5


def test_more_workers_than_columns_are_refused() -> None:
    with pytest.raises(UserError, match=r"5 workers cannot share 4 latent columns.*at most 4"):
        _random().stream(SequenceGroup(0, 5)).push(torch.zeros(1, 4, 4, 4))


def test_bad_input_is_named() -> None:
    with pytest.raises(UserError, match="scale_factor"):
        FullVAEConfig.from_json({"scale_factor": 1.0})
    with pytest.raises(UserError, match="shift_factor must be None, got 0.1"):
        FullVAEConfig.from_json({"shift_factor": 0.1})
    with pytest.raises(UserError, match=r"four multiples of 32, got \[100, 256, 256, 512\]"):
        FullVAEConfig.from_json({"block_out_channels": [100, 256, 256, 512]})
    for odd in (
        {"norm_num_groups": 0},
        {"layers_per_block": "3"},
        {"scaling_factor": 0},
        {"latent_channels": 1.5},
    ):
        with pytest.raises(UserError, match=f"VAE config: {next(iter(odd))}: expected"):
            FullVAEConfig.from_json(odd)
    for widths in ("wide", [32, 32, 32, "x"], [0, 0, 0, 0]):
        with pytest.raises(UserError, match="four multiples of 32"):
            FullVAEConfig.from_json({"block_out_channels": widths})
    with pytest.raises(UserError, match="expected 4k or 4k"):
        _random().encode(torch.zeros(1, 7, 3, 16, 16))
    with pytest.raises(UserError, match=r"expected latents \[n, 4, h, w\], got \[1, 16, 4, 4\]"):
        _random().stream().push(torch.zeros(1, 16, 4, 4))


@pytest.mark.gpu
def test_cuda_stream_equals_cpu() -> None:
    latents = torch.randn(4, 4, 4, 5)
    expected = _random().stream().decode(latents)
    assert error(_random().cuda().stream().decode(latents).cpu(), expected) < 1e-3
