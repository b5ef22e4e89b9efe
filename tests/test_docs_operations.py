"""docs/operations.md, "It does not work": what it quotes is what a person reads."""

import re
from itertools import chain

from tests.places import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()


def test_what_is_quoted_is_said_by_the_program() -> None:
    section = PAGE.split("## It does not work")[1].split("\n## ")[0]
    headings = re.findall(r"^\*\*(.+?)\*\*", section, re.M)
    quoted = [words for heading in headings for words in re.findall(r'"([^"]+)"', heading)]
    assert len(headings) > 20 and len(quoted) > 8
    folders = ("actors", "models", "pipeline")
    files = chain.from_iterable((ROOT / name).rglob("*") for name in folders)
    sources = [path.read_text() for path in files if path.suffix in (".py", ".js", ".html")]
    texts = [re.sub(r'"\s+f?"', "", source) for source in sources]  # literals side by side are one
    for words in quoted:
        start = words.split(":")[0]  # behind it stand the words of an example
        assert any(start in text for text in texts), f"{words!r}: nobody says that"
