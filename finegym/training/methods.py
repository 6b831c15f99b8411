"""How much of a backbone learns, by the number of training videos: the shipped recipes that `finegym finetune` begins
with."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finegym.paths import CONFIGURATION


MethodName = Literal["frozen", "full"]


@dataclass(frozen=True)
class Method:
    """How much of the backbone learns, the number of training videos from which it is chosen, and whether only where
    there is a GPU."""

    name: MethodName
    min_num_videos: int
    needs_gpu: bool
    summary: str

    @property
    def recipe(self) -> Path:
        """The shipped recipe."""
        return CONFIGURATION / "own" / f"{self.name}.yaml"


# From the least that learns to the most. The numbers of videos are rules of thumb, which nothing here measured: that
# is why the frozen backbone and the linear controls on its features are in every table.
METHODS = (
    Method("frozen", 0, False, "the backbone stays frozen, and an encoder learns on its features"),
    Method("full", 2000, True, "the backbone and the encoder learn together"),
)
FROZEN = METHODS[0]


def choose_method(num_videos: int, asked: MethodName | None, *, has_gpu: bool) -> tuple[MethodName, str]:
    """Return how much of the backbone learns, and a sentence about it.

    Args:
        num_videos: The number of training videos.
        asked: What the user asks for; None leaves it to the number of videos.
        has_gpu: Whether there is a GPU.
    """
    enough = [method for method in METHODS if num_videos >= method.min_num_videos]
    possible = [method for method in enough if has_gpu or not method.needs_gpu]
    method = possible[-1] if asked is None else next(method for method in METHODS if method.name == asked)
    reason = f"With {num_videos:,} training videos" if asked is None else f"As --method {asked} says"
    sentence = f"{reason}, {method.summary}"
    sentence += "." if method == FROZEN else ", after an encoder on the frozen backbone, for comparison."
    if asked is not None:
        return method.name, sentence
    if method != enough[-1]:
        return method.name, f"{sentence} They are enough for --method {enough[-1].name}, but there is no GPU."
    for following in METHODS[len(enough) :][:1]:
        sentence += f" From {following.min_num_videos:,} on, on a GPU, {following.summary}."
    return method.name, sentence
