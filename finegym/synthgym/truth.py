"""When each attribute of a performance happens, as the renderer knows it.

In: a program, whose marks say which part of a movement is shown when. Out: spans of FineGym's attributes, in seconds
from the start of the video. The event ("VT", "FX", ...) is visible all the time and has no span of its own.
"""

from collections.abc import Sequence

from .motions import JUMPS, LEAPS, SALTOS, SHAPE_OF, TURNS
from .program import Program


# An attribute -> the part of a movement that shows it; turns and twists of any number are "turn".
PARTS = {
    **dict.fromkeys(SALTOS, "salto"),
    **dict.fromkeys(SHAPE_OF, "shape"),
    **{name: name for name in (*LEAPS, *JUMPS, "round-off", "flic-flac", "handstand")},
    "giant circle backward": "circle",
    "giant circle forward": "circle",
    "on one leg free leg optional": "one leg",
    "landing on one or both feet": "landing",
}


def attribute_spans(program: Program, attributes: Sequence[str]) -> list[tuple[str, float, float]]:
    """Return the (attribute, start, end) in seconds of everything that a class's attributes name.

    Stretches of one attribute that meet are one span; the half turns on to and off the vaulting table are two.
    """
    spans = []
    for attribute in attributes:
        part = "turn" if TURNS.fullmatch(attribute) else PARTS.get(attribute)
        joined: list[tuple[float, float]] = []
        for start, end in sorted((start, end) for name, start, end in program.marks if name == part):
            if joined and start <= joined[-1][1] + 1e-9:
                joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
            else:
                joined.append((start, end))
        spans += [(attribute, start, end) for start, end in joined]
    return spans
