"""Text from strangers: read within bounds, and shown so that it cannot do anything."""

import json
import math
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml


# FineGym's own annotation, the largest such file known, has a few megabytes.
MAX_TEXT_BYTES = 64 * 1024**2
# A recipe has some hundred lines; PyYAML reads this much in three seconds.
MAX_YAML_BYTES = 2**18
# What turns the direction of writing or ends a line without being a control character by name.
STEERING = frozenset("\u061c\u200e\u200f\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff")
SURROGATE = re.compile("[\ud800-\udfff]")


def safe_text(text: str, *, one_line: bool = False) -> str:
    r"""Return `text` with everything that could steer a terminal written as JSON escapes, such as `\u001b`.

    These are control characters, marks of writing direction, line separators, invisible tags and the bytes of file
    names that are not UTF-8. Inside a JSON document the escapes mean the same characters as before.

    Args:
        one_line: Whether to escape line breaks and tabs too, for a name within a line.
    """
    if text.isascii() and text.isprintable():
        return text
    kept = "" if one_line else "\n\t"
    return "".join(
        character if character in kept or not _steers(character) else _escape(character) for character in text
    )


def _steers(character: str) -> bool:
    is_tag = "\U000e0000" <= character <= "\U000e0fff"
    return is_tag or character in STEERING or unicodedata.category(character) in ("Cc", "Cs")


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def read_text(path: str | Path, *, max_bytes: int = MAX_TEXT_BYTES) -> str:
    """Read a UTF-8 file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is larger than `max_bytes` or not UTF-8; the message names it.
    """
    with open(path, "rb") as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"{path} has more than {max_bytes:,} bytes; no file of this kind is that large.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a UTF-8 text file ({error}).") from error


def parse_json(text: str, *, finite: bool = True) -> Any:
    """Parse JSON strictly.

    Args:
        finite: Whether to refuse NaN and infinities, which JSON does not have and Python writes.

    Raises:
        ValueError: If it is not JSON, is nested too deeply, repeats a key, or holds characters that no file can store.
    """
    options = {"parse_constant": _refuse_number, "parse_float": _finite} if finite else {}
    try:
        content = json.loads(text, object_pairs_hook=_without_repetition, **options)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if "\\u" in text and SURROGATE.search(json.dumps(content, ensure_ascii=False)):
        raise ValueError("it contains half a character (a lone surrogate)")
    return content


def read_json(path: str | Path, *, what: str, remedy: str, finite: bool = True) -> Any:
    """Read a JSON file.

    Args:
        what: The kind of file, for the message: "no {what}".
        remedy: A sentence that says what to do.
        finite: Whether to refuse NaN and infinities, as in `parse_json`.

    Raises:
        FileNotFoundError: If there is no such file; the message ends with the remedy.
        ValueError: If the file cannot be read; the message names it and ends with the remedy.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no {what} at {path}. {remedy}")
    text = read_text(path)
    try:
        return parse_json(text, finite=finite)
    except ValueError as error:
        raise ValueError(f"{path} is not a valid {what} ({error}). {remedy}") from error


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases: a few lines of them unfold to more than any memory holds, and no recipe needs one."""

    def compose_node(self, parent, index):
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.composer.ComposerError(None, None, "it uses an alias (*)", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node, deep=False):
        pairs = node.value if isinstance(node, yaml.MappingNode) else ()
        repeated = _repeated(key.value for key, _ in pairs if isinstance(key, yaml.ScalarNode))
        if repeated is not None:
            raise yaml.constructor.ConstructorError(None, None, f"it repeats the key {repeated!r}", node.start_mark)
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """Parse YAML of plain values, without aliases and repeated keys.

    Raises:
        ValueError: If it is anything else; the message says what is wrong and where.
    """
    if len(text) > MAX_YAML_BYTES:
        raise ValueError(f"it has more than {MAX_YAML_BYTES:,} characters")
    try:
        return _PlainLoader(text).get_single_data()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, OverflowError) as error:  # PyYAML lets some through
        raise ValueError(" ".join(str(error).split())) from error


def read_yaml(path: str | Path, *, what: str) -> Any:
    """Read a YAML file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read; the message names it.
    """
    text = read_text(path, max_bytes=MAX_YAML_BYTES)
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise ValueError(f"{path} is not a valid {what}: {error}.") from error


def check_count(value: Any, *, largest: int = 2**31 - 1) -> int:
    """Return `value` if it is a whole number from 0 to `largest`, which True and 1.0 are not.

    Raises:
        ValueError: If `value` is anything else.
    """
    if type(value) is not int or not 0 <= value <= largest:
        raise ValueError(f"{value!r} is not a whole number from 0 to {largest}")
    return value


def check_text(value: Any, *, what: str = "text", largest: int = 1000) -> str:
    """Return `value` if it is a text of 1 to `largest` characters, one of them visible, that can be stored.

    Raises:
        ValueError: If `value` is anything else.
    """
    if not isinstance(value, str) or not value.strip() or len(value) > largest or SURROGATE.search(value):
        raise ValueError(f"{shorten(value)} is not a valid {what}: expected a text of 1 to {largest} characters")
    return value


def shorten(value: Any, length: int = 80) -> str:
    """`repr(value)`, cut to a length that fits into a message."""
    text = repr(value) if not isinstance(value, str) else repr(value[: length + 1])
    return text if len(text) <= length else text[: length - 1] + "…"


def _refuse_number(text: str) -> float:
    raise ValueError(f"{text[:20]} is not a finite number")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _refuse_number(text)


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError(f"it repeats the key {shorten(_repeated(key for key, _ in pairs))}")
    return content


def _repeated(keys: Iterable[str]) -> str | None:
    """Return the first key that occurs twice."""
    seen: set[str] = set()
    return next((key for key in keys if key in seen or seen.add(key)), None)
