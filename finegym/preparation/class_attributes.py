"""The attributes of a user's own classes: from a file, from the metadata, or from the names of the classes."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from finegym.data.text import read_json, shorten

from .entries import Entry


ATTRIBUTES_FILE = "attributes.json"
# Words and signs at which `--attributes names` splits a class name.
SEPARATORS = re.compile(r"[,;/()|]|\b(?:with|and|to|into|from)\b")
# Between the words of a name in camel case: JumpRope, YoYo, TVShow.
CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def attributes_from_name(name: str) -> list[str]:
    """Split a class name into its attributes.

    The attributes are the phrases between commas, semicolons, slashes, brackets, bars and the words with, and, to,
    into, from; in lower case, with underscores as blanks. A name in camel case, which has no phrases, gives its words.

    >>> attributes_from_name("Salto backward, tucked with 1 twist")
    ['salto backward', 'tucked', '1 twist']
    >>> attributes_from_name("JumpRope")
    ['jump', 'rope']
    """
    if " " not in name and "_" not in name:
        name = CAMEL_CASE.sub(",", name)
    phrases = (" ".join(phrase.split()) for phrase in SEPARATORS.split(name.lower().replace("_", " ")))
    return list(dict.fromkeys(phrase for phrase in phrases if phrase))


def attributes_by_class(
    entries: Sequence[Entry], classes: Sequence[str], attributes: str | None, folder: Path
) -> dict[str, list[str]]:
    """Return the attributes of each class.

    Args:
        entries: The videos, with the attributes that the metadata gives them.
        classes: The names of the classes.
        attributes: A JSON file, "names", or None for the metadata's or those of `attributes.json` in the folder.
        folder: The folder of the videos.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is not of the documented form; the message names it.
    """
    if attributes == "names":
        return {name: attributes_from_name(name) for name in classes}
    path = Path(attributes) if attributes else folder / ATTRIBUTES_FILE
    if attributes and not path.is_file():
        raise FileNotFoundError(f"There is no attribute file {path}. To split class names, give `--attributes names`.")
    if attributes or (path.is_file() and not any(entry.attributes for entry in entries)):
        return _read_attributes(path, classes)
    by_class: dict[str, list[str]] = {name: [] for name in classes}
    for entry in entries:
        by_class[entry.label] += [phrase for phrase in entry.attributes if phrase not in by_class[entry.label]]
    return by_class


def warning_about(by_class: Mapping[str, Sequence[str]]) -> str | None:
    """Return a warning if attributes tell no more than the classes do: one for each class, shared with no other."""
    texts = [phrase for phrases in by_class.values() for phrase in phrases]
    if len(by_class) < 2 or any(len(phrases) != 1 for phrases in by_class.values()) or len(set(texts)) < len(texts):
        return None
    return (
        "Every class has one attribute of its own, so the attributes say nothing that the classes do not. Describe "
        f"what classes share in an {ATTRIBUTES_FILE}, or train the vision encoder, which needs none."
    )


def _read_attributes(path: Path, classes: Sequence[str]) -> dict[str, list[str]]:
    remedy = f'{path} must be {{"class": ["attribute", ...]}} for all classes.'
    content = read_json(path, what="attribute file", remedy=remedy)
    by_class = {}
    for name in classes:
        phrases = content.get(name) if isinstance(content, dict) else None
        if not isinstance(phrases, list) or not all(isinstance(phrase, str) for phrase in phrases):
            raise ValueError(f"{remedy} Those of {name!r} are {shorten(phrases)}.")
        by_class[name] = [phrase.strip() for phrase in phrases]
    unknown = sorted(content.keys() - set(classes))
    if unknown:
        raise ValueError(f"{path} names {unknown[:5]}, which are not classes; the classes are {list(classes)[:5]}.")
    return by_class
