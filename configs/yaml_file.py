"""The one door to YAML: a page of plain settings, and nothing cleverer."""

from pathlib import Path
from typing import Any

import yaml

from configs.errors import UserError
from configs.files import read_text

YAML_LIMIT = 65_536  # bytes; a settings file is a page
YAML_DEPTH = 3
OPENING = (
    yaml.FlowSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.BlockMappingStartToken,
)
CLOSING = (yaml.FlowSequenceEndToken, yaml.FlowMappingEndToken, yaml.BlockEndToken)


def read_yaml(path: Path) -> dict[str, Any]:
    """A flat mapping from a YAML file, every key given once."""
    text = read_text(path, YAML_LIMIT, f"config {path}")
    try:
        _check_plain(path, text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number out of range
        raise UserError(
            f"config {path}: not valid YAML ({' '.join(str(error).split())[:200]})"
        ) from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not isinstance(node, yaml.MappingNode):
        raise UserError(
            f"config {path}: expected 'name: value' lines, got a {type(content).__name__}"
        )
    keys = [key.value for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise UserError(
                f"config {path}: key {key!r} is given {keys.count(key)} times; keep one"
            )
    return content


def _check_plain(path: Path, text: str) -> None:
    """Refuse what a page of settings never has, token by token: before anything is built of it."""
    depth = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        line = token.start_mark.line + 1
        if isinstance(token, yaml.TagToken | yaml.AliasToken | yaml.AnchorToken):
            raise UserError(
                f"config {path}, line {line}: tags and aliases are not allowed; write the plain value"
            )
        depth += isinstance(token, OPENING) - isinstance(token, CLOSING)
        if depth > YAML_DEPTH:
            raise UserError(
                f"config {path}, line {line}: nested too deeply; expected 'name: value' lines"
            )
