"""A motion program: the timed script of shapes, supports, somersaults and twists that a simulation runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from .figure import ANGLE_INDEX, ANGLES, SHAPES, mirror


GRAVITY = 9.81
BEAM_HEIGHT = 1.25
TABLE_HEIGHT = 1.25
BOARD_HEIGHT = 0.15
BAR_HEIGHT = 2.5
_BENDS = [index for name, index in ANGLE_INDEX.items() if name.startswith(("knee", "elbow"))]

Keys = Sequence[tuple[float, str | np.ndarray]]


@dataclass
class Phase:
    """One stretch of a program: `support` is "ground", "flight" or "bar"; surface in meters, speed in m/s along +x."""

    start: float
    stop: float
    support: str
    surface: float
    speed: float
    grip: tuple[float, float]


@dataclass
class Program:
    """A timed script of body shapes, supports, somersaults and twists, drawn with the athlete's own tempo and form.

    `marks` are the (part, start, end) in seconds of what the movement shows; `truth.attribute_spans` reads them.
    """

    rng: np.random.Generator
    surface: float = 0.0
    facing_back: bool = False
    inverted: bool = False
    time: float = 0.0
    phases: list[Phase] = field(default_factory=list)
    shapes: list[tuple[float, np.ndarray]] = field(default_factory=list)
    somersault: list[tuple[float, float]] = field(default_factory=list)
    twist: list[tuple[float, float]] = field(default_factory=list)
    marks: list[tuple[str, float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tempo = self.rng.uniform(0.75, 1.12)
        self.mirrored = bool(self.rng.random() < 0.5)
        self.twist_side = 1.0 if self.rng.random() < 0.5 else -1.0
        self.form = self.rng.normal(0, 3, len(ANGLES))
        self.somersault.append((0.0, 180.0 if self.inverted else 0.0))
        self.twist.append((0.0, 180.0 if self.facing_back else 0.0))

    def phase(
        self,
        duration: float,
        support: str,
        keys: Keys,
        *,
        somersault: float = 0.0,
        twist: float = 0.0,
        twist_window: tuple[float, float] = (0.0, 1.0),
        speed: float = 0.0,
        surface: float | None = None,
        grip: tuple[float, float] = (1.0, 1.0),
        shows: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        """Append a phase of `duration` seconds; `keys` are (fraction of the phase, shape), turns are degrees.

        `shows` notes what a judge sees, and between which fractions of the phase. It changes nothing in the picture.
        """
        stretch = self.rng.uniform(0.95, 1.06) if support == "flight" else self.tempo * self.rng.uniform(0.92, 1.08)
        start, stop = self.time, self.time + duration * stretch
        length = stop - start
        for fraction, shape in keys:
            vector = SHAPES[shape] if isinstance(shape, str) else shape
            vector = vector + self.form + self.rng.normal(0, 3, len(ANGLES))
            vector[_BENDS] = np.maximum(vector[_BENDS], 0)
            self.shapes.append((start + fraction * length, mirror(vector) if self.mirrored else vector))
        reached = self.somersault[-1][1]
        self.somersault += [(start, reached), (stop, reached + somersault)]
        reached, twist = self.twist[-1][1], twist * self.twist_side
        begin, end = (start + fraction * length for fraction in twist_window)
        self.twist += [(begin, reached), (end, reached + twist), (stop, reached + twist)]
        surface = self.surface if surface is None else surface
        if self.mirrored:
            grip = (grip[1], grip[0])
        self.phases.append(Phase(start, stop, support, surface, speed * self.rng.uniform(0.88, 1.12), grip))
        for part, (begin, end) in (shows or {}).items():
            self.marks.append((part, start + begin * length, start + end * length))
        self.time = stop

    def wait(self, shape: str) -> None:
        """Stand still in `shape` for up to a fifth of a second: the margin with which people cut videos."""
        self.phase(self.rng.uniform(0.02, 0.2), "ground", [(0.0, shape), (1.0, shape)])
