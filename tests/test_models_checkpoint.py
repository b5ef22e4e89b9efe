"""Weight folders: complete ones, transformer-only ones, and every way they can be broken."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from configs.choice import WeightChoice
from configs.errors import UserError
from configs.schema import StreamSettings
from models.checkpoint import Checkpoint
from models.parts import Parts
from models.saving import save_tensors
from models.start_clips import choose_clip
from models.tae import TinyVAE
from tests.places import GOLDEN
from tests.test_models_text import clip  # noqa: F401
from tests.tiny_checkpoint import (
    CHANNELS,
    CONTROL_DIM,
    HEIGHT,
    PROMPTS,
    TEXT_WIDTH,
    WIDTH,
    put,
    write_checkpoint,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("models") / "stage4")


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(whole, tmp_path / "stage4"))


def test_a_complete_folder(whole: Path) -> None:
    checkpoint = Checkpoint.open(whole)
    assert checkpoint.name.endswith("/stage4") and checkpoint.presets == list(PROMPTS)
    assert (checkpoint.height, checkpoint.width, checkpoint.latent_channels) == (
        HEIGHT,
        WIDTH,
        CHANNELS,
    )
    assert checkpoint.streaming.noise_groups == 2 and checkpoint.streaming.late_labels == 2
    assert checkpoint.scaling_factor == 1.0
    assert checkpoint.control_embeddings().shape == (10, CONTROL_DIM)
    assert checkpoint.text_encoder(CPU, torch.float32).encode(
        [PROMPTS[0], ""]
    ).embeddings.shape == (
        2,
        16,
        TEXT_WIDTH,
    )
    assert isinstance(checkpoint.autoencoder(CPU, torch.float32), TinyVAE)
    assert checkpoint.transformer(CPU, torch.bfloat16).proj_out.weight.dtype is torch.bfloat16
    frames = (
        checkpoint.autoencoder(CPU, torch.float32)
        .stream()
        .push(torch.zeros(1, CHANNELS, HEIGHT // 8, WIDTH // 8))
    )
    assert frames.shape == (4, HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("patch_size", [1, 2])
def test_a_picture_is_counted_in_latents(tmp_path: Path, patch_size: int) -> None:
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path / "stage4", patch_size=patch_size))
    unit = 8 * patch_size
    assert (checkpoint.height, checkpoint.width) == (patch_size * HEIGHT, patch_size * WIDTH)
    assert checkpoint.pixels_per_latent == unit
    assert checkpoint.latent_size() == (HEIGHT // 8, WIDTH // 8)
    assert checkpoint.latent_size(height=8 * unit) == (8, WIDTH // 8)
    for height, width in ((50, None), (None, 0), (-2 * unit, None), (None, unit), (16, 17 * unit)):
        with pytest.raises(UserError, match=f"multiples of {2 * unit} pixels"):
            checkpoint.latent_size(height, width)


def test_a_world_runs_on_it_and_prompts_are_encoded(whole: Path) -> None:
    checkpoint = Checkpoint.open(whole)
    world = Parts(checkpoint, CPU).world()
    world.reset(1, PROMPTS[0], start=checkpoint.start_latents(PROMPTS[0]))
    assert world.step(["DL"]).latents.shape == (1, CHANNELS, HEIGHT // 8, WIDTH // 8)


def test_start_clips_suit_the_prompt(whole: Path) -> None:
    checkpoint, clips = Checkpoint.open(whole), load_file(whole / "start_clips.safetensors")
    assert torch.equal(checkpoint.start_latents(PROMPTS[1]), clips["clip.1"])
    assert torch.equal(checkpoint.start_latents("snowy night, white mountains"), clips["clip.1"])
    assert choose_clip("Green hills!", dict(enumerate(PROMPTS))) == 2  # type: ignore[arg-type, comparison-overlap]
    assert choose_clip("zzz", {"clip.0": "a", "clip.1": "b"}) == "clip.0"


def test_a_clip_folder_that_is_not_there_is_told_though_it_is_not_needed(whole: Path) -> None:
    with pytest.raises(UserError, match="expected a CLIP folder, found none there"):
        Checkpoint.open(WeightChoice(whole, clip=whole / "nowhere"))


def test_without_clips_a_world_starts_from_nothing(folder: Path) -> None:
    (folder / "start_clips.safetensors").unlink()
    checkpoint = Checkpoint.open(folder)
    assert checkpoint.presets == [] and checkpoint.start_latents("x").shape == (
        0,
        CHANNELS,
        HEIGHT // 8,
        WIDTH // 8,
    )
    (folder / "presets.json").write_text('["one", "two"]')
    assert Checkpoint.open(folder).presets == ["one", "two"]


def split(folder: Path) -> tuple[Path, Path]:
    """Make a transformer-only folder and the shared one beside it."""
    shared = folder.rename(folder.parent / "stage3")
    folder.mkdir()
    shutil.copytree(shared / "transformer", folder / "transformer")
    return folder, shared


def test_transformer_only_folders_use_their_sibling_or_the_given_folder(folder: Path) -> None:
    alone, shared = split(folder)
    checkpoint = Checkpoint.open(alone)
    assert checkpoint.shared == shared.resolve() and checkpoint.presets == list(PROMPTS)
    # published stage 4: the shared folder's settings are not its own
    assert checkpoint.streaming == StreamSettings()
    elsewhere = shared.rename(shared.parent / "base")
    assert Checkpoint.open(WeightChoice(alone, base=elsewhere)).scaling_factor == 1.0
    with pytest.raises(UserError, match="vae, text_encoder, tokenizer missing .*--base-model-path"):
        Checkpoint.open(alone)
    with pytest.raises(UserError, match="base model folder .*: no such folder"):
        Checkpoint.open(WeightChoice(alone, base=alone / "absent"))


def test_older_folders_hold_the_transformer_directly_and_sharded(folder: Path) -> None:
    alone, _ = split(folder)
    old = alone.parent / "old"
    old.mkdir()
    tensors = load_file(alone / "transformer/diffusion_pytorch_model.safetensors")
    names = list(tensors)
    places: dict[str, str] = {}
    for i, part in enumerate((names[::2], names[1::2]), start=1):
        save_file({name: tensors[name] for name in part}, old / f"model-{i}.safetensors")
        places |= dict.fromkeys(part, f"model-{i}.safetensors")
    (old / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    shutil.copy(alone / "transformer/config.json", old)
    ours, expected = (
        Checkpoint.open(place).transformer(CPU, torch.float32).state_dict()
        for place in (old, alone)
    )
    assert all(torch.equal(ours[name], expected[name]) for name in expected)


def test_published_pipelines_without_settings_are_stage_3(folder: Path) -> None:
    (folder / "streaming.json").unlink()
    for name in ("stage3", "mine"):
        folder = folder.rename(folder.parent / name)
        settings = Checkpoint.open(folder).streaming
        assert (settings.solver, settings.window_size, settings.inference_steps) == ("dpm", 4, 20)


def test_a_pipeline_with_the_transformer_of_stage_4_is_stage_4(folder: Path) -> None:
    (folder / "streaming.json").unlink()
    assert Checkpoint.open(folder).streaming == StreamSettings()


def test_several_precisions_side_by_side(folder: Path) -> None:
    place = folder / "transformer"
    tensors = load_file(place / "diffusion_pytorch_model.safetensors")
    assert Checkpoint.open(folder).notes == []
    half = {name: value.half() for name, value in tensors.items()}
    save_file(half, place / "diffusion_pytorch_model.fp16.safetensors")
    (place / "._diffusion_pytorch_model.safetensors").write_bytes(b"left by a desktop")
    plain, asked = Checkpoint.open(folder), Checkpoint.open(WeightChoice(folder, variant="fp16"))
    assert plain.notes == ["weights: transformer plain (of plain, fp16)"]
    assert asked.notes == ["weights: transformer fp16 (of plain, fp16)"]
    for checkpoint, expected in ((plain, tensors), (asked, half)):
        ours = checkpoint.transformer(CPU, torch.float32).state_dict()
        assert all(torch.equal(ours[name], expected[name].float()) for name in ours)
    assert plain.model_hash != asked.model_hash
    with pytest.raises(UserError, match="variant 'bf16': .*only the plain one, fp16"):
        Checkpoint.open(WeightChoice(folder, variant="bf16"))


def test_a_link_is_looked_at_where_it_lies_and_where_it_leads(folder: Path) -> None:
    alone, shared = split(folder)
    store = folder.parent / "store"
    store.mkdir()
    moved = alone.rename(store / "stage4")
    alone.symlink_to(moved)
    assert Checkpoint.open(alone).shared.resolve() == shared.resolve()
    blob = store / "blob"  # as a hub's cache keeps files
    file = moved / "transformer/diffusion_pytorch_model.safetensors"
    file.rename(blob)
    file.symlink_to(blob)
    assert Checkpoint.open(alone).model_hash
    blob.unlink()
    with pytest.raises(UserError, match="No such file or directory; it is a link to"):
        Checkpoint.open(alone)


def test_a_folder_of_folders_says_which_one_was_meant(folder: Path) -> None:
    with pytest.raises(UserError, match="did you mean .*/stage4[?]"):
        Checkpoint.open(folder.parent)
    cache = folder.parent / "models--a--b/snapshots/0123"
    cache.mkdir(parents=True)
    folder = folder.rename(cache / "stage4")
    with pytest.raises(UserError, match="did you mean .*snapshots/0123/stage4[?]"):
        Checkpoint.open(cache.parent.parent)


def test_several_loras_each_with_its_scale(folder: Path, tmp_path: Path) -> None:
    layer = "transformer_blocks.1.attn1.to_v"
    plain = Checkpoint.open(folder).transformer(CPU, torch.float32).state_dict()
    width = plain[f"{layer}.weight"].shape[0]
    files, products = [], []
    for name in ("a", "b"):
        down, up = torch.randn(2, width), torch.randn(width, 2)
        files.append(tmp_path / f"{name}.safetensors")
        save_file({f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}, files[-1])
        products.append(up @ down)
    choice = WeightChoice(folder, lora=((files[0], 0.5), (files[1], -2.0)))
    checkpoint = Checkpoint.open(choice)
    fused = checkpoint.transformer(CPU, torch.float32).state_dict()
    expected = plain[f"{layer}.weight"] + 0.5 * products[0] - 2 * products[1]
    torch.testing.assert_close(fused[f"{layer}.weight"], expected)
    other = Checkpoint.open(WeightChoice(folder, lora=((files[0], 0.6), (files[1], -2.0))))
    assert other.world_hash != checkpoint.world_hash != Checkpoint.open(folder).world_hash


def test_the_tiny_decoder_in_place_of_the_folders(folder: Path, tmp_path: Path) -> None:
    file = GOLDEN / "taecvx_shaped.safetensors"
    checkpoint = Checkpoint.open(WeightChoice(folder, vae=("tiny", file)))
    vae = checkpoint.autoencoder(CPU, torch.float32)
    assert (
        isinstance(vae, TinyVAE) and not vae.config.residual_shortcuts and vae.scaling_factor == 1.0
    )
    with pytest.raises(UserError, match="expected tiny"):
        Checkpoint.open(WeightChoice(folder, vae=("huge", file)))
    with pytest.raises(UserError, match="not a TAECVX"):
        Checkpoint.open(
            WeightChoice(folder, vae=("tiny", folder / "control_embeddings.safetensors"))
        )
    with pytest.raises(UserError, match="no such file"):
        Checkpoint.open(WeightChoice(folder, vae=("tiny", tmp_path / "absent.safetensors")))


def test_lora_changes_the_transformer(folder: Path, tmp_path: Path) -> None:
    layer = "transformer_blocks.1.attn1.to_v"
    plain = Checkpoint.open(folder).transformer(CPU, torch.float32).state_dict()
    width = plain[f"{layer}.weight"].shape[0]
    down, up = torch.randn(2, width), torch.randn(width, 2)
    file = tmp_path / "lora.safetensors"
    save_file(
        {f"transformer.{layer}.lora_A.weight": down, f"transformer.{layer}.lora_B.weight": up}, file
    )
    fused = (
        Checkpoint.open(WeightChoice(folder, lora=((file, 1.0),)))
        .transformer(CPU, torch.float32)
        .state_dict()
    )
    torch.testing.assert_close(fused[f"{layer}.weight"], plain[f"{layer}.weight"] + up @ down)
    assert all(torch.equal(fused[name], plain[name]) for name in plain if name != f"{layer}.weight")
    with pytest.raises(UserError, match="cannot be read|no such file"):
        Checkpoint.open(WeightChoice(folder, lora=((tmp_path / "absent.safetensors", 1.0),)))


def test_the_model_hash_follows_the_transformer(folder: Path, whole: Path) -> None:
    assert Checkpoint.open(folder).model_hash == Checkpoint.open(whole).model_hash
    file = folder / "transformer/diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({name: value + 1 for name, value in tensors.items()}, file)
    assert Checkpoint.open(folder).model_hash != Checkpoint.open(whole).model_hash


def edit(name: str, **values: object) -> Callable[[Path], None]:
    """Change keys of a JSON file."""

    def change(folder: Path) -> None:
        file = folder / name
        file.write_text(json.dumps({**json.loads(file.read_text()), **values}))

    return change


def remove(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        place = folder / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()

    return change


def resave(name: str, **tensors: torch.Tensor) -> Callable[[Path], None]:
    return lambda folder: save_tensors(folder / name, tensors)


VECTORS = {
    "control_embeddings": torch.zeros(9, CONTROL_DIM),
    "null_control": torch.zeros(CONTROL_DIM),
}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            remove("transformer"),
            "no transformer/ there, so it is not a weight folder; it holds .*vae/",
        ),
        (remove("transformer/config.json"), "transformer/config.json: cannot be read"),
        (
            remove("transformer/diffusion_pytorch_model.safetensors"),
            "transformer: no safetensors weights",
        ),
        (remove("vae"), "vae missing"),
        (remove("text_encoder"), "text_encoder missing"),
        (remove("tokenizer/spiece.model"), "no spiece.model"),
        (remove("control_embeddings.safetensors"), "control_embeddings.safetensors is missing"),
        (put("transformer/config.json", b"{"), "config.json: not valid JSON"),
        (put("vae/diffusion_pytorch_model.safetensors", b"version https://git-lfs"), "Git-LFS"),
        (put("text_encoder/model.safetensors", b""), "the file is empty"),
        (edit("transformer/config.json", num_layers=4, control_end_layer=4), "tensors .* missing"),
        (
            edit("transformer/config.json", num_layers=2, control_end_layer=2),
            "tensors .* not expected",
        ),
        (edit("transformer/config.json", time_embed_dim=64), r"wrong shape: .*\(file \[.*model \["),
        (edit("transformer/config.json", _class_name="UNet"), "class 'UNet', expected CogVideoX"),
        (
            edit("vae/config.json", _class_name="Evil"),
            "class 'Evil', expected AutoencoderKLCogVideoX or TinyVAE",
        ),
        (edit("vae/config.json", latent_channels=8), "wrong shape"),
        (edit("text_encoder/config.json", d_model=64), "text width d_model is 64"),
        (edit("text_encoder/config.json", vocab_size=65), "shared.weight of shape"),
        (
            edit("vae/config.json", _class_name=[]),
            "class .., expected AutoencoderKLCogVideoX or TinyVAE",
        ),
        (
            edit("vae/config.json", latent_channels="16"),
            "vae/config.json: .*latent_channels: expected a whole number",
        ),
        (
            edit("vae/config.json", scaling_factor=0),
            "vae/config.json: .*scaling_factor: expected a number",
        ),
        (
            edit("vae/config.json", decoder_widths=[0, 8, 8, 4]),
            "decoder_widths must be four positive whole numbers",
        ),
        (edit("transformer/config.json", num_layers=10**9), "num_layers must be at most"),
        (edit("transformer/config.json", control_dim=-1), "control_dim must be at least 1"),
        (edit("transformer/config.json", norm_eps=float("nan")), "norm_eps must be"),
        (
            edit("text_encoder/config.json", num_layers="1"),
            "text_encoder: .*num_layers: expected a whole number",
        ),
        (
            edit("text_encoder/config.json", num_layers=2),
            "text_encoder/model.safetensors: .*block.1.* missing",
        ),
        (
            edit("text_encoder/config.json", num_heads=8),
            "text_encoder/model.safetensors: wrong shape",
        ),
        (
            put("tokenizer/spiece.model", b"version https://git-lfs"),
            "tokenizer/spiece.model: .*not a SentencePiece",
        ),
        (
            edit("streaming.json", guidance_scale="6"),
            "streaming.json: .*guidance_scale: expected a number",
        ),
        (edit("streaming.json", window_size=10**6), "streaming.json: .*at most 1024 latents"),
        (
            edit("streaming.json", noise_group=4),
            "unknown key 'noise_group'; did you mean noise_groups",
        ),
        (edit("streaming.json", noise_groups=3), "streaming.json: .*multiple of noise_groups"),
        (edit("streaming.json", solver="euler"), "streaming.json: .*solver"),
        (put("streaming.json", b"[]"), "expected a JSON object"),
        (put("presets.json", b"{}"), "expected a list of prompts"),
        (
            resave("control_embeddings.safetensors", **VECTORS, x=torch.zeros(1)),
            "tensor x not expected",
        ),
        (
            resave(
                "control_embeddings.safetensors",
                **{**VECTORS, "null_control": torch.full((CONTROL_DIM,), torch.nan)},
            ),
            "holds NaN",
        ),
        (
            resave("start_clips.safetensors", **{"clip.0": torch.zeros(1, CHANNELS, 4, 6)}),
            "metadata",
        ),
    ],
)
def test_broken_folders(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder)
    with pytest.raises(UserError, match=message) as error:
        Checkpoint.open(folder)
    assert "\n" not in str(error.value)


def test_a_tokenizer_of_another_text_encoder(folder: Path) -> None:
    """Its pieces beyond the vocabulary would have no embedding."""
    tensors = load_file(folder / "text_encoder/model.safetensors")
    tensors["shared.weight"] = tensors["shared.weight"][:20].clone()
    save_file(tensors, folder / "text_encoder/model.safetensors")
    edit("text_encoder/config.json", vocab_size=20)(folder)
    with pytest.raises(
        UserError, match=r"spiece.model: \d+ pieces, but the text encoder knows only 20"
    ):
        Checkpoint.open(folder)


def test_a_broken_clip_folder_is_told_before_anything_loads(folder: Path, tmp_path: Path) -> None:
    (folder / "control_embeddings.safetensors").unlink()
    with pytest.raises(
        UserError, match=r"CLIP folder .*expected config\.json and model\.safetensors"
    ):
        Checkpoint.open(WeightChoice(folder, clip=tmp_path))


def test_control_embeddings_are_computed_once_from_a_local_clip(folder: Path, clip: Path) -> None:  # noqa: F811
    (folder / "control_embeddings.safetensors").unlink()
    vectors = Checkpoint.open(WeightChoice(folder, clip=clip)).control_embeddings()
    assert (folder / "control_embeddings.safetensors").is_file()
    assert vectors.shape == (10, CONTROL_DIM)
    assert torch.equal(Checkpoint.open(folder).control_embeddings(), vectors)


def test_broken_clips(folder: Path) -> None:
    save_tensors(
        folder / "start_clips.safetensors",
        {"clip.0": torch.zeros(2, 3, 4, 6)},
        {"prompts": '["x"]'},
    )
    with pytest.raises(
        UserError, match=r"clip.0: expected \[latents, 16, h, w\], found \[2, 3, 4, 6\]"
    ):
        Checkpoint.open(folder)


def test_what_is_not_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        Checkpoint.open(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="expected a folder, found a file"):
        Checkpoint.open(tmp_path / "file")
    with pytest.raises(UserError, match="not a weight folder; it is empty"):
        empty = tmp_path / "empty"
        empty.mkdir()
        Checkpoint.open(empty)


def test_saving_is_all_or_nothing(tmp_path: Path) -> None:
    save_tensors(tmp_path / "x.safetensors", {"a": torch.ones(2)})
    with pytest.raises(UserError, match="cannot be written"):
        save_tensors(tmp_path / "no/such/x.safetensors", {"a": torch.ones(2)})
    assert [item.name for item in tmp_path.iterdir()] == ["x.safetensors"]


def test_what_cannot_be_saved_says_why_in_plain_words(tmp_path: Path) -> None:
    file = tmp_path / "no" / "x.safetensors"
    with pytest.raises(UserError) as refused:
        save_tensors(file, {"a": torch.ones(2)})
    assert str(refused.value) == f"{file}: cannot be written (No such file or directory)"


def test_deeply_nested_json_is_one_line(tmp_path: Path) -> None:
    """In whichever file of a weight folder."""
    for name in ("presets.json", "streaming.json", "transformer/config.json", "vae/config.json"):
        folder = write_checkpoint(tmp_path / name.replace("/", "-"))
        (folder / name).write_text("[" * 100_000)
        with pytest.raises(UserError, match=r"\.json") as error:
            Checkpoint.open(WeightChoice(folder))
        assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_metadata_of_start_clips_may_be_hostile(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "stage4")
    clips = load_file(folder / "start_clips.safetensors")
    for text in ("[" * 100_000, "{}", "3", '"prompt"'):
        save_tensors(folder / "start_clips.safetensors", clips, {"prompts": text})
        with pytest.raises(UserError, match="start_clips"):
            Checkpoint.open(WeightChoice(folder))
