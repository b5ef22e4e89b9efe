"""Videos in one process: what is loaded and kept, clips there and back, streams through both kinds
of decoder."""

from pathlib import Path

import numpy as np
import pytest
import torch

from configs.schema import StreamSettings
from models.checkpoint import Checkpoint
from models.offline import (
    VideoRequest,
    clip_frames,
    clip_latents,
    fill_signal,
    make_base,
    signal_length,
    step_labels,
    stream_frames,
)
from models.parts import Parts
from models.vae import FullVAE
from models.vae_config import FullVAEConfig
from models.world import World
from tests.tiny_checkpoint import (
    CHANNELS,
    HEIGHT,
    WIDTH,
    full_vae_json,
    put_network,
    write_checkpoint,
)

CPU = torch.device("cpu")


def write_full_vae(folder: Path) -> None:
    """Put a small random autoencoder of the published kind in place of the tiny one."""
    config = FullVAEConfig(
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        # a tile is half of it: smaller ones have too few latents to overlap
        sample_height=2 * HEIGHT,
        sample_width=2 * WIDTH,
    )
    torch.manual_seed(1)
    put_network(folder, full_vae_json(config), FullVAE(config).state_dict())


@pytest.fixture(scope="module", params=["tiny", "full"])
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    folder = write_checkpoint(tmp_path_factory.mktemp(request.param) / "stage4")
    if request.param == "full":
        write_full_vae(folder / "vae")
    return Parts(Checkpoint.open(folder), CPU, "float32")


def world_of(parts: Parts, seed: int = 4) -> World:
    world = parts.world()
    world.reset(seed, "a car", parts.checkpoint.start_latents("a car"))
    return world


def test_parts_are_loaded_once(parts: Parts) -> None:
    assert parts.transformer is parts.transformer
    assert parts.autoencoder is parts.autoencoder
    assert parts.encode(["a car", ""]) is parts.encode(["a car", ""])
    assert parts.encode(["a car", ""]).shape[0] == 2
    for number in range(20):
        parts.encode([f"car {number}"])
    assert len(parts._encoded) == 8


def test_clips_have_four_frames_per_latent_but_the_first(parts: Parts) -> None:
    request = VideoRequest("a car", ["D"] * 5, seed=2, guidance=1.0)
    latents = make_base(parts, request, frames=17, steps=3)
    assert latents.shape == (5, CHANNELS, HEIGHT // 8, WIDTH // 8)
    frames = clip_frames(parts, latents)
    assert frames.shape == (17, HEIGHT, WIDTH, 3) and frames.dtype == np.uint8
    again = clip_latents(parts, frames, seed=0)
    assert again.shape == latents.shape
    assert torch.equal(again, clip_latents(parts, frames, seed=0))


def test_a_clip_is_scaled_as_the_world_expects_it(parts: Parts) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, HEIGHT, WIDTH, 3), np.uint8)
    video = torch.from_numpy(frames).permute(0, 3, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        if isinstance(parts.autoencoder, FullVAE):
            posterior = parts.autoencoder.encode(video)
            mean, spread = posterior.mean[0], (0.5 * posterior.logvar[0]).exp()
            draws = (
                clip_latents(parts, frames, seed=1) / parts.checkpoint.scaling_factor - mean
            ) / spread
            # a sample of the posterior
            assert abs(draws.mean()) < 0.1 and abs(draws.std() - 1) < 0.1
        else:
            still = torch.cat((video[:, :1], video[:, :1], video[:, :1], video), dim=1)
            expected = parts.autoencoder.encode(still)[0] * parts.checkpoint.scaling_factor
            assert torch.allclose(clip_latents(parts, frames, seed=1), expected, atol=1e-6)


def test_a_stream_is_the_world_decoded(parts: Parts) -> None:
    labels = ["D"] * 4 + ["DR"] * 4
    streamed = list(stream_frames(parts, world_of(parts), labels))
    assert [index for index, _ in streamed] == list(range(8))
    world, decoder = world_of(parts), parts.autoencoder.stream()
    frames = [
        decoder.push(latent[None]) for label in labels for latent in world.step([label]).latents
    ]
    assert np.array_equal(
        np.concatenate([pictures for _, pictures in streamed]), np.concatenate(frames)
    )
    assert all(pictures.shape == (4, HEIGHT, WIDTH, 3) for _, pictures in streamed)


def test_labels_that_do_not_fill_a_step_are_left(parts: Parts) -> None:
    settings = StreamSettings(noise_groups=2, window_size=2, inference_steps=2, original_steps=2)
    world = parts.world(settings)
    world.reset(1, "a car")
    assert [index for index, _ in stream_frames(parts, world, ["D"] * 5)] == [0, 1, 2, 3]


def test_signals_are_filled_by_the_published_rule() -> None:
    assert fill_signal(["DL", "DL"], 5, 42) == ["DL", "DL", "D", "D", "D"]
    assert fill_signal(["DL"] * 3, 2, 0) == ["DL"] * 3
    # the base clip's are the stream's first
    assert fill_signal([], 17, 42)[:17] == fill_signal([], 40, 42)[:17]
    assert signal_length(StreamSettings(window_size=4, inference_steps=20), 8) == 4 * 8 + 17


@pytest.mark.parametrize(("window", "late"), [(1, 1), (1, 2), (2, 1), (1, 4)])
def test_label_k_is_the_last_word_on_latent_k(parts: Parts, window: int, late: int) -> None:
    settings = StreamSettings(window_size=window, late_labels=late)
    world = parts.world(settings)
    labels = [("D", "DL", "DR", "B", "N")[k * k % 5] for k in range(signal_length(settings, 12))]
    world.reset(1, "a car", labels=labels[: settings.latents])
    given = step_labels(settings, labels, 12)
    said: list[str] = []
    for _ in range(12):
        said += world.step([next(given) for _ in range(window)]).labels
    assert said == labels[1 : 1 + 12 * window]
