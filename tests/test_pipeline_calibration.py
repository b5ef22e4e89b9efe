"""Measuring a processor: figures of its own, whatever its speed, and no thread count left behind."""

from functools import partial

import torch

from configs.schema import StreamSettings
from models.tae import TinyVAEConfig
from models.vae_config import FullVAEConfig
from pipeline.calibration import cpu_rank, cpu_talk, cpu_worker
from pipeline.prediction import Device, Model, predict
from tests.test_models_cost import SMALL


def test_two_ranks_of_this_machine_talk() -> None:
    talk = cpu_talk()
    assert 1e-5 < talk.exchange < 0.5 and 1e7 < talk.link < 1e12


def _same(worker: Device, workers: int) -> Device:
    return worker


def test_rates_are_this_machine_s() -> None:
    threads = torch.get_num_threads()
    for decoder in (TinyVAEConfig(), FullVAEConfig(block_out_channels=(32, 32, 32, 32))):
        model = Model(SMALL, StreamSettings(), decoder, 4, 4)
        rank, worker = cpu_rank(model), cpu_worker(model, 1)
        assert rank.linear > 1e9 and rank.attention > 1e8 and worker.convolution > 1e8
        assert rank.bandwidth > 1e8 and 1e-7 < rank.launch < 1e-2 and rank.memory > 1e9
        shown = predict(model, rank, partial(_same, worker), 2)
        assert all(0 < p.step < 60 and 0 < p.decode < 60 for p in shown)
    assert torch.get_num_threads() == threads
