"""The same equalities on CUDA: one device against the CPU, and several devices against one, with
both backends."""

import pytest
import torch
from torch import Tensor

from configs.schema import StreamSettings
from models.parallel import SequenceGroup
from models.world import World
from tests.ranks import run_ranks
from tests.small_world import CPU, SmallWeights

pytestmark = pytest.mark.gpu

SETTINGS = StreamSettings()
DEVICES = torch.cuda.device_count() if torch.cuda.is_available() else 0
needs_one = pytest.mark.skipif(DEVICES < 1, reason="needs a CUDA device")
needs_two = pytest.mark.skipif(DEVICES < 2, reason="needs two CUDA devices")


def _stream(group: SequenceGroup, device: str, dtype: torch.dtype = torch.float32) -> Tensor:
    torch.backends.cuda.matmul.allow_tf32 = False
    world = World(SmallWeights(SETTINGS).parts(torch.device(device), dtype), group=group)
    world.reset(3, "a prompt")
    return torch.cat([world.step([label]).latents for label in ("D", "DL", "DR") * 4]).float().cpu()


def _stream_on_own_device(group: SequenceGroup) -> Tensor:
    return _stream(group, f"cuda:{group.rank}")


@needs_one
def test_one_device_equals_the_cpu() -> None:
    expected = _stream(SequenceGroup.single(), "cpu")
    ours = _stream(SequenceGroup.single(), "cuda:0")
    assert float((ours - expected).abs().max()) <= 1e-3 * float(expected.abs().max())


@needs_one
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_streams_stay_finite(dtype: torch.dtype) -> None:
    assert torch.isfinite(_stream(SequenceGroup.single(), "cuda:0", dtype)).all()


@needs_one
def test_one_forward_equals_the_cpu() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    latents, text, control = (
        torch.randn(2, 5, 4, 6, 10),
        torch.randn(2, 7, 12),
        torch.randn(2, 5, 10),
    )
    timesteps = torch.tensor([[0, 249, 499, 749, 999]])
    model = SmallWeights().transformer(CPU, torch.float32)
    expected = model(latents, timesteps, text, control)
    ours = model.to("cuda:0")(*(x.to("cuda:0") for x in (latents, timesteps, text, control))).cpu()
    assert float((ours - expected).abs().max()) <= 1e-4 * float(expected.abs().max())


@needs_two
@pytest.mark.parametrize("backend", ["nccl", "xfuser"])
def test_two_devices_equal_one(backend: str) -> None:
    if backend == "xfuser":
        pytest.importorskip("xfuser")
    expected = _stream(SequenceGroup.single(), "cuda:0")
    for stream in run_ranks(2, _stream_on_own_device, backend=backend):
        assert float((stream - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
