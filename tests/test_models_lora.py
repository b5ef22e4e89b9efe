"""LoRA files: every form that is read against its formula, and refusals that name the form."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from configs.errors import UserError
from models.lora import LoRA

LAYER = "transformer_blocks.0.attn1.to_q"
FLAT = LAYER.replace(".", "_")
SHAPES: dict[str, tuple[int, ...]] = {
    f"{LAYER}.weight": (6, 4),
    f"{LAYER}.bias": (6,),
    "patch_embed.proj.weight": (6, 4, 2, 2),
}


def halves(rank: int = 3) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(rank, 4), torch.randn(6, rank)


def fused(file: Path, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    save_file(tensors, file)
    torch.manual_seed(1)
    weights = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    LoRA.open(file, SHAPES).fuse(weights)
    return weights


@pytest.mark.parametrize(
    ("down_key", "up_key"),
    [
        (f"transformer.{LAYER}.lora_A.weight", f"transformer.{LAYER}.lora_B.weight"),
        (
            f"base_model.model.{LAYER}.lora_A.default.weight",
            f"base_model.model.{LAYER}.lora_B.default.weight",
        ),
        (f"{LAYER}.lora_down.weight", f"{LAYER}.lora_up.weight"),
        (
            f"transformer.{LAYER}.lora_A.default_0.weight",
            f"transformer.{LAYER}.lora_B.default_0.weight",
        ),
        (f"{LAYER}.lora_A.my-style.weight", f"{LAYER}.lora_B.my-style.weight"),
        (f"diffusion_model.{LAYER}.lora.down.weight", f"diffusion_model.{LAYER}.lora.up.weight"),
        *[
            (f"{start}{FLAT}.lora_down.weight", f"{start}{FLAT}.lora_up.weight")
            for start in ("lora_transformer_", "lora_unet_", "lora_unet__")
        ],
    ],
)
def test_key_styles_and_alpha(tmp_path: Path, down_key: str, up_key: str) -> None:
    down, up = halves()
    base = fused(tmp_path / "zero.safetensors", {down_key: down, up_key: torch.zeros(6, 3)})
    plain = fused(tmp_path / "plain.safetensors", {down_key: down, up_key: up})
    torch.testing.assert_close(plain[f"{LAYER}.weight"], base[f"{LAYER}.weight"] + up @ down)
    alpha = down_key.split(".lora")[0] + ".alpha"
    scaled = fused(
        tmp_path / "alpha.safetensors", {down_key: down, up_key: up, alpha: torch.tensor(1.5)}
    )
    torch.testing.assert_close(scaled[f"{LAYER}.weight"], base[f"{LAYER}.weight"] + 0.5 * up @ down)
    assert torch.equal(scaled["patch_embed.proj.weight"], base["patch_embed.proj.weight"])


def test_convolutions(tmp_path: Path) -> None:
    down, up = torch.randn(3, 4, 2, 2), torch.randn(6, 3, 1, 1)
    keys = [f"patch_embed.proj.lora_{half}.weight" for half in "AB"]
    base = fused(tmp_path / "zero.safetensors", {keys[0]: down, keys[1]: torch.zeros_like(up)})
    ours = fused(tmp_path / "x.safetensors", {keys[0]: down, keys[1]: up})
    expected = base["patch_embed.proj.weight"] + (up.flatten(1) @ down.flatten(1)).view(6, 4, 2, 2)
    torch.testing.assert_close(ours["patch_embed.proj.weight"], expected)


def base_weights() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn(shape) for name, shape in SHAPES.items()}


@pytest.mark.parametrize(
    "key", ["lora_magnitude_vector", "lora_magnitude_vector.weight", "dora_scale"]
)
def test_dora_gives_every_row_its_learned_length(tmp_path: Path, key: str) -> None:
    down, up = halves()
    magnitude = torch.rand(6) + 0.5
    tensors = {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}
    weights = fused(tmp_path / "x.safetensors", {**tensors, f"{LAYER}.{key}": magnitude[:, None]})
    direction = base_weights()[f"{LAYER}.weight"] + up @ down
    rows = direction / direction.norm(dim=1, keepdim=True) * magnitude[:, None]
    torch.testing.assert_close(weights[f"{LAYER}.weight"], rows)


def test_differences_of_weight_and_bias(tmp_path: Path) -> None:
    diff, diff_b = torch.randn(6, 4), torch.randn(6)
    file = tmp_path / "x.safetensors"
    weights = fused(file, {f"{LAYER}.diff": diff, f"{LAYER}.diff_b": diff_b})
    before = base_weights()
    torch.testing.assert_close(weights[f"{LAYER}.weight"], before[f"{LAYER}.weight"] + diff)
    torch.testing.assert_close(weights[f"{LAYER}.bias"], before[f"{LAYER}.bias"] + diff_b)


def test_a_bias_that_comes_with_the_update(tmp_path: Path) -> None:
    down, up = halves()
    bias = torch.randn(6)
    tensors = {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}
    tensors |= {f"{LAYER}.lora_B.bias": bias, f"{LAYER}.alpha": torch.tensor(1.5)}
    weights = fused(tmp_path / "x.safetensors", tensors)
    torch.testing.assert_close(
        weights[f"{LAYER}.bias"], base_weights()[f"{LAYER}.bias"] + 0.5 * bias
    )


@pytest.mark.parametrize(
    ("settings", "scale"),
    [
        ({"transformer.r": 3, "transformer.lora_alpha": 6}, 2.0),
        ({"r": 3, "lora_alpha": 6, "use_rslora": True}, 6 / 3**0.5),
        ({"lora_alpha": 6, "alpha_pattern": {"attn1.to_q": 9}}, 3.0),
        ({"lora_alpha": 6, "alpha_pattern": {"attn1.to_k": 9}}, 2.0),
    ],
)
def test_the_scale_of_a_file_that_says_it_in_its_metadata(
    tmp_path: Path, settings: dict[str, object], scale: float
) -> None:
    down, up = halves()
    file = tmp_path / "x.safetensors"
    tensors = {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}
    save_file(tensors, file, {"lora_adapter_metadata": json.dumps(settings)})
    weights = base_weights()
    LoRA.open(file, SHAPES).fuse(weights)
    torch.testing.assert_close(
        weights[f"{LAYER}.weight"], base_weights()[f"{LAYER}.weight"] + scale * up @ down
    )


def test_the_scale_that_peft_keeps_beside_its_file(tmp_path: Path) -> None:
    down, up = halves()
    file = tmp_path / "adapter_model.safetensors"
    keys = [f"base_model.model.{LAYER}.lora_{half}.weight" for half in "AB"]
    save_file(dict(zip(keys, (down, up))), file)
    (tmp_path / "adapter_config.json").write_text('{"r": 3, "lora_alpha": 6}')
    for place in (file, tmp_path):
        weights = base_weights()
        LoRA.open(place, SHAPES).fuse(weights)
        torch.testing.assert_close(
            weights[f"{LAYER}.weight"], base_weights()[f"{LAYER}.weight"] + 2 * up @ down
        )


def test_strength_scales_the_update(tmp_path: Path) -> None:
    down, up = halves()
    file = tmp_path / "x.safetensors"
    save_file({f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}, file)
    weights = base_weights()
    LoRA.open(file, SHAPES).fuse(weights, 0.25)
    torch.testing.assert_close(
        weights[f"{LAYER}.weight"], base_weights()[f"{LAYER}.weight"] + 0.25 * up @ down
    )


def test_updates_that_overflow_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file({f"{LAYER}.diff": torch.full((6, 4), 1e30)}, file)
    weights = {name: tensor.half() for name, tensor in base_weights().items()}
    with pytest.raises(UserError, match="not finite in float16"):
        LoRA.open(file, SHAPES).fuse(weights)


def test_two_adapters_in_one_file_are_refused(tmp_path: Path) -> None:
    down, up = halves()
    tensors = {
        f"{LAYER}.lora_{half}.{name}.weight": value
        for name in ("one", "two")
        for half, value in (("A", down.clone()), ("B", up.clone()))
    }
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match="is there twice"):
        LoRA.open(tmp_path / "x.safetensors", SHAPES)


def test_half_precision_targets(tmp_path: Path) -> None:
    down, up = halves()
    save_file(
        {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up}, tmp_path / "x.safetensors"
    )
    weights = {f"{LAYER}.weight": torch.zeros(6, 4).bfloat16()}
    LoRA.open(tmp_path / "x.safetensors", SHAPES).fuse(weights)
    assert torch.equal(weights[f"{LAYER}.weight"], (up @ down).bfloat16())


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, "holds no LoRA tensors"),
        ({"a": (1,)}, "fits no layer"),
        ({"other.layer.lora_A.weight": (3, 4)}, "fits no layer"),
        ({f"{LAYER}.lora_A.weight": (3, 4)}, "has no up half"),
        ({f"{LAYER}.lora_B.weight": (6, 3)}, "has no down half"),
        (
            {f"{LAYER}.lora_A.weight": (3, 5), f"{LAYER}.lora_B.weight": (6, 3)},
            r"expected down \[r, 4\] and up \[6, r\]",
        ),
        ({f"{LAYER}.lora_A.weight": (3, 4), f"{LAYER}.lora_B.weight": (6, 2)}, "expected down"),
        ({f"{LAYER}.lora_A.weight": (3,), f"{LAYER}.lora_B.weight": (6, 3)}, "expected down"),
        ({f"{LAYER}.lora_A.weight": (0, 4), f"{LAYER}.lora_B.weight": (6, 0)}, "r >= 1"),
        ({f"{LAYER}.diff": (6, 5)}, "expected 24 numbers"),
        ({"patch_embed.proj.diff_b": (6,)}, "it has no bias"),
        ({f"{LAYER}.hada_w1_a": (6, 3)}, "not read: LoHa"),
        ({f"{LAYER}.lokr_w1": (6, 3)}, "not read: LoKr"),
        ({f"{LAYER}.oft_blocks": (6, 3)}, "not read: OFT"),
        ({"lora_te_text_model_encoder.lora_down.weight": (3, 4)}, "text encoder"),
    ],
)
def test_files_that_do_not_fit(
    tmp_path: Path, tensors: dict[str, tuple[int, ...]], message: str
) -> None:
    file = tmp_path / "x.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in tensors.items()}, file)
    with pytest.raises(UserError, match=message) as error:
        LoRA.open(file, SHAPES)
    assert str(error.value).startswith(str(file))


def test_broken_numbers(tmp_path: Path) -> None:
    down, up = halves()
    up[0, 0] = torch.nan
    with pytest.raises(UserError, match="holds NaN"):
        fused(
            tmp_path / "x.safetensors",
            {f"{LAYER}.lora_A.weight": down, f"{LAYER}.lora_B.weight": up},
        )


def test_pickled_files_are_never_opened(tmp_path: Path) -> None:
    (tmp_path / "x.pt").write_bytes(b"\x80\x02")
    with pytest.raises(UserError, match="never opened"):
        LoRA.open(tmp_path / "x.pt", SHAPES)
