"""The classes of a data set and the attribute vocabulary behind them, as read from `labels.json`."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .files import write_text
from .text import check_count, check_text, read_json, shorten


@dataclass(frozen=True)
class ActionClass:
    """One class of a data set.

    `name` is unique within the data set; `text` is the data set's own wording and need not be. `event`, `set`,
    `set_name` and `element` place a FineGym class in its hierarchy (`element` is FineGym's Glabel, 0 to 529) and are
    None elsewhere. `attributes` are ids into `Labels.attributes`, in the order of the phrase, without the blank id 0.
    """

    id: int
    name: str
    text: str
    event: str | None = None
    set: int | None = None
    set_name: str | None = None
    element: int | None = None
    attributes: tuple[int, ...] = ()

    def __post_init__(self):
        check_count(self.id)
        check_text(self.name, what="class name")
        for text in (self.text, self.event, self.set_name):
            if text is not None and not isinstance(text, str):
                raise ValueError(f"Class {self.name!r}: {shorten(text)} is not text.")
        for number in (self.set, self.element, *self.attributes):
            if number is not None:
                check_count(number)


@dataclass(frozen=True)
class Labels:
    """All classes of a data set in the order of their ids, and the texts of its attributes (id 0 is the blank).

    A data set without attributes has an empty `attributes` list: the video-text cross encoder needs one, the others do
    not. `synthetic` says that the videos were drawn by a program. `attribute_group_sizes` cuts the attributes
    from id 1 on into groups, of each of which a class has at most one. By default each is a group of its own.
    """

    name: str
    classes: list[ActionClass]
    attributes: list[str]
    source: str = ""
    license: str = ""
    synthetic: bool = False
    attribute_group_sizes: tuple[int, ...] = ()

    def __post_init__(self):
        check_text(self.name, what="name of a data set")
        for text in (self.source, self.license, *self.attributes):
            if not isinstance(text, str):
                raise ValueError(f"{shorten(text)} is not text.")
        for position, action in enumerate(self.classes):
            if action.id != position:
                raise ValueError(
                    f"Class ids must count up from 0: class {action.name!r} is at {position}, with id {action.id}."
                )
            for attribute in action.attributes:
                if not 0 < attribute < len(self.attributes):
                    raise ValueError(
                        f"Class {action.name!r} names attribute {attribute}, but the ids run from 1 to "
                        f"{len(self.attributes) - 1}."
                    )
        repeated = sorted(name for name, count in Counter(self.names).items() if count > 1)
        if repeated:
            raise ValueError(f"Class names must be unique, or `label2id` would lose classes. Repeated: {repeated}.")
        if self.attributes and self.attributes[0] != "":
            raise ValueError(f"Attribute 0 must be the blank '', not {self.attributes[0]!r}.")
        if not self.attribute_group_sizes:
            object.__setattr__(self, "attribute_group_sizes", (1,) * max(0, len(self.attributes) - 1))
        self._check_groups()

    def _check_groups(self) -> None:
        for size in self.attribute_group_sizes:
            check_count(size)
        if sum(self.attribute_group_sizes) != max(0, len(self.attributes) - 1):
            raise ValueError(
                f"attribute_group_sizes sum to {sum(self.attribute_group_sizes)}, and there are "
                f"{len(self.attributes) - 1} attributes after the blank one."
            )
        for action, row in zip(self.classes, self.class_attributes, strict=True):
            if len(set(action.attributes)) != sum(attribute > 0 for attribute in row):
                raise ValueError(f"Class {action.name!r} has two attributes of one of the attribute_group_sizes.")

    @property
    def class_attributes(self) -> list[list[int]]:
        """For each class, its attribute of each group, or 0."""
        groups = [group for group, size in enumerate(self.attribute_group_sizes) for _ in range(size)]
        rows = [[0] * len(self.attribute_group_sizes) for _ in self.classes]
        for row, action in zip(rows, self.classes, strict=True):
            for attribute in action.attributes:
                row[groups[attribute - 1]] = attribute
        return rows

    def require_levels(self) -> tuple[list[int], list[int]]:
        """Return the event and the set of each class, numbered in the order in which they first occur, for a model
        that needs them.

        Raises:
            ValueError: If a class has none; the message names it.
        """
        levels = []
        for level, values in (
            ("event", [action.event for action in self.classes]),
            ("set", [action.set for action in self.classes]),
        ):
            if None in values:
                raise ValueError(
                    f"This architecture classifies events and sets as well, and class "
                    f"{self.names[values.index(None)]!r} of {self.name!r} has no {level}. Give every class one in the "
                    "label file, or take another architecture."
                )
            numbers = {value: number for number, value in enumerate(dict.fromkeys(values))}
            levels.append([numbers[value] for value in values])
        return levels[0], levels[1]

    @property
    def names(self) -> list[str]:
        return [action.name for action in self.classes]

    @property
    def id2label(self) -> dict[int, str]:
        return dict(enumerate(self.names))

    @property
    def label2id(self) -> dict[str, int]:
        return {name: label for label, name in self.id2label.items()}

    def require_attributes(self) -> list[str]:
        """Return the attribute texts, for a model that needs them.

        Raises:
            ValueError: If the data set has none; the message says what to do.
        """
        if not self.attributes:
            raise ValueError(
                f"This architecture reads attribute texts, and {self.name!r} has none. Give them in an "
                "`attributes` column of the metadata, `attributes.json` or by `finegym import --attributes names`; "
                "or take one that needs none, such as the vision encoder."
            )
        return self.attributes

    @classmethod
    def read(cls, path: str | Path) -> "Labels":
        """Read a `labels.json`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is not of the documented form, repeats a name or refers to an unknown attribute;
                the message names it.
        """
        content = read_json(path, what="label file", remedy="`finegym prepare` writes one beside the index.")
        try:
            classes = [
                ActionClass(**{**row, "attributes": tuple(_list(row.get("attributes", [])))})
                for row in _list(content["classes"])
            ]
            return cls(
                name=content["name"],
                classes=classes,
                attributes=_list(content.get("attributes", [])),
                source=content.get("source", ""),
                license=content.get("license", ""),
                synthetic=bool(content.get("synthetic", False)),
                attribute_group_sizes=tuple(_list(content.get("attribute_group_sizes", []))),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} is not a label file ({type(error).__name__}: {error}).") from error

    def write(self, path: str | Path) -> None:
        """Write a `labels.json` that `read` returns unchanged; one class a line."""
        rows = [json.dumps(asdict(action), ensure_ascii=False) for action in self.classes]
        names = ("name", "source", "license", "synthetic", "attributes")
        header = {name: getattr(self, name) for name in names}
        if max(self.attribute_group_sizes, default=1) > 1:
            header["attribute_group_sizes"] = list(self.attribute_group_sizes)
        fields = [f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in header.items()]
        classes = ",\n".join(f"    {row}" for row in rows)
        write_text(path, "{\n" + ",\n".join(fields) + ',\n  "classes": [\n' + classes + "\n  ]\n}\n")


def _list(value: Any) -> list:
    if not isinstance(value, list):
        raise ValueError(f"{shorten(value)} is not a list")
    return value
