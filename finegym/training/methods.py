"""How much of a backbone learns, by the number of training videos: the shipped recipes that `finegym finetune` begins
with."""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finegym.paths import CONFIGURATION


MethodName = Literal["frozen", "lora", "full"]


@dataclass(frozen=True)
class Method:
    """How much of the backbone learns, and the number of training videos from which it is chosen."""

    name: MethodName
    min_num_videos: int
    summary: str

    @property
    def recipe(self) -> Path:
        """The shipped recipe."""
        return CONFIGURATION / "own" / f"{self.name}.yaml"


# From the least that learns to the most. The numbers of videos are rules of thumb, which nothing here measured: that
# is why the frozen backbone and the linear controls on its features are in every table.
METHODS = (
    Method("frozen", 0, "the backbone stays frozen, and an encoder learns on its features"),
    Method("lora", 500, "small matrices in the backbone (LoRA) and the encoder learn together"),
    Method("full", 2000, "the backbone and the encoder learn together"),
)
FROZEN = METHODS[0]


def find_obstacles(*, has_gpu: bool, is_own: bool) -> dict[MethodName, str]:
    """Return why some methods are not chosen here.

    Args:
        has_gpu: Whether there is a GPU.
        is_own: Whether the backbone is one of this project, which has no layers for LoRA.
    """
    obstacles: dict[MethodName, str] = {}
    if importlib.util.find_spec("peft") is None:
        obstacles["lora"] = "PEFT is not installed (`pip install 'peft>=0.18'`)"
    if is_own:
        obstacles["lora"] = "the backbone is none of Transformers"
    if not has_gpu:
        obstacles |= dict.fromkeys(("lora", "full"), "there is no GPU")
    return obstacles


def choose_method(
    num_videos: int, asked: MethodName | None, obstacles: Mapping[MethodName, str]
) -> tuple[MethodName, str]:
    """Return how much of the backbone learns, and a sentence about it.

    Args:
        num_videos: The number of training videos.
        asked: What the user asks for; None leaves it to the number of videos.
        obstacles: The methods that are not chosen unasked, and why.
    """
    enough = [method for method in METHODS if num_videos >= method.min_num_videos]
    possible = [method for method in enough if method.name not in obstacles]
    method = possible[-1] if asked is None else next(method for method in METHODS if method.name == asked)
    reason = f"With {num_videos:,} training videos, by rule of thumb" if asked is None else f"As --method {asked} says"
    sentence = f"{reason}, {method.summary}"
    sentence += "." if method == FROZEN else ", after an encoder on the frozen backbone, for comparison."
    if asked is not None:
        return method.name, sentence
    if method != enough[-1]:
        name = enough[-1].name
        return method.name, f"{sentence} They are enough for --method {name}, but {obstacles[name]}."
    for following in METHODS[len(enough) :][:1]:
        sentence += f" From {following.min_num_videos:,} on, on a GPU, {following.summary}."
    return method.name, sentence
