"""The tiny autoencoder: golden numbers, streamed == whole, workers == one, shortcuts == their
definition, training."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from configs.errors import UserError
from models.checkpoint import read_autoencoder
from models.frames import remember, to_uint8
from models.parallel import SequenceGroup
from models.tae import TinyVAE, TinyVAEConfig, _down_kernel, _up_kernels
from tests.places import GOLDEN, SHIPPED
from tests.ranks import run_ranks
from tests.small_vae import PATCHED, SMALL, error, published_vae, random_vae

EITHER = pytest.mark.parametrize("config", [SMALL, PATCHED], ids=["pixels", "patches"])


def test_golden_decode_encode_and_stream() -> None:
    case, vae = load_file(GOLDEN / "cases" / "tae.safetensors"), published_vae()
    assert error(vae.decode(case["latents"]) / 2 + 0.5, case["frames"]) < 1e-4
    odd = vae.decode(case["latents"][:, :7]) / 2 + 0.5
    assert odd.shape[1] == 25 and error(odd, case["frames_odd7"]) < 1e-4
    with torch.no_grad():
        assert error(vae.encode(case["video"] * 2 - 1), case["encoded"]) < 1e-4
    stream, scaled = vae.stream(), case["latents"][0] * vae.scaling_factor
    frames = torch.cat([stream.decode(latent[None]) for latent in scaled])
    assert error(frames.clamp(-1, 1) / 2 + 0.5, case["frames"][0]) < 1e-4


@EITHER
def test_streamed_equals_whole_however_it_is_cut(config: TinyVAEConfig) -> None:
    vae, latents = random_vae(config), torch.randn(8, 6, 4, 5)
    whole = vae.decode(latents[None])[0]
    for cuts in ([1] * 8, [3, 1, 4], [8]):
        stream = vae.stream()
        frames = torch.cat(
            [stream.decode(part * vae.scaling_factor) for part in latents.split(cuts)]
        )
        torch.testing.assert_close(frames.clamp(-1, 1), whole, rtol=0, atol=1e-5)


@EITHER
@pytest.mark.parametrize("step", [1, 2])
def test_the_last_latents_rebuild_the_memory_to_the_bit(config: TinyVAEConfig, step: int) -> None:
    vae, latents = random_vae(config), torch.randn(24, 6, 4, 5)
    for dtype in (torch.float32, torch.bfloat16):
        undisturbed, other = vae.stream(dtype=dtype), vae.stream(dtype=dtype)
        for group in latents.split(step):
            undisturbed.push(group)
        remember(other, latents[-other.reach - 2 :], step)
        for name, memory in undisturbed.state().items():
            assert torch.equal(other.state()[name], memory), name
    too_few = vae.stream()
    remember(too_few, latents[-too_few.reach // 2 :], 1)
    assert not torch.equal(too_few.state()["memory.8"], undisturbed.state()["memory.8"].float())


def test_frames_are_truncated_rgb_bytes() -> None:
    vae, latents = random_vae(), torch.randn(2, 6, 4, 5)
    frames = vae.stream().push(latents)
    assert frames.dtype == np.uint8 and frames.shape == (8, 32, 40, 3)
    expected = ((vae.stream().decode(latents) / 2 + 0.5).clamp(0, 1) * 255).to(torch.uint8)
    assert np.array_equal(frames, expected.permute(0, 2, 3, 1).numpy())
    edges = to_uint8(
        torch.tensor([-3.0, -1.0, 0.0, 0.999, 1.0, 7.0]).view(1, 1, 1, 6).expand(1, 3, 1, 6)
    )
    assert edges[0, 0, :, 0].tolist() == [0, 0, 127, 254, 255, 255]


def test_a_stream_goes_on_after_its_state_is_carried_over() -> None:
    vae, latents = random_vae(), torch.randn(6, 6, 4, 5)
    undisturbed = vae.stream()
    expected = [undisturbed.push(latent[None]) for latent in latents]
    first = vae.stream()
    assert first.state() == {}
    for latent in latents[:3]:
        first.push(latent[None])
    state = first.state()
    assert len(state) == 9 and all(t.untyped_storage().nbytes() == t.nbytes for t in state.values())
    second = vae.stream()
    second.load_state(state)
    for latent, frames in zip(latents[3:], expected[3:]):
        assert np.array_equal(second.push(latent[None]), frames)
    assert np.array_equal(vae.stream().push(latents[:1]), expected[0]), (
        "a fresh stream remembers nothing"
    )


@torch.no_grad()
def test_a_patch_of_pixels_is_so_many_channels() -> None:
    """The network is the one without patches, on a picture of half the size and four times the
    channels."""
    vae = random_vae(PATCHED)
    assert vae.config.pixels_per_latent == 16
    assert vae.encoder["0"].get_parameter("weight").shape[1] == 12
    video = torch.rand(1, 8, 3, 32, 48) * 2 - 1
    moved = video.roll(1, -1)  # a pixel aside is another place in the patch, so it has to matter
    latents = vae.encode(video)
    assert latents.shape == (1, 2, 6, 2, 3) and not torch.equal(latents, vae.encode(moved))
    frames = vae.reconstruct(latents)
    assert frames.shape == video.shape
    phase = vae.reconstruct(latents)[..., 1::2, 0::2]  # row 1, column 0 of every patch of red
    last = vae.decoder["22"]
    for name in ("weight", "bias"):
        last.get_parameter(name)[2] += 0.3
    again = vae.reconstruct(latents)
    assert not torch.allclose(again[0, :, 0, 1::2, 0::2], phase[0, :, 0])
    changed = (again - frames).abs().amax((0, 1))
    changed[0, 1::2, 0::2] = 0
    assert float(changed.max()) == 0


def _shard(group: SequenceGroup, latents: Tensor, config: TinyVAEConfig) -> list[Tensor]:
    stream = random_vae(config).stream(group)
    return [stream.decode(latent[None]) for latent in latents]


@pytest.mark.parametrize(
    ("workers", "width", "config"), [(2, 9, PATCHED), (3, 10, SMALL), (4, 6, SMALL)]
)
def test_workers_on_uneven_slices_equal_one(
    workers: int, width: int, config: TinyVAEConfig
) -> None:
    latents = torch.randn(6, 6, 4, width)
    alone = _shard(SequenceGroup.single(), latents, config)
    shards = run_ranks(workers, _shard, latents, config)
    assert {shard[0].shape[-1] % config.pixels_per_latent for shard in shards} == {0} and len(
        {s[0].shape[-1] for s in shards}
    ) == 2
    for step, expected in enumerate(alone):
        joined = torch.cat([shard[step] for shard in shards], -1)
        assert error(joined, expected) < 1e-5


def test_more_workers_than_columns_are_refused() -> None:
    with pytest.raises(UserError, match=r"5 workers cannot share 4 latent columns.*at most 4"):
        random_vae().stream(SequenceGroup(0, 5)).push(torch.zeros(1, 6, 4, 4))


def test_shortcuts_average_down_and_duplicate_up() -> None:
    """With all learned layers between stages at zero, only the shortcuts carry pictures through."""
    frames = torch.randn(4, 3, 8, 6)  # two pairs
    kernel = _down_kernel(torch.zeros(3, 6, 1, 1), torch.zeros(12, 3, 3, 3), True)
    ours = F.conv2d(frames.reshape(2, 6, 8, 6), kernel, stride=2, padding=1)
    expected = F.pixel_unshuffle(frames.reshape(2, 6, 8, 6), 2).unflatten(1, (12, 2)).mean(2)
    torch.testing.assert_close(ours, expected)

    kernels = _up_kernels(torch.zeros(12, 6, 1, 1), torch.zeros(3, 6, 3, 3), True)
    ours = torch.cat([F.conv2d(ours[:, :6], up.weight, padding=1) for up in kernels], 1)
    torch.testing.assert_close(ours, expected[:, :6].repeat_interleave(4, 1))


def test_clips_of_a_batch_do_not_mix_and_everything_learns() -> None:
    torch.manual_seed(0)
    vae = random_vae()
    video = torch.rand(3, 8, 3, 16, 24) * 2 - 1
    with torch.no_grad():
        latents = vae.encode(video)
        together = vae.reconstruct(latents)
        for clip in range(3):
            torch.testing.assert_close(
                vae.encode(video[clip : clip + 1])[0], latents[clip], rtol=0, atol=1e-5
            )
            alone = vae.reconstruct(latents[clip : clip + 1])[0]
            torch.testing.assert_close(alone, together[clip], rtol=0, atol=1e-5)
    assert latents.shape == (3, 2, 6, 2, 3) and together.shape == video.shape
    smooth = F.interpolate(torch.rand(1, 3, 2, 3) * 2 - 1, (16, 24), mode="bilinear").expand(
        1, 8, 3, 16, 24
    )
    optimizer = torch.optim.Adam(vae.parameters(), 1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = (vae.reconstruct(vae.encode(smooth)) - smooth).square().mean()
        loss.backward()
        assert all(
            parameter.grad is not None and parameter.grad.isfinite().all()
            for parameter in vae.parameters()
        )
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


@EITHER
def test_config_travels_as_json_and_widths_follow_the_shapes(config: TinyVAEConfig) -> None:
    assert TinyVAEConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    vae = random_vae(config)
    inferred = TinyVAEConfig.from_tensors(
        vae.state_dict(), scaling_factor=0.7, residual_shortcuts=True
    )
    assert inferred == config
    with torch.device("meta"):
        published = TinyVAE(TinyVAEConfig())
    assert (
        published.decoder["1"].weight.shape == (256, 16, 3, 3)
        and len(published.state_dict()) == 128
    )
    assert 9e6 < sum(parameter.numel() for parameter in published.parameters()) < 12e6


def test_bad_input_is_named() -> None:
    with pytest.raises(UserError, match="unknown keys"):
        TinyVAEConfig.from_json({"width": 3})
    with pytest.raises(UserError, match="decoder_widths must be four positive whole numbers"):
        TinyVAEConfig.from_json({"decoder_widths": [8, 8, 8]})
    with pytest.raises(UserError, match=r"not a TAECVX state dict: tensor 'encoder\.0\.weight'"):
        TinyVAEConfig.from_tensors({}, scaling_factor=1.0)
    with pytest.raises(UserError, match=r"not a TAECVX state dict: its convolutions"):
        TinyVAEConfig.from_tensors(
            dict.fromkeys(random_vae().state_dict(), torch.zeros(3)), scaling_factor=1.0
        )
    for odd in (
        {"latent_channels": 0},
        {"scaling_factor": "1"},
        {"residual_shortcuts": "no"},
        {"image_channels": 4},
        {"patch_size": 0},
    ):
        with pytest.raises(UserError, match=f"tiny VAE config: {next(iter(odd))}"):
            TinyVAEConfig.from_json(odd)
    with pytest.raises(UserError, match="multiple of 4 frames"):
        random_vae().encode(torch.zeros(1, 5, 3, 16, 16))
    with pytest.raises(UserError, match=r"expected latents \[n, 6, h, w\], got \[1, 16, 4, 4\]"):
        random_vae().stream().push(torch.zeros(1, 16, 4, 4))


def test_bfloat16_is_close_to_float32() -> None:
    vae, latents = random_vae(), torch.randn(4, 6, 4, 5)
    expected = vae.stream().decode(latents)
    half = vae.to(torch.bfloat16).stream().decode(latents)
    assert half.dtype == torch.bfloat16
    assert (half.float() - expected).abs().mean() < 0.02 * expected.abs().max()


def test_a_stream_computes_in_the_format_it_is_asked_for() -> None:
    vae, latents = random_vae(), torch.randn(4, 6, 4, 5)
    stream = vae.stream(dtype=torch.bfloat16)
    whole = stream.decode(latents)
    assert whole.dtype == torch.bfloat16 and {t.dtype for t in stream.state().values()} == {
        torch.bfloat16
    }
    assert vae.stream().decode(latents).dtype == torch.float32
    other = vae.stream(dtype=torch.bfloat16)
    pieces = torch.cat([other.decode(latents[:3]), other.decode(latents[3:])])
    assert torch.equal(pieces, whole)


def test_bfloat16_frames_of_the_embedded_world_look_like_float32_ones() -> None:
    """What a CPU with bfloat16 units shows instead: less than half a step of 255 away, on
    average."""
    folder = SHIPPED / "stage3"
    vae = read_autoencoder(folder / "vae", torch.device("cpu"), torch.float32)
    assert isinstance(vae, TinyVAE)
    latents = load_file(folder / "start_clips.safetensors")["clip.0"].float()
    exact, quick = (
        vae.stream(dtype=dtype).push(latents).astype(int)
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert np.abs(exact - quick).mean() < 0.5
    assert 10 * np.log10(255**2 / np.square(exact - quick).mean()) > 50


@pytest.mark.gpu
def test_cuda_stream_equals_cpu() -> None:
    latents = torch.randn(4, 6, 4, 5)
    expected = random_vae().stream().decode(latents)
    stream = random_vae().cuda().stream()
    assert (
        error(torch.cat([stream.decode(latent[None]) for latent in latents]).cpu(), expected) < 1e-3
    )
