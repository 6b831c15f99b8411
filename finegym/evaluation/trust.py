"""How far an explanation can be trusted: what SynthGym's truth says of its methods, and the sentences for it.

In: `trust.json`, which `python -m benchmarks.readme` writes from `benchmarks/results/explanations.json`: for each
model type the figures of every method, one for each model that was measured. Out: a `Trust`, whatever the numbers say.
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from finegym.data.text import read_json


MEASURED = Path(__file__).with_name("trust.json")
CHANCE, CENTER = "chance", "center prior"
# What an average precision is taken of: the model type has rows for attributes, or one for the whole movement.
ATTRIBUTE, MOVEMENT = "attribute", "movement"
WHAT = {ATTRIBUTE: "an attribute happens", MOVEMENT: "the movement of the class happens"}
UNKNOWN = (
    "How far these methods can be trusted has not been measured for this kind of model: compare them, and take none "
    "for proof."
)
Figures = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Trust:
    """What the measurements say of the methods for one type of model.

    Attributes:
        method: The method to look at first: the one that finds best when something happens, if one does so better
            than the center of the clip and than chance; else the one that finds best what the answer rests on. None
            for a model type that was not measured.
        finds_when: Whether it finds when something happens, better than both.
        sentence: What can be trusted, with the numbers.
    """

    method: str | None
    finds_when: bool
    sentence: str

    def order(self, methods: Sequence[str]) -> list[str]:
        """Return the methods with the trusted one first."""
        return sorted(methods, key=lambda method: method != self.method)


@cache
def measured() -> dict[str, dict[str, Figures]]:
    """Return model type -> method -> measure -> a figure for each measured model."""
    return read_json(MEASURED, what="figures of explanations", remedy="install the project again")


def trust_in(model_type: str) -> Trust:
    """Return what is known of the explanations of a model type."""
    figures = measured().get(model_type)
    return Trust(None, False, UNKNOWN) if figures is None else judge(figures)


def judge(figures: Mapping[str, Figures]) -> Trust:
    """Return what the figures of one model type say.

    Args:
        figures: Method -> measure -> a figure for each model, the methods of which two are `chance` and the `center
            prior`. The models are the same in all of them, so that two methods are compared model by model.
    """
    kind = ATTRIBUTE if f"{ATTRIBUTE}.average_precision" in figures[CHANCE] else MOVEMENT
    precision = f"{kind}.average_precision"
    methods = [method for method in figures if method not in (CHANCE, CENTER)]
    precise = max(methods, key=lambda method: statistics.fmean(figures[method][precision]))
    faithful = max(methods, key=lambda method: statistics.fmean(_contrast(figures[method])))
    finds_when = all(_exceeds(figures[precise][precision], figures[prior][precision]) for prior in (CHANCE, CENTER))
    method = precise if finds_when else faithful
    when = _compare(figures, precise, f"{kind}.pointing", precision)
    if finds_when:
        sentence = f"Of all methods, {precise} tells best when {WHAT[kind]}: {when}."
    else:
        better = _exceeds(figures[precise][precision], figures[CHANCE][precision])
        prior = "the center of the clip does" if better else "chance"
        sentence = f"No method tells when {WHAT[kind]} better than {prior}. The best is {precise}: {when}."
    sentence += f" {_tell_faith(figures, faithful)}"
    number = len(figures[CHANCE][precision])
    return Trust(method, finds_when, f"{sentence} Measured on SynthGym, means of {number} models.")


def _contrast(figures: Figures) -> list[float]:
    return [kept - lost for kept, lost in zip(figures["insertion"], figures["deletion"], strict=True)]


def _exceeds(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    """Whether every model says so."""
    return all(one > other for one, other in zip(ours, theirs, strict=True))


def _compare(figures: Mapping[str, Figures], method: str, pointing: str, precision: str) -> str:
    def mean(name: str, measure: str) -> float:
        return statistics.fmean(figures[name][measure])

    return (
        f"its highest moment is right in {100 * mean(method, pointing):.0f} % of cases (the center of the clip in "
        f"{100 * mean(CENTER, pointing):.0f} %, chance {100 * mean(CHANCE, pointing):.0f} %), and its average "
        f"precision is {mean(method, precision):.2f} ({mean(CENTER, precision):.2f}, {mean(CHANCE, precision):.2f})"
    )


def _tell_faith(figures: Mapping[str, Figures], method: str) -> str:
    said = {
        name: "{:.2f} and {:.2f}".format(
            *(statistics.fmean(figures[name][part]) for part in ("deletion", "insertion"))
        )
        for name in (method, CENTER, CHANCE)
    }
    priors = [_exceeds(_contrast(figures[method]), _contrast(figures[prior])) for prior in (CENTER, CHANCE)]
    begin = (
        f"What the answer rests on, {method} tells best"
        if all(priors)
        else (f"Nor does one tell what the answer rests on better than an order without a model; best is {method}")
    )
    return (
        f"{begin}: with moments deleted and inserted in its order, the mean probability of the class is "
        f"{said[method]} (from the center outwards {said[CENTER]}, at random {said[CHANCE]})."
    )
