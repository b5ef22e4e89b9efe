"""The words a small world was taught, so that it can say which of a prompt it does not know. Worlds
whose text encoder knows every word have no such list."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from configs.errors import UserError
from configs.files import read_json_file

WORDS_FILE = "words.json"
LARGEST = 1 << 20  # bytes
MOST_NAMED = 6  # unknown words that are named
_WORD = re.compile(r"[^\W\d_]+")


class KnownWords:
    """``kinds``: what can be asked for, by kind ("places": ["desert", ...]), the plainest names;
    ``words``: every lower-case word that means something or may stand between."""

    def __init__(self, kinds: Mapping[str, list[str]], words: frozenset[str]) -> None:
        self._kinds = kinds
        self._words = words

    @staticmethod
    def read(file: Path) -> "KnownWords":
        """Read ``words.json``. Raises UserError for anything else."""
        data = read_json_file(file, LARGEST)
        if not isinstance(data, dict) or not isinstance(data.get("kinds"), dict):
            raise UserError(f'{file}: expected {{"kinds": {{...}}, "words": [...]}}')
        if not all(map(_is_words, [data.get("words"), *data["kinds"].values()])):
            raise UserError(f"{file}: expected lists of words")
        return KnownWords(data["kinds"], frozenset(data["words"]))

    def notice(self, prompt: str) -> str:
        """One line that says what of ``prompt`` is not known and what is; "" when all is."""
        words = list(dict.fromkeys(_WORD.findall(prompt.lower())))
        unknown = [word[:40] for word in words if word not in self._words]
        if words and not unknown:
            return ""
        knows = "; ".join(f"{kind} ({', '.join(names)})" for kind, names in self._kinds.items())
        if len(unknown) == len(words):
            return f"nothing of this prompt is known here. This world knows {knows}"
        more = f" and {len(unknown) - MOST_NAMED} more" if len(unknown) > MOST_NAMED else ""
        return f"not known here: {', '.join(unknown[:MOST_NAMED])}{more}. This world knows {knows}"


def _is_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
