"""Predictions hang together: more devices are never slower, what is printed is what the cost model
says, a device without room is told."""

from dataclasses import replace

import pytest

from configs.schema import StreamSettings
from models.cost import Cost
from models.tae import TinyVAEConfig
from models.transformer import TransformerConfig
from models.vae_config import FullVAEConfig
from pipeline.prediction import SHEETS, Device, Model, Shares, best, predict

PUBLISHED = Model(TransformerConfig(control_start_layer=15), StreamSettings(), FullVAEConfig())
H100 = Shares().of(SHEETS["h100"])


def test_time_is_what_the_parts_take() -> None:
    device = Device(
        name="d",
        linear=1e12,
        attention=5e11,
        convolution=2e11,
        bandwidth=1e11,
        launch=1e-6,
        link=1e10,
        exchange=1e-5,
        memory=1e10,
    )
    cost = Cost(linear=1e12, attention=1e12, convolution=1e12, traffic=1e11, kernels=5)
    assert device.seconds(cost) == pytest.approx(1 + 2 + 5 + 1)
    assert device.seconds(replace(cost, kernels=20_000_000)) == pytest.approx(20)
    assert replace(device, queued=False).seconds(replace(cost, kernels=10**6)) == pytest.approx(10)
    assert device.seconds(replace(cost, exchanges=100, sent=10**10)) == pytest.approx(9 + 1.001)


def test_more_devices_are_faster_and_need_less_memory_each() -> None:
    shown = {(p.dit, p.vae): p for p in predict(PUBLISHED, H100, lambda n: H100, 8)}
    assert {dit for dit, _ in shown} == {1, 2, 3, 5, 6} and max(map(sum, shown)) == 8
    for dit in (2, 3, 5):
        assert shown[dit, 1].step < shown[1, 1].step / dit * 1.3
        assert shown[dit, 1].dit_memory < shown[1, 1].dit_memory
    assert shown[1, 3].decode < shown[1, 1].decode / 2.5
    assert shown[1, 3].vae_memory < shown[1, 1].vae_memory
    assert shown[1, 0].fps < shown[1, 1].fps
    both = shown[1, 0]
    assert both.fps == pytest.approx(4 / (both.step + both.decode))


def test_the_key_shows_after_the_groups_it_does_not_steer() -> None:
    (late,) = predict(PUBLISHED, H100, lambda n: H100, 1)
    settings = StreamSettings(late_labels=4)
    (now,) = predict(replace(PUBLISHED, settings=settings), H100, lambda n: H100, 1)
    assert late.delay - now.delay == pytest.approx(3 * 0.25)
    assert now.delay == pytest.approx(0.125 + now.step + now.decode)


def test_the_best_split_is_in_real_time_if_any_is() -> None:
    l40s = Shares().of(SHEETS["l40s"])
    shown = predict(PUBLISHED, l40s, lambda n: l40s, 4)
    chosen = best(shown)
    assert chosen is not None and chosen.fps >= 16 and any(p.fps < 16 for p in shown)
    assert all(chosen.delay <= p.delay + 0.01 for p in shown if p.fps >= 16)


def test_worlds_need_room_for_the_memory_of_their_decoder() -> None:
    small = replace(H100, memory=3e9)
    (told,) = predict(PUBLISHED, small, lambda n: small, 1)
    assert not told.fits and told.worlds == 0 and best([told]) is None
    tiny = replace(PUBLISHED, decoder=TinyVAEConfig())
    roomy = replace(H100, linear=1e18, attention=1e18, bandwidth=1e18, convolution=1e18, launch=0.0)
    (full,) = predict(PUBLISHED, roomy, lambda n: roomy, 1)
    (light,) = predict(tiny, roomy, lambda n: roomy, 1)
    assert full.worlds == 25 and light.worlds > 500
