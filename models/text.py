"""Text to embeddings: a SentencePiece tokenizer and a T5 encoder for prompts; CLIP features of the
control sentences.

Facts: docs/reference.md section 2 (text path) and section 9 (controls). Everything is local: no
download, no remote code, safetensors only. transformers takes seconds to import, so it is imported
where it is first needed.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import sentencepiece
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from configs.errors import UserError
from configs.limits import real_number, whole_number
from models.controls import SENTENCES
from models.words import KnownWords

PAD = 0  # T5's convention
WORD_BEGINS = "\u2581"  # how SentencePiece marks it
NO_T5 = "text encoder: config.json does not describe a T5 encoder"
MAX_LAYERS, MAX_SIZE = 1024, 1 << 20
# What a T5 config's numbers are when the file does not say (transformers' own defaults). No other
# keys are handed on.
T5_SIZES = {
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 6,
    "num_heads": 8,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
}
# some files hold it beside, or instead of, the same tensor `shared.weight`
TIED = "encoder.embed_tokens.weight"


class Tokenizer:
    """Prompts to token ids: SentencePiece pieces, the end token, then padding with id 0 up to a
    fixed length."""

    def __init__(self, spiece: bytes, max_length: int) -> None:
        """spiece: the contents of `tokenizer/spiece.model`. Raises UserError unless it is a T5
        SentencePiece model."""
        self._model = sentencepiece.SentencePieceProcessor()
        try:
            self._model.LoadFromSerializedProto(spiece)
        except RuntimeError as error:
            raise UserError(
                f"tokenizer: spiece.model is not a SentencePiece model ({error})"
            ) from None
        self.max_length, self.vocabulary = max_length, self._model.GetPieceSize()
        self._end = self._model.eos_id()
        if self._end < 0:
            raise UserError(
                "tokenizer: spiece.model has no end-of-sentence piece, which T5 needs; use a T5 spiece.model"
            )

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Token ids [n, max_length], int64. A prompt that is too long is cut; the end token
        stays."""
        return torch.tensor([self._ids(prompt) for prompt in prompts], dtype=torch.long).view(
            -1, self.max_length
        )

    def notice(self, prompts: Sequence[str]) -> str:
        """One line that says what is cut from which prompt; "" when all are read whole."""
        lines = []
        room = self.max_length - 1
        for prompt in prompts:
            pieces = self._pieces(prompt)
            if len(pieces) > room:
                lost = self._model.DecodeIds(pieces[self._word(pieces, room) :])[:200]
                lines.append(
                    f"prompt has {len(pieces)} tokens, only the first {room} are used; "
                    f"ignored: {lost!r}"
                )
        return "; ".join(lines)

    def _word(self, pieces: list[int], place: int) -> int:
        """Where the word begins that the piece at ``place`` belongs to."""
        while place and not self._model.IdToPiece(pieces[place]).startswith(WORD_BEGINS):
            place -= 1
        return place

    def _ids(self, prompt: str) -> list[int]:
        ids = [*self._pieces(prompt)[: self.max_length - 1], self._end]
        return ids + [PAD] * (self.max_length - len(ids))

    def _pieces(self, prompt: str) -> list[int]:
        pieces: list[int] = self._model.EncodeAsIds(_encodable(prompt))
        return pieces


def _encodable(prompt: str) -> str:
    """The prompt as valid Unicode: lone surrogates become U+FFFD, control characters become
    spaces."""
    valid = prompt.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return "".join(
        " " if ord(character) < 32 or 127 <= ord(character) < 160 else character
        for character in valid
    )


class Encoding(NamedTuple):
    """Embeddings [n, N_t, Dt] of prompts, and what a person should know about them ("" = nothing):
    that a prompt was cut."""

    embeddings: Tensor
    notice: str


class TextEncoder:
    """A T5 encoder and its tokenizer. Device and dtype are those of the tensors it is given."""

    def __init__(
        self,
        config: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        spiece: bytes,
        max_length: int,
        words: KnownWords | None = None,
    ) -> None:
        """config: `text_encoder/config.json`; tensors: all of `expected_shapes(config)`;
        max_length: N_t; words: all that it was taught, if that is not every word.

        Raises UserError when the tokenizer knows more pieces than the encoder has embeddings.
        """
        self.tokenizer = Tokenizer(spiece, max_length)
        self._words = words
        self._model = _empty_t5(config)
        if self.tokenizer.vocabulary > self._model.config.vocab_size:
            raise UserError(
                f"tokenizer: spiece.model has {self.tokenizer.vocabulary} pieces, the text encoder's vocab_size is only"
                f" {self._model.config.vocab_size}: they do not belong together"
            )
        self._model.load_state_dict(
            {**tensors, TIED: tensors["shared.weight"]}, strict=True, assign=True
        )
        self._model.requires_grad_(False).eval()
        if tensors["shared.weight"].dtype is torch.float16:
            for name, module in self._model.named_modules():
                if name.endswith(".wo"):  # overflows in float16 (as transformers itself has it)
                    module.float()

    @property
    def width(self) -> int:
        return self._model.config.d_model

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str]) -> Encoding:
        """Last hidden states; no mask: padding is attended to, as the weights were trained."""
        ids = self.tokenizer.encode(prompts).to(self._model.shared.weight.device)
        hidden = self._model(input_ids=ids).last_hidden_state
        return Encoding(hidden, self._notice(prompts))

    def _notice(self, prompts: Sequence[str]) -> str:
        """What is cut from the prompts, and what of them was never taught; "" if nothing."""
        known = [self._words.notice(prompt) for prompt in prompts if prompt and self._words]
        return "; ".join(filter(None, [self.tokenizer.notice(prompts), *known]))


