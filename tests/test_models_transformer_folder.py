"""Transformer folders that diffusers' own classes have written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from configs.errors import UserError
from configs.schema import StreamSettings
from models.checkpoint import read_autoencoder
from models.transformer_folder import open_transformer, read_transformer, transformer_folder
from models.world import World, WorldParts
from tests.places import SHIPPED
from tests.small_world import CPU

diffusers = pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def stock() -> Any:
    torch.manual_seed(0)
    return diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=32,
        num_layers=2,
        time_embed_dim=16,
        text_embed_dim=32,
        sample_width=6,
        sample_height=4,
        max_text_seq_length=8,
    )


def test_a_transformer_saved_by_diffusers_opens_and_computes_the_same(
    stock: Any, tmp_path: Path
) -> None:
    stock.save_pretrained(tmp_path)
    config, _ = open_transformer(tmp_path)
    assert not config.steered
    ours = read_transformer(tmp_path, CPU, torch.float32)
    latents, text = torch.randn(1, 5, 16, 4, 6), torch.randn(1, 8, 32)
    with torch.no_grad():
        expected = stock(latents, text, torch.tensor([500])).sample
        got = ours(latents, torch.full((1, 5), 500), text, torch.randn(1, 5, config.control_dim))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_the_folder_of_the_other_parts_names_the_one_to_give() -> None:
    """What stage 4 takes from stage 3 beside it is no world by itself."""
    shared = SHIPPED.parent / "large" / "stage3"
    with pytest.raises(UserError, match=f"transformer.*; give {shared.parent}/stage4, which") as no:
        transformer_folder(shared)
    assert "\n" not in str(no.value)


def test_a_world_without_control_streams(stock: Any, tmp_path: Path) -> None:
    stock.save_pretrained(tmp_path)
    transformer = read_transformer(tmp_path, CPU, torch.float32)
    controls = torch.zeros(10, transformer.config.control_dim)
    world = World(WorldParts(transformer, controls, StreamSettings()))
    emitted = []
    for label in ("DL", "DR"):
        world.reset(7, torch.ones(1, 8, 32))
        emitted.append(world.step([label]).latents)
    assert torch.equal(*emitted)  # nothing reads the label


@pytest.mark.parametrize("variant", ["fp16", "bf16"])
def test_sharded_variants_saved_by_diffusers_open(stock: Any, tmp_path: Path, variant: str) -> None:
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}[variant]
    expected = {name: value.to(dtype).float() for name, value in stock.state_dict().items()}
    stock.to(dtype).save_pretrained(tmp_path, variant=variant, max_shard_size="200KB")
    stock.float()
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    ours = read_transformer(tmp_path, CPU, torch.float32).state_dict()
    assert all(torch.equal(ours[name], expected[name]) for name in ours)


def test_published_shapes_without_their_control_weights_are_refused(
    stock: Any, tmp_path: Path
) -> None:
    stock.save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    controlled = {"control_start_layer": 0, "control_end_layer": 2}
    file.write_text(json.dumps({**json.loads(file.read_text()), **controlled}))
    with pytest.raises(UserError, match="control_embedding.* missing"):
        read_transformer(tmp_path, CPU, torch.float32)


def test_an_autoencoder_saved_by_diffusers_opens_and_computes_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    stock = diffusers.AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 4,
        up_block_types=("CogVideoXUpBlock3D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
    ).eval()
    stock.half().save_pretrained(tmp_path, variant="fp16", max_shard_size="200KB")
    vae = read_autoencoder(tmp_path, CPU, torch.float32)
    latents = torch.randn(1, 4, 16, 4, 6)
    with torch.no_grad():
        expected = stock.float().decode(latents.transpose(1, 2)).sample.transpose(1, 2)
        torch.testing.assert_close(vae.decode(latents), expected, rtol=1e-3, atol=1e-3)
