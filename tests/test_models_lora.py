"""LoRA files: both key styles, alpha, and refusals."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from configs.errors import UserError
from models.lora import LoRA

LAYER = "transformer_blocks.0.attn1.to_q"
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
