"""One VAE worker, driven directly: what a replaced one needs to go on without a seam."""

import numpy as np
import pytest
import torch

from actors.dit import pack
from actors.records import LatentChunk
from actors.vae import VaeWorker, unpack
from configs.choice import WeightChoice
from models.checkpoint import Checkpoint
from tests.tiny_checkpoint import CHANNELS, HEIGHT, WIDTH, write_checkpoint

LATENTS = 14


@pytest.fixture(scope="module", params=[False, True], ids=["tiny", "full"])
def weights(request, tmp_path_factory):
    return WeightChoice(
        write_checkpoint(tmp_path_factory.mktemp("weights") / "stage4", full_vae=request.param)
    )


@pytest.fixture
def worker(weights):
    return new_worker(weights)


def new_worker(weights):
    threads = torch.get_num_threads()
    worker = VaeWorker(weights, 0, 1)
    worker.join("file:///unused")
    worker.reset(0)
    torch.set_num_threads(threads)
    return worker


def chunk(index, dtype=torch.float32):
    generator = torch.Generator().manual_seed(index)
    latents, bfloat16 = pack(
        torch.randn(1, CHANNELS, HEIGHT // 8, WIDTH // 8, generator=generator).to(dtype)
    )
    return LatentChunk(index, latents, bfloat16)


def test_a_new_worker_goes_on_where_the_old_one_was(weights, worker):
    chunks = [chunk(index) for index in range(LATENTS)]
    decoded = [worker.decode(0, each) for each in chunks]
    other = new_worker(weights)
    other.restore(7, 9, *chunks[:9])
    for index in range(9, LATENTS):
        assert (other.decode(7, chunks[index]).frames == decoded[index].frames).all()
    assert sum(len(part.frames) for part in decoded) == 4 * LATENTS


def test_a_reset_forgets_everything_but_the_weights(worker, monkeypatch):
    # loaded once: it takes seconds at full size
    monkeypatch.setattr(Checkpoint, "autoencoder", None)
    first = [worker.decode(0, chunk(index)).frames for index in range(3)]
    worker.reset(0)
    again = [worker.decode(0, chunk(index)).frames for index in range(3)]
    assert all((one == other).all() for one, other in zip(first, again, strict=True))


def test_a_latent_out_of_turn_is_refused(worker):
    worker.decode(0, chunk(0))
    for wrong in (0, 2):
        with pytest.raises(RuntimeError, match=f"latent {wrong} came where 1 was expected"):
            worker.decode(0, chunk(wrong))


def test_bfloat16_latents_cross_as_bit_patterns():
    crossing = chunk(0, torch.bfloat16)
    assert crossing.latents.dtype == np.int16 and unpack(crossing).dtype == torch.bfloat16
    assert torch.equal(unpack(crossing).float(), unpack(chunk(0)).bfloat16().float())


def test_streams_of_one_worker_know_nothing_of_each_other(worker):
    alone = [worker.decode(0, chunk(index)).frames for index in range(4)]
    worker.reset(1)
    worker.reset(2)
    for index in range(4):
        worker.decode(
            2, chunk(index) if index == 0 else LatentChunk(index, chunk(9).latents, False)
        )
        assert (worker.decode(1, chunk(index)).frames == alone[index]).all()
    worker.forget(2)
    with pytest.raises(KeyError):
        worker.decode(2, chunk(4))
