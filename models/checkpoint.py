"""A weight folder: what it holds, checked before anything is loaded, and the parts made from it.

Layout (docs/reference.md section 1): transformer/, vae/, text_encoder/, tokenizer/, each a config
and safetensors; beside them streaming.json (StreamSettings), control_embeddings.safetensors (nine
vectors and the null vector) and start_clips.safetensors (scaled latents with their prompts). A
folder may hold the transformer alone, as the published stage4 does: everything it lacks then comes
from a shared folder, given or the sibling called stage3."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from configs.choice import WeightChoice
from configs.errors import UserError
from configs.limits import check_path
from configs.schema import DEFAULT_PROMPT, StreamSettings
from models.device import has_bfloat16, pick_dtype
from models.engines.decoder import Ranges
from models.engines.int8 import INT8_FILE, read_ranges
from models.engines.serve import LoadedDecoder, served_decoder
from models.lora import LoRA
from models.presets import PRESETS_FILE, read_pictures, read_presets
from models.saving import save_tensors
from models.stages import read_streaming
from models.start_clips import CLIPS_FILE, check_clips, clip_prompts, read_clip
from models.tae import TinyVAE, TinyVAEConfig
from models.text import TIED, TextEncoder, Tokenizer, clip_control_embeddings, expected_shapes
from models.transformer import Transformer
from models.transformer_config import TransformerConfig
from models.transformer_folder import (
    empty_transformer,
    open_transformer,
    read_transformer,
    transformer_folder,
)
from models.vae import FullVAE
from models.vae_config import FullVAEConfig
from models.variants import find_sets
from models.weight_folder import SHARED_FOLDER
from models.weights import WeightFiles, listing, load_module, read_json
from models.words import WORDS_FILE, KnownWords

CONTROLS_FILE = "control_embeddings.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A weight folder whose headers and configs have been read and fit together. Loading happens in
    its methods.

    path: as given; shared: where the parts come from that `path` lacks; vae_file: a TAECVX file in
    place of the folder's decoder; lora: updates with their scales; engine: what computes streams,
    variant: which of several sets of weights is read, see `WeightChoice`.
    """

    path: Path
    shared: Path
    transformer_config: TransformerConfig
    streaming: StreamSettings
    presets: list[str]
    vae_file: Path | None = None
    lora: tuple[tuple[LoRA, float], ...] = ()
    engine: str | None = None
    variant: str | None = None
    start: Tensor | None = field(default=None, compare=False, repr=False)

    @staticmethod
    def open(choice: WeightChoice | Path) -> "Checkpoint":
        """Check a weight folder by reading headers only; a path alone is a choice of nothing else.
        Raises UserError with one line for whatever is wrong.

        Control embeddings that are missing are computed here, if a CLIP folder is given.
        """
        if isinstance(choice, Path):
            choice = WeightChoice(choice)
        path = _folder(choice.path, "weight folder")
        shared = _shared_folder(path, choice.base)
        config, weights = open_transformer(transformer_folder(path), choice.variant)
        module = empty_transformer(config)
        shapes = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        weights.check(shapes)
        if choice.vae is not None and choice.vae[0] != "tiny":
            raise UserError(
                f"vae {choice.vae[0]!a}: expected tiny and the path of a TAECVX safetensors file"
            )
        checkpoint = Checkpoint(
            path=path,
            shared=shared,
            transformer_config=config,
            streaming=read_streaming(path, shared == path, weights.dtypes() == {"F32"}),
            presets=_presets(path, shared),
            vae_file=choice.vae[1] if choice.vae else None,
            lora=tuple((LoRA.open(file, shapes), scale) for file, scale in choice.lora),
            engine=choice.engine,
            variant=choice.variant,
            start=None if choice.start is None else torch.from_numpy(choice.start.copy()),
        )
        checkpoint._check_parts()
        checkpoint._check_variant()
        if choice.clip is not None:
            checkpoint.make_control_embeddings(choice.clip)
        checkpoint.control_embeddings()
        return checkpoint

    @property
    def name(self) -> str:
        """The folder's name, with its parent's: "tiny/stage4"."""
        return "/".join(self.path.resolve().parts[-2:])

    @property
    def height(self) -> int:
        """Default height in pixels."""
        return self.transformer_config.sample_height * self.pixels_per_latent

    @property
    def width(self) -> int:
        """Default width in pixels."""
        return self.transformer_config.sample_width * self.pixels_per_latent

    @property
    def pixels_per_latent(self) -> int:
        """Of one latent's side."""
        return self.vae_config.pixels_per_latent

    def latent_size(self, height: int | None = None, width: int | None = None) -> tuple[int, int]:
        """(h, w) in latents of a picture in pixels; None = the weights' own. Raises UserError for
        what is not made of whole patches."""
        height = self.height if height is None else height
        width = self.width if width is None else width
        unit = self.pixels_per_latent * self.transformer_config.patch_size
        if height < unit or width < unit or height % unit or width % unit:
            raise UserError(
                f"size {width}x{height}: width and height must be multiples of {unit} pixels"
            )
        return height // self.pixels_per_latent, width // self.pixels_per_latent

    @property
    def latent_channels(self) -> int:
        return self.transformer_config.in_channels

    @property
    def scaling_factor(self) -> float:
        """Latents of the autoencoder times this are what the world works on."""
        return self.vae_config.scaling_factor

    @cached_property
    def model_hash(self) -> str:
        """A stable name of the transformer's weights (headers, sizes and samples of the
        contents)."""
        return self._transformer_files.fingerprint()

    @cached_property
    def stream_hash(self) -> str:
        """A stable name of what a stream is made of, besides its seed, prompts and labels: the
        transformer's, and where worlds begin with a start of one's own, that too."""
        if self.start is None:
            return self.model_hash
        digest = hashlib.blake2b(self.model_hash.encode(), digest_size=16)
        digest.update(self.start.numpy().tobytes())
        return digest.hexdigest()

    @cached_property
    def world_hash(self) -> str:
        """A stable name of all that a running world's frames follow from: transformer, LoRA,
        control vectors, text encoder and decoder."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self._vae_files, self._text_files):
            digest.update(part.fingerprint().encode())
        digest.update(self.model_hash.encode())
        digest.update(self.control_embeddings().numpy().tobytes())
        for lora, scale in self.lora:
            digest.update(lora.fingerprint().encode())
            digest.update(b"" if scale == 1 else f"{scale};".encode())
        return digest.hexdigest()

    def transformer(self, device: torch.device, dtype: torch.dtype) -> Transformer:
        """Load the transformer, LoRA fused."""
        folder = transformer_folder(self.path)
        return read_transformer(folder, device, dtype, self.lora, self.variant)

    def autoencoder(self, device: torch.device, dtype: torch.dtype) -> FullVAE | TinyVAE:
        """Load encoder and decoder."""
        vae = _empty_autoencoder(self.vae_config)
        load_module(vae, self._vae_files, device, dtype)
        return vae

    def decoder(self, device: torch.device, dtype: torch.dtype) -> LoadedDecoder:
        """Load the decoder and make it ready on the engine."""
        return served_decoder(self.autoencoder(device, dtype), self.engine, self.decoder_ranges())

    def number_format(self, device: torch.device, name: str = "auto") -> torch.dtype:
        """What all but a tiny decoder computes in: as `pick_dtype` says, but "auto" is bfloat16 for
        large weights on a CPU with units for it, unless the engine is another one: a step of the
        published size takes 0.6 of the time there, and a rank half of the memory."""
        units = (
            self.transformer_config.large
            and self.engine in (None, "torch-bf16")
            and has_bfloat16(device)
        )
        return torch.bfloat16 if name == "auto" and units else pick_dtype(name, device)

    @property
    def tiny(self) -> bool:
        """Whether the autoencoder is a tiny one."""
        return isinstance(self.vae_config, TinyVAEConfig)

    def decoder_ranges(self) -> Ranges | None:
        """What int8 needs of the tiny decoder; None where it was not measured (`engines.int8`)."""
        file = self._file(INT8_FILE) if self.tiny else None
        return None if file is None else read_ranges(file, self._vae_files.fingerprint())

    def text_encoder(self, device: torch.device, dtype: torch.dtype) -> TextEncoder:
        """Load the T5 encoder with its tokenizer."""
        folder = self._part("text_encoder")
        config, weights = read_json(folder / "config.json"), self._text_files
        shapes = _text_shapes(config, weights)
        tensors = weights.read(shapes, device, dtype)
        if TIED in tensors:
            tensors["shared.weight"] = tensors.pop(TIED)
        spiece = (self._part("tokenizer") / "spiece.model").read_bytes()
        longest = self.transformer_config.max_text_seq_length
        return TextEncoder(config, tensors, spiece, longest, self._words())

    @property
    def default_prompt(self) -> str:
        """What is dreamed where nobody says anything else: the first preset."""
        return next(iter(self.presets), DEFAULT_PROMPT)

    def preset_pictures(self) -> tuple[bytes, ...]:
        """A JPEG of every preset, in their order, if the weights bring them."""
        file = self._file(PRESETS_FILE)
        return () if file is None else read_pictures(file, len(self.presets))

    def _words(self) -> KnownWords | None:
        file = self._file(WORDS_FILE)
        return None if file is None else KnownWords.read(file)

    def control_embeddings(self) -> Tensor:
        """Return the nine control vectors and the null vector: [10, Dc] fp32; zeros for weights that
        cannot be steered."""
        file, width = self._file(CONTROLS_FILE), self.transformer_config.control_dim
        if not self.transformer_config.steered:
            return torch.zeros(10, width)
        if file is None:
            raise UserError(
                f"{self.path}: {CONTROLS_FILE} is missing; put it there, or give a local CLIP folder "
                "(openai/clip-vit-large-patch14) to compute it from"
            )
        return read_control_embeddings(file, width)

    def make_control_embeddings(self, clip: Path) -> None:
        """Compute the control vectors from a local CLIP folder and save them beside the weights,
        unless they are there. Raises UserError where there is no such folder, needed or not."""
        if not check_path(clip, "clip").is_dir():
            raise UserError(
                f"clip {clip}: expected a CLIP folder, found none there; check the path"
            )
        if self._file(CONTROLS_FILE) is not None:
            return
        vectors, width = clip_control_embeddings(clip), self.transformer_config.control_dim
        if vectors.shape[1] != width:
            raise UserError(
                f"{clip}: CLIP features are {vectors.shape[1]} wide, the transformer expects {width}"
            )
        save_tensors(
            self.path / CONTROLS_FILE,
            {"control_embeddings": vectors[:-1], "null_control": vectors[-1]},
        )

    def start_latents(self, prompt: str) -> Tensor:
        """Return the start clip that suits a prompt best: scaled latents [F', C, h, w] fp32, on the
        CPU.

        A start of one's own goes before all clips. An equal prompt wins, else the one that shares
        most words. Without clips F' = 0: a world then starts from zeros, as the published one pads.
        """
        if self.start is not None:
            return self.start
        file = self._file(CLIPS_FILE)
        if file is None:
            h, w = self.transformer_config.sample_height, self.transformer_config.sample_width
            return torch.zeros(0, self.latent_channels, h, w)
        return read_clip(file, prompt)

    @cached_property
    def vae_config(self) -> FullVAEConfig | TinyVAEConfig:
        """Shapes of the autoencoder that is loaded: the folder's, or the file's in its place."""
        config = read_vae_config(self._part("vae"))
        if self.vae_file is None:
            return config
        return TinyVAEConfig.from_tensors(
            self._vae_files.entries, scaling_factor=config.scaling_factor
        )

    @cached_property
    def _vae_files(self) -> WeightFiles:
        return WeightFiles.open(self.vae_file or self._part("vae"), self.variant)

    @cached_property
    def _transformer_files(self) -> WeightFiles:
        return WeightFiles.open(transformer_folder(self.path), self.variant)

    @cached_property
    def _text_files(self) -> WeightFiles:
        return WeightFiles.open(self._part("text_encoder"), self.variant)

    @property
    def notes(self) -> list[str]:
        """What was taken where several sets of weights lie side by side, and what these weights
        cannot do: a line each."""
        parts = {"transformer": transformer_folder(self.path), "vae": self._part("vae")}
        parts["text_encoder"] = self._part("text_encoder")
        files = (self._transformer_files, self._vae_files, self._text_files)
        taken = []
        for (name, folder), read in zip(parts.items(), files, strict=True):
            held = [found.variant or "plain" for found in find_sets(folder)]
            if read.place == folder and len(held) > 1:
                taken.append(f"{name} {read.variant or 'plain'} (of {', '.join(held)})")
        lines = [f"weights: {'; '.join(taken)}"] if taken else []
        if not self.transformer_config.steered:
            lines.append("weights: the transformer has no control modules, so labels do nothing")
        return lines

    def _check_variant(self) -> None:
        files = (self._transformer_files, self._vae_files, self._text_files)
        if self.variant is None or self.variant in [part.variant for part in files]:
            return
        folder = transformer_folder(self.path)
        held = ", ".join(found.variant or "the plain one" for found in find_sets(folder))
        raise UserError(f"variant {self.variant[:40]!a}: {folder} has none, only {held}")

    def _part(self, name: str) -> Path:
        """Return a component's folder: this folder's own, else the shared one's."""
        for home in (self.path, self.shared):
            if (home / name).is_dir():
                return home / name
        raise UserError(f"{self.shared}: no {name}/ there; {listing(self.shared)}")

    def _file(self, name: str) -> Path | None:
        return _own_or_shared(self.path, self.shared, name)

    def _check_parts(self) -> None:
        """Read the headers of everything that is loaded later."""
        vae = _empty_autoencoder(self.vae_config)
        self._vae_files.check({name: tensor.shape for name, tensor in vae.state_dict().items()})
        channels = vae.config.latent_channels
        if channels != self.latent_channels:
            place = self.vae_file or self._part("vae")
            raise UserError(
                f"{place}: {channels} latent channels, but the transformer expects {self.latent_channels}"
            )
        self._check_text()
        clips = self._file(CLIPS_FILE)
        if clips is not None:
            check_clips(WeightFiles.open(clips), self.latent_channels)

    def _check_text(self) -> None:
        text = self._part("text_encoder")
        config, weights = read_json(text / "config.json"), self._text_files
        width, expected = config.get("d_model"), self.transformer_config.text_embed_dim
        if width != expected:
            raise UserError(
                f"{text}: text width d_model is {width!r:.40}, but the transformer expects {expected}"
            )
        embeddings = [
            entry for name, entry in weights.entries.items() if name in ("shared.weight", TIED)
        ]
        if not embeddings or embeddings[0].shape != (config.get("vocab_size"), width):
            raise UserError(
                f"{text}: shared.weight of shape [vocab_size, d_model] missing; expected a T5 encoder's weights"
            )
        _text_shapes(config, weights)
        self._check_tokenizer(config["vocab_size"])
        self._words()

    def _check_tokenizer(self, vocabulary: int) -> None:
        """Load the tokenizer: it is small, and has no header that would tell what it is."""
        folder = self._part("tokenizer")
        if not (folder / "spiece.model").is_file():
            raise UserError(f"{folder}: no spiece.model (SentencePiece) there; {listing(folder)}")
        try:
            tokenizer = Tokenizer((folder / "spiece.model").read_bytes(), 1)
        except UserError as error:
            raise UserError(f"{folder / 'spiece.model'}: {error}") from None
        if tokenizer.vocabulary > vocabulary:
            raise UserError(
                f"{folder / 'spiece.model'}: {tokenizer.vocabulary} pieces, but the text encoder knows only "
                f"{vocabulary}; they do not belong together"
            )


def read_vae_config(folder: Path) -> FullVAEConfig | TinyVAEConfig:
    """Read a vae folder's config.json, which says what kind of decoder it is."""
    values = read_json(folder / "config.json")
    kinds: dict[Any, Any] = {"AutoencoderKLCogVideoX": FullVAEConfig, "TinyVAE": TinyVAEConfig}
    kind = values.get("_class_name")
    if not isinstance(kind, str) or kind not in kinds:
        raise UserError(
            f"{folder / 'config.json'}: class {kind!r:.60}, expected {' or '.join(kinds)}"
        )
    try:
        config: FullVAEConfig | TinyVAEConfig = kinds[kind].from_json(values)
    except (UserError, TypeError) as error:
        raise UserError(f"{folder / 'config.json'}: {error}") from None
    return config


def read_autoencoder(folder: Path, device: torch.device, dtype: torch.dtype) -> FullVAE | TinyVAE:
    """Load the autoencoder in a folder of its own."""
    vae = _empty_autoencoder(read_vae_config(folder))
    load_module(vae, WeightFiles.open(folder), device, dtype)
    if isinstance(vae, FullVAE) and device.type == "cpu":
        vae.channels_last()
    return vae


def read_control_embeddings(file: Path, width: int) -> Tensor:
    """Return [10, width] fp32 from `control_embeddings` [9, width] and `null_control` [width]."""
    weights = WeightFiles.open(file)
    expected = {"control_embeddings": (9, width), "null_control": (width,)}
    weights.check(expected)
    tensors = weights.read(expected, torch.device("cpu"), torch.float32)
    return torch.cat((tensors["control_embeddings"], tensors["null_control"][None]))


def _folder(path: Path, what: str) -> Path:
    if not path.exists():
        raise UserError(f"{what} {path}: no such folder")
    if not path.is_dir():
        raise UserError(f"{what} {path}: expected a folder, found a file")
    return path


def _shared_folder(path: Path, given: Path | None) -> Path:
    """Return the folder of the parts that `path` lacks; itself when it is complete."""
    parts = ("vae", "text_encoder", "tokenizer")
    lacking = [name for name in parts if not (path / name).is_dir()]
    if given is not None:
        return _folder(given, "base model folder")
    for place in (path.absolute(), path.resolve()):  # beside a link, and beside what it leads to
        sibling = place.parent / SHARED_FOLDER
        if lacking and sibling.is_dir() and sibling.resolve() != path.resolve():
            return sibling
    if lacking:
        transformer_folder(path)
        raise UserError(
            f"{path}: {', '.join(lacking)} missing ({listing(path)}); give the folder that holds them with "
            f"--base-model-path, or put it beside this one as {SHARED_FOLDER}"
        )
    return path


def _own_or_shared(path: Path, shared: Path, name: str) -> Path | None:
    return next((home / name for home in (path, shared) if (home / name).is_file()), None)


def _presets(path: Path, shared: Path) -> list[str]:
    """Return the prompts people may pick: presets.json, else those of the start clips."""
    file, clips = (_own_or_shared(path, shared, name) for name in (PRESETS_FILE, CLIPS_FILE))
    if file is not None:
        return read_presets(file)
    if clips is None:
        return []
    return list(dict.fromkeys(clip_prompts(WeightFiles.open(clips)).values()))


def _empty_autoencoder(config: FullVAEConfig | TinyVAEConfig) -> FullVAE | TinyVAE:
    with torch.device("meta"):
        return FullVAE(config) if isinstance(config, FullVAEConfig) else TinyVAE(config)


def _text_shapes(config: Mapping[str, Any], weights: WeightFiles) -> dict[str, Iterable[int]]:
    """Return the text encoder's tensors as the file names them: the tied embedding may have either
    of its names."""
    try:
        shapes: dict[str, Iterable[int]] = dict(expected_shapes(config))
    except UserError as error:
        raise UserError(f"{weights.place}: {error}") from None
    if "shared.weight" not in weights.entries and TIED in weights.entries:
        shapes[TIED] = shapes.pop("shared.weight")
    weights.check(shapes, ignored=[TIED])
    return shapes
