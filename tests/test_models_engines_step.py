"""The step as a graph: PyTorch's velocity, for every number of prompts and every row of timesteps."""

import pytest
import torch

from models.engines.step import GraphStepper
from models.transformer import Transformer
from models.transformer_folder import read_transformer
from tests.tiny_checkpoint import write_checkpoint

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def transformer(tmp_path_factory: pytest.TempPathFactory) -> Transformer:
    folder = write_checkpoint(tmp_path_factory.mktemp("weights") / "stage4")
    return read_transformer(folder / "transformer", torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("prompts", [1, 2])
@torch.inference_mode()
def test_velocity_equals(transformer: Transformer, prompts: int) -> None:
    torch.manual_seed(2)
    vocabulary = torch.randn(1, 10, 24)
    times = [transformer.modulate(torch.tensor([row])) for row in ([0, 499, 999], [0, 249, 749])]
    rows = [(time, transformer.control_keys(vocabulary, time)) for time in times]
    stepper = GraphStepper(transformer, rows)
    for _ in range(2):  # the second time with other values in the same requests
        latents = torch.randn(3, 16, 4, 6)
        text = transformer.embed_text(torch.randn(prompts, 16, 32))
        labels = torch.randint(10, (3,))
        for number, (time, keys) in enumerate(rows):
            chosen = [(k[:, labels], v[:, labels]) for k, v in keys]
            batch = latents.expand(prompts, *latents.shape)
            expected = transformer.denoise(batch, text, time, chosen)
            ours = stepper.velocity(latents, text, number, labels)
            assert (ours - expected).norm() / expected.norm() < 1e-5