def expected_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors a T5 encoder with this `text_encoder/config.json` consists
    of.

    Written down, not asked of transformers: weights are checked before anything starts, and its
    import takes seconds. Raises UserError for settings that describe no T5 encoder.
    """
    size = _t5_settings(config)
    width, inner, hidden = size["d_model"], size["num_heads"] * size["d_kv"], size["d_ff"]
    shapes: dict[str, tuple[int, ...]] = {"shared.weight": (size["vocab_size"], width)}
    for index in range(size["num_layers"]):
        first, second = (f"encoder.block.{index}.layer.{layer}" for layer in (0, 1))
        shapes |= {f"{first}.SelfAttention.{part}.weight": (inner, width) for part in "qkv"}
        shapes[f"{first}.SelfAttention.o.weight"] = (width, inner)
        if index == 0:  # the other layers share it
            buckets = (size["relative_attention_num_buckets"], size["num_heads"])
            shapes[f"{first}.SelfAttention.relative_attention_bias.weight"] = buckets
        into = ("wi_0", "wi_1") if size["feed_forward_proj"].startswith("gated-") else ("wi",)
        shapes |= {f"{second}.DenseReluDense.{part}.weight": (hidden, width) for part in into}
        shapes[f"{second}.DenseReluDense.wo.weight"] = (width, hidden)
        shapes |= {f"{layer}.layer_norm.weight": (width,) for layer in (first, second)}
    return {**shapes, "encoder.final_layer_norm.weight": (width,)}


def _t5_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that shape a T5 encoder, checked."""
    settings: dict[str, Any] = {}
    for key, default in T5_SIZES.items():
        most = MAX_LAYERS if key == "num_layers" else MAX_SIZE
        settings[key] = whole_number(f"{NO_T5}: {key}", config.get(key, default), 1, most)
    epsilon = config.get("layer_norm_epsilon", 1e-6)
    settings["layer_norm_epsilon"] = real_number(f"{NO_T5}: layer_norm_epsilon", epsilon, 1e-12, 1)
    settings["feed_forward_proj"] = config.get("feed_forward_proj", "relu")
    if not isinstance(settings["feed_forward_proj"], str):
        raise UserError(
            f"{NO_T5}: feed_forward_proj: expected text, got {settings['feed_forward_proj']!r:.60}"
        )
    return settings


def _transformers() -> ModuleType:
    import transformers  # takes seconds, and a replay or a page needs no encoder

    return transformers


def _empty_t5(config: Mapping[str, Any]) -> Any:
    """The encoder's structure without memory for its weights."""
    library = _transformers()
    try:
        with torch.device("meta"):
            return library.T5EncoderModel(library.T5Config(**_t5_settings(config)))
    except (StrictDataclassError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{NO_T5}: {' '.join(str(error).split())[:300]}") from None


def clip_control_embeddings(folder: Path, dtype: torch.dtype = torch.float32) -> Tensor:
    """Projected CLIP text features [10, Dc] of the nine control sentences and of the empty (null)
    one, float32.

    folder: a local CLIP model (config.json, model.safetensors, tokenizer files); dtype: the
    transformer's, in which CLIP is to compute. Raises UserError when the folder is not complete.
    """
    if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        raise UserError(f"CLIP folder {folder}: expected config.json and model.safetensors there")
    library = _transformers()
    try:
        tokenizer = library.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
        config = library.CLIPTextConfig.from_pretrained(folder, local_files_only=True)
        # A file with both towers says the width of the projection at its top level.
        whole = json.loads((folder / "config.json").read_text())
        config.projection_dim = whole.get("projection_dim", config.projection_dim)
        model = library.CLIPTextModelWithProjection(config).eval()
        stored = load_file(folder / "model.safetensors")
        model.load_state_dict(
            {name: stored[name] for name in model.state_dict() if name in stored}, strict=True
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"CLIP folder {folder}: cannot be loaded: {' '.join(str(error).split())[:300]}"
        ) from None
    model.to(dtype)
    with torch.inference_mode():
        rows = [
            model(**tokenizer(sentence, return_tensors="pt")).text_embeds[0]
            for sentence in (*SENTENCES, "")
        ]
    return torch.stack(rows).float().clone()
