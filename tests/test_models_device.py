"""Device and dtype choice on a machine without CUDA (and the refusals everywhere)."""

import os
from pathlib import Path

import pytest
import torch

from configs.errors import UserError
from models.device import (
    cores,
    cores_of_each,
    has_bfloat16,
    pick_decoder_dtype,
    pick_device,
    pick_dtype,
    processor,
    processor_flags,
    processor_name,
    tanh_gelu,
)


def test_auto_takes_what_is_there() -> None:
    device = pick_device()
    assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_dtype("auto", torch.device("cpu")) is torch.float32
    assert pick_dtype("auto", torch.device("cuda")) is torch.bfloat16
    assert pick_dtype("float16", device) is torch.float16


def test_decoders_take_bfloat16_only_where_it_is_faster_and_nobody_asked_for_more() -> None:
    cpu = torch.device("cpu")
    assert pick_decoder_dtype("auto", cpu) is (
        torch.bfloat16 if has_bfloat16(cpu) else torch.float32
    )
    assert pick_decoder_dtype("auto", torch.device("cuda")) is torch.bfloat16
    assert pick_decoder_dtype("float32", cpu) is torch.float32


def test_workers_that_compute_at_once_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)))
    assert cores() == 7 and [cores_of_each(n) for n in (1, 2, 3, 99)] == [7, 3, 2, 1]
    assert processor().endswith(" 7") and processor_name() in processor()
    assert all(flag in processor() for flag in processor_flags())


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="asks Linux what the processor has")
def test_every_kind_of_bfloat16_unit_counts() -> None:
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert has_bfloat16(torch.device("cpu")) == bool(flags & {"amx_bf16", "avx512_bf16"})


@pytest.mark.parametrize("name", ["gpu", "cuda:-1", "cuda:x", "", "cpu:0", "cuda:99"])
def test_absent_devices_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="device"):
        pick_device(name)


def test_unknown_dtype_is_refused() -> None:
    with pytest.raises(UserError, match="dtype"):
        pick_dtype("float8", torch.device("cpu"))


def test_gelu_without_gradients_equals_the_one_with() -> None:
    x = torch.linspace(-12, 12, 4001)
    expected = torch.nn.functional.gelu(x, approximate="tanh")
    assert torch.equal(tanh_gelu(x), expected)
    with torch.inference_mode():
        torch.testing.assert_close(tanh_gelu(x), expected, atol=1e-6, rtol=1e-6)
        assert torch.isfinite(tanh_gelu(x * 1e6)).all()
