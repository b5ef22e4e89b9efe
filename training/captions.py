"""Prompts of the driving world: many ways to say biome, time of day and car colour, and a tokenizer
for them."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import sentencepiece

from training.scene import BIOMES, COLOURS, TIMES, Scene

BIOME_WORDS = {
    "desert": (
        "desert", "sandy desert", "hot desert", "dry desert with cactuses", "wasteland", "dunes", "sand",
        "cactus desert", "rocky desert", "arid land", "savannah of sand", "canyon land",
    ),
    "meadow": (
        "meadow", "green meadow", "grassland", "green fields", "countryside", "grassy hills", "green hills",
        "farmland", "prairie", "flowering meadow", "pasture", "green landscape",
    ),
    "snow": (
        "snow", "snowy landscape", "winter landscape", "snowy mountains", "frozen land", "arctic", "deep snow",
        "icy plain", "tundra", "white winter", "snowfield", "ice and snow",
    ),
    "city": (
        "city", "big city", "downtown", "town", "city streets", "metropolis", "urban streets",
        "streets with tall buildings", "avenue", "skyscrapers", "modern city", "city centre",
    ),
    "forest": (
        "forest", "dense forest", "woods", "pine forest", "woodland", "deep woods", "dark green forest",
        "fir trees", "forest of pines", "wild forest", "jungle of trees", "tall trees",
    ),
}  # fmt: skip
TIME_WORDS = {
    "day": (
        "by day", "in daylight", "at noon", "on a sunny day", "in the morning", "under a blue sky",
        "in bright sunshine", "at midday", "in the afternoon", "during the day", "on a bright day",
        "in clear weather",
    ),
    "sunset": (
        "at sunset", "at dusk", "in the evening", "in the evening light", "at dawn", "at sunrise",
        "at golden hour", "under an orange sky", "as the sun goes down", "in twilight", "with a glowing sky",
        "under a red sky",
    ),
    "night": (
        "at night", "by night", "under the stars", "in the moonlight", "after dark", "at midnight", "in the dark",
        "under the moon", "in a starry night", "late at night", "under a night sky", "in darkness",
    ),
}  # fmt: skip
COLOUR_WORDS = {
    "red": ("red", "bright red", "crimson", "scarlet", "cherry red", "dark red", "ruby"),
    "blue": ("blue", "bright blue", "navy blue", "dark blue", "azure", "sapphire", "cobalt"),
    "white": ("white", "bright white", "ivory", "pearl white", "silver", "pale", "snow-white"),
    "yellow": (
        "yellow",
        "bright yellow",
        "lemon yellow",
        "golden",
        "amber",
        "sunny yellow",
        "taxi yellow",
    ),
}
VEHICLES = ("car", "sports car", "sedan", "automobile", "vehicle", "coupe", "racing car", "car")
VERBS = (
    "drives",
    "is driving",
    "speeds",
    "races",
    "rolls",
    "cruises",
    "is moving",
    "travels",
    "goes",
    "rides",
)
PLACES = (
    "through",
    "through the",
    "through a",
    "in the",
    "in a",
    "across the",
    "across a",
    "in",
    "along the roads of a",
    "over the",
)
OPENINGS = (
    "",
    "",
    "",
    "",
    "a video of ",
    "third person view of ",
    "a game scene: ",
    "cinematic shot of ",
    "realistic, ",
)
ENDINGS = (
    "",
    "",
    "",
    "",
    ", cinematic",
    ", high quality",
    ", beautiful scenery",
    ", 4k",
    ", realistic",
    ", a long road ahead",
    ", endless road",
)
EXTRAS = (
    "slowly", "calm", "endless", "wide", "beautiful", "with friends", "towards the horizon", "old", "new", "very",
    "fast", "quiet", "strange", "with music", "dragon", "holiday", "happy", "far away", "under clouds",
    "with a river", "near the sea", "lonely",
)  # fmt: skip
PRESETS = (
    "A red car drives through the desert on a sunny day",
    "A blue car races through the desert at sunset",
    "A white car in the desert at night, under the stars",
    "A yellow car drives through a green meadow by day",
    "A red sports car in the countryside at sunset",
    "A blue car in a flowering meadow in the moonlight",
    "A red car drives through a snowy landscape in bright sunshine",
    "A yellow car in the snow at sunset",
    "A white car speeds through deep snow at night",
    "A yellow taxi car drives through the city by day",
    "A white car cruises through downtown at sunset",
    "A red sports car races through the city at night",
    "A white car drives through a pine forest by day",
    "A yellow car in the woods in the evening light",
    "A blue car drives through a dark forest at night",
)
# small words that people type around them
BETWEEN = "a an the of with and to on at in by is it car road drive drives driving through"


def known_words() -> dict[str, object]:
    """What `words.json` beside the weights says: kinds of things to ask for, and all words that
    captions are made of. EXTRAS mean nothing and are left out, unless something else uses them."""
    groups = (BIOME_WORDS, TIME_WORDS, COLOUR_WORDS)
    phrases = [phrase for group in groups for said in group.values() for phrase in said]
    phrases += [*VEHICLES, *VERBS, *PLACES, *OPENINGS, *ENDINGS, *PRESETS, BETWEEN]
    words = sorted(set(re.findall(r"[^\W\d_]+", " ".join(phrases).lower())))
    kinds = {"places": BIOMES, "times": TIMES, "cars": COLOURS}
    return {"kinds": {kind: list(names) for kind, names in kinds.items()}, "words": words}


PRESET_SCENES: tuple[Scene, ...] = tuple(
    Scene(biome, time, colour)
    for (biome, time), colour in zip(
        [(biome, time) for biome in BIOMES for time in TIMES],
        [COLOURS[k] for k in (0, 1, 2, 3, 0, 1, 0, 3, 2, 3, 2, 0, 2, 3, 1)],
        strict=True,
    )
)
VOCABULARY = 1000
TEXT_LENGTH = 24  # tokens, the end mark included


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """One random way to ask for a scene; some leave something out or say something the world cannot
    show."""

    def pick(words: tuple[str, ...]) -> str:
        return words[int(rng.integers(len(words)))] if rng.random() < 0.6 else words[0]

    biome, time = pick(BIOME_WORDS[scene.biome]), pick(TIME_WORDS[scene.time])
    vehicle = f"{pick(COLOUR_WORDS[scene.colour])} {pick(VEHICLES)}"
    if rng.random() < 0.04:
        vehicle = pick(VEHICLES)
    if rng.random() < 0.06:
        time = ""
    place = PLACES[int(rng.integers(len(PLACES)))]
    style = rng.random()
    if style < 0.60:
        text = f"a {vehicle} {pick(VERBS)} {place} {biome} {time}"
    elif style < 0.70:
        text = f"{time}, a {vehicle} {pick(VERBS)} {place} {biome}"
    elif style < 0.80:
        text = f"{biome} {time}, {vehicle}"
    elif style < 0.90:
        text = f"{vehicle}, {biome}, {time}"
    else:
        text = f"{vehicle} {time} {place} {biome}"
    text = pick(OPENINGS) + text + pick(ENDINGS)
    if rng.random() < 0.25:
        words = text.split(" ")
        words.insert(int(rng.integers(len(words) + 1)), EXTRAS[int(rng.integers(len(EXTRAS)))])
        text = " ".join(words)
    if rng.random() < 0.05:  # a word nobody knows
        text += " " + "".join(
            chr(97 + int(c)) for c in rng.integers(0, 26, size=int(rng.integers(3, 8)))
        )
    return re.sub(r" +", " ", text).strip(" ,")


def scene_of(text: str, otherwise: Scene) -> Scene:
    """The scene a prompt asks for, by the same words captions use (longest match first); what it
    leaves open stays."""
    folded = f" {re.sub(r'[^a-z-]+', ' ', text.lower())} "

    def find(vocabulary: Mapping[str, tuple[str, ...]], kept: str) -> str:
        found = [
            (len(word), key)
            for key, words in vocabulary.items()
            for word in words
            if f" {word} " in folded
        ]
        return max(found)[1] if found else kept

    return Scene(
        find(BIOME_WORDS, otherwise.biome),
        find(TIME_WORDS, otherwise.time),
        find(COLOUR_WORDS, otherwise.colour),
    )


def train_tokenizer(path: Path, captions: int = 20000, seed: int = 0) -> None:
    """Writes a SentencePiece model with T5's special tokens (pad 0, end 1, unknown 2) that folds
    case."""
    rng = np.random.default_rng((seed, 2))
    lines = [caption(Scene.random(rng), rng) for _ in range(captions)] + list(PRESETS) * 5
    lines += ["".join(chr(c) for c in range(97, 123)), "0123456789 . , ! ? ' - : ;"]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        vocab_size=VOCABULARY,
        model_type="unigram",
        normalization_rule_name="nmt_nfkc_cf",
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        character_coverage=1.0,
        hard_vocab_limit=False,
        minloglevel=2,
        num_threads=1,
    )
    path.write_bytes(model.getvalue())


class CaptionTokenizer:
    """Text to ids [TEXT_LENGTH], ended, padded or cut like T5's tokenizer."""

    def __init__(self, path: Path) -> None:
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))

    def __call__(self, text: str) -> list[int]:
        ids = self.pieces.encode(text)[: TEXT_LENGTH - 1] + [1]
        return ids + [0] * (TEXT_LENGTH - len(ids))
