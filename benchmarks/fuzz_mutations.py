"""Random mutations of a file, as JSON where it is JSON, else of its bytes; and what a reader of such files is."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


VALUES = [None, True, -1, 0, 1.5, 10**30, float("nan"), "", "x", "\x1b[2J", "../../x", "\ud800"]
VALUES += [[], {}, [[]], {"x": {}}]


@dataclass(frozen=True)
class Reader:
    """`make(folder)` writes a valid folder and returns the file to mutate; `read(folder)` reads it."""

    make: Callable[[Path], Path]
    read: Callable[[Path], object]


def written(name: str, text: str) -> Callable[[Path], Path]:
    """Return a `make` of a folder with one text file."""

    def make(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return make


def mutate(content: bytes, chance: random.Random) -> bytes:
    """Mutate a file: as JSON or CSV if it is one of these, else its bytes."""
    try:
        value = json.loads(content)
    except ValueError:
        value = None
    if isinstance(value, (dict, list)) and chance.random() < 0.8:
        for _ in range(chance.randint(1, 3)):
            value = _change_value(value, chance)
        return json.dumps(value).encode("utf-8", "surrogatepass")
    data = bytearray(content)
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(data) + 1)
        way = chance.randrange(6)
        if way == 0:
            del data[place:]
        elif way == 1:
            data[place : place + 1] = bytes([chance.randrange(256)])
        elif way == 2:
            data[place:place] = bytes(chance.randrange(256) for _ in range(chance.randrange(8)))
        elif way == 3:
            del data[place : place + chance.randrange(64)]
        elif way == 4:
            data[place:place] = data[place : place + chance.randrange(256)]
        else:
            number = chance.choice([0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1])
            data[place : place + 8] = number.to_bytes(8, chance.choice(["little", "big"]))
    return bytes(data)


def _change_value(value, chance: random.Random):
    """Replace, drop, repeat or rename one part of a JSON value."""
    if not isinstance(value, (dict, list)) or not value or chance.random() < 0.15:
        return chance.choice(VALUES)
    value = value.copy()
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    key = chance.choice(keys)
    way = chance.randrange(5)
    if way == 0:
        del value[key]
    elif way == 1 and isinstance(value, dict):
        value[chance.choice(["", "x", "id", "../x", "9" * 50])] = value.pop(key)
    elif way == 2 and isinstance(value, list):
        value.append(value[key])
    else:
        value[key] = _change_value(value[key], chance)
    return value
