"""Tokenizer and text encoder against transformers' own, on a SentencePiece model and networks made
here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, T5Config, T5EncoderModel, T5Tokenizer

from configs.errors import UserError
from models.controls import SENTENCES
from models.text import TextEncoder, Tokenizer, clip_control_embeddings, expected_shapes
from tests.places import ROOT
from tests.tiny_checkpoint import spiece_model

CORPUS = [
    "A red car drives through a desert at sunset.",
    "The road winds between green hills under a clear sky.",
    "Snow covers the mountains; the car turns left ahead.",
    "A city at night with lit windows and a blue car.",
    "Forest, coast, meadow and sand: five places to drive.",
] * 8
PROMPTS = [
    "A red car drives.",
    "",
    "the   road  at night,  with sand",
    "Überholen \u4e16\u754c!",
    "x" * 3,
]
T5 = {
    "vocab_size": 160,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 48,
    "num_layers": 2,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
}


@pytest.fixture(scope="module")
def spiece() -> bytes:
    return spiece_model(CORPUS, 120)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, spiece: bytes) -> Path:
    """A folder as transformers writes it, with spiece.model as the published tokenizer folders hold
    it."""
    folder = tmp_path_factory.mktemp("t5")
    torch.manual_seed(0)
    T5EncoderModel(T5Config(**T5)).eval().save_pretrained(folder / "text_encoder")
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "spiece.model").write_bytes(spiece)
    (folder / "tokenizer" / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 0})
    )
    return folder


def _load(reference: Path, spiece: bytes, dtype: torch.dtype = torch.float32) -> TextEncoder:
    config = json.loads((reference / "text_encoder" / "config.json").read_text())
    tensors = load_file(reference / "text_encoder" / "model.safetensors")
    tensors = {name: tensors[name].to(dtype) for name in expected_shapes(config)}
    return TextEncoder(config, tensors, spiece, 24)


def test_ids_end_with_eos_and_padding(spiece: bytes) -> None:
    ids = Tokenizer(spiece, 24).encode(["A red car drives.", ""])
    assert ids.shape == (2, 24) and ids.dtype == torch.long
    length = ids[0].tolist().index(1) + 1
    assert length > 2 and not ids[0, length:].any()
    assert ids[1].tolist() == [1] + [0] * 23


def test_ids_equal_those_of_the_transformers_tokenizer(reference: Path, spiece: bytes) -> None:
    theirs = T5Tokenizer.from_pretrained(reference / "tokenizer", local_files_only=True)
    expected = theirs(
        PROMPTS, padding="max_length", max_length=24, truncation=True, return_tensors="pt"
    ).input_ids
    assert torch.equal(Tokenizer(spiece, 24).encode(PROMPTS), expected)


def test_a_long_prompt_is_cut_with_a_notice_and_keeps_its_end(spiece: bytes) -> None:
    tokenizer = Tokenizer(spiece, 8)
    ids = tokenizer.encode(["A red car drives through a desert at sunset."])[0].tolist()
    whole = (
        Tokenizer(spiece, 64).encode(["A red car drives through a desert at sunset."])[0].tolist()
    )
    assert ids == [*whole[:7], 1]
    notice = tokenizer.notice(["sand", "A red car drives through a desert at sunset."])
    assert "only the first 7 are used" in notice and "sunset" in notice and "\n" not in notice
    assert tokenizer.notice(["sand", ""]) == ""
    text = "A red car drives through a desert at sunset"
    for room in range(2, 12):  # wherever the cut falls, whole words are named
        lost = Tokenizer(spiece, room).notice([text]).partition("ignored: ")[2].strip("'")
        assert text.endswith(lost) and set(lost.split()) <= set(text.split()), (room, lost)


@pytest.mark.parametrize(
    "prompt",
    ["a\ud800b", "\udfff", "red\x00car", "red\ncar\t\x1b[0m", "\U0001f697" * 50, "a\u202eb"],
)
def test_any_string_can_be_encoded(reference: Path, spiece: bytes, prompt: str) -> None:
    embedding = _load(reference, spiece).encode([prompt]).embeddings
    assert embedding.shape == (1, 24, 32) and embedding.isfinite().all()


def test_control_characters_count_as_spaces(spiece: bytes) -> None:
    ids = Tokenizer(spiece, 24).encode(["red\ncar", "red\x00car", "red car"])
    assert torch.equal(ids[0], ids[2]) and torch.equal(ids[1], ids[2])


def test_embeddings_equal_those_of_transformers_without_a_mask(
    reference: Path, spiece: bytes
) -> None:
    theirs = T5EncoderModel.from_pretrained(
        reference / "text_encoder", local_files_only=True
    ).eval()
    encoder = _load(reference, spiece)
    with torch.no_grad():
        expected = theirs(encoder.tokenizer.encode(PROMPTS)).last_hidden_state
    embeddings = encoder.encode(PROMPTS).embeddings
    assert embeddings.shape == (5, 24, encoder.width)
    torch.testing.assert_close(embeddings, expected, rtol=1e-6, atol=1e-6)
    one = encoder.encode(PROMPTS[:1]).embeddings
    torch.testing.assert_close(one, expected[:1], rtol=1e-5, atol=1e-5)


def test_half_precision_keeps_the_overflowing_matrices_in_float32(
    reference: Path, spiece: bytes
) -> None:
    encoder = _load(reference, spiece, torch.float16)
    kept = [p.dtype for name, p in encoder._model.named_parameters() if ".wo." in name]
    assert kept == [torch.float32] * 2
    full = _load(reference, spiece).encode(PROMPTS).embeddings
    assert (encoder.encode(PROMPTS).embeddings.float() - full).abs().max() < 0.02 * full.abs().max()


def test_expected_shapes_are_those_of_the_saved_file(reference: Path) -> None:
    config = json.loads((reference / "text_encoder" / "config.json").read_text())
    saved = {
        name: tuple(tensor.shape)
        for name, tensor in load_file(reference / "text_encoder" / "model.safetensors").items()
    }
    assert expected_shapes(config) == saved


@pytest.mark.parametrize("activation", ["relu", "gated-gelu"])
def test_expected_shapes_are_those_of_transformers(activation: str) -> None:
    config = {**T5, "num_layers": 3, "feed_forward_proj": activation}
    state = T5EncoderModel(T5Config(**config)).state_dict()
    theirs = {
        name: tuple(tensor.shape)
        for name, tensor in state.items()
        if name != "encoder.embed_tokens.weight"
    }
    assert expected_shapes(config) == theirs
    with torch.device("meta"):
        state = T5EncoderModel(T5Config()).state_dict()
    assert expected_shapes({}) == {
        name: tuple(tensor.shape)
        for name, tensor in state.items()
        if name != "encoder.embed_tokens.weight"
    }


def test_keys_beside_the_encoders_own_change_nothing(reference: Path, spiece: bytes) -> None:
    config = json.loads((reference / "text_encoder" / "config.json").read_text())
    tensors = load_file(reference / "text_encoder" / "model.safetensors")
    odd = {
        **config,
        "is_decoder": True,
        "return_dict": False,
        "is_gated_act": False,
        "dtype": [],
        "evil": "x",
    }
    assert torch.equal(
        TextEncoder(odd, tensors, spiece, 24).encode(PROMPTS).embeddings,
        TextEncoder(config, tensors, spiece, 24).encode(PROMPTS).embeddings,
    )


def test_bad_input_is_named(reference: Path, spiece: bytes) -> None:
    with pytest.raises(UserError, match=r"spiece\.model is not a SentencePiece model"):
        Tokenizer(b"version https://git-lfs.github.com/spec/v1\n", 24)
    config = json.loads((reference / "text_encoder" / "config.json").read_text()) | {
        "vocab_size": 20
    }
    tensors = {name: torch.zeros(shape) for name, shape in expected_shapes(config).items()}
    with pytest.raises(UserError, match="vocab_size is only 20"):
        TextEncoder(config, tensors, spiece, 24)
    for odd in (
        {"d_model": "wide"},
        {"num_heads": 0},
        {"num_layers": 10**6},
        {"feed_forward_proj": 3},
    ):
        with pytest.raises(UserError, match="does not describe a T5 encoder"):
            expected_shapes(odd)
    with pytest.raises(UserError, match="does not describe a T5 encoder"):
        TextEncoder({"feed_forward_proj": "gated-nonsense"}, {}, spiece, 24)


def test_importing_the_module_does_not_import_transformers() -> None:
    code = "import sys, models.text; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small CLIP folder in the layout of the published one (both towers in one file)."""
    folder = tmp_path_factory.mktemp("clip")
    letters = sorted(set("".join(SENTENCES).lower()) - {" "})
    words = [
        *letters,
        *(letter + "</w>" for letter in letters),
        "th",
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    (folder / "vocab.json").write_text(
        json.dumps({word: index for index, word in enumerate(words)})
    )
    (folder / "merges.txt").write_text("#version: 0.2\nt h\n")
    CLIPTokenizer.from_pretrained(folder, local_files_only=True).save_pretrained(folder)
    layers = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = {
        **layers,
        "vocab_size": len(words),
        "eos_token_id": len(words) - 1,
        "bos_token_id": len(words) - 2,
    }
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config=text,
        vision_config={**layers, "image_size": 8, "patch_size": 4},
        projection_dim=24,
    )
    CLIPModel(config).save_pretrained(folder)
    return folder


def test_clip_features_are_projected_and_not_normalised(clip: Path) -> None:
    rows = clip_control_embeddings(clip)
    assert rows.shape == (10, 24) and rows.dtype == torch.float32
    model, tokenizer = CLIPModel.from_pretrained(clip).eval(), CLIPTokenizer.from_pretrained(clip)
    with torch.no_grad():
        for row, sentence in zip(rows, (*SENTENCES, "")):
            state = model.text_model(**tokenizer(sentence, return_tensors="pt")).pooler_output
            torch.testing.assert_close(row, model.text_projection(state)[0], rtol=1e-5, atol=1e-6)
    assert (rows.norm(dim=1) - 1).abs().min() > 1e-3


def test_an_incomplete_clip_folder_is_refused(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected config\.json and model\.safetensors"):
        clip_control_embeddings(tmp_path)
    for name in (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "merges.txt",
    ):
        if (clip / name).is_file():
            (tmp_path / name).write_bytes((clip / name).read_bytes())
    tensors = load_file(clip / "model.safetensors")
    del tensors["text_projection.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="text_projection"):
        clip_control_embeddings(tmp_path)
