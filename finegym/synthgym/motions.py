"""Motion programs: what the athlete does, composed from the attributes of a FineGym class.

Every element travels along +x and somersaults with a growing angle (see `figure.orientation`); "backward" is an
athlete who faces -x. A round-off is then a whole somersault with half a twist.

Phase lengths and flight times (0.5 s leaps, 0.65 s beam saltos, 0.85 to 1.05 s floor saltos and vaults) are chosen so
that video lengths are distributed like FineGym's (median near 40 frames, four in five below 64).
"""

import re
from collections.abc import Sequence

import numpy as np

from .figure import SHAPES, mirror, pose
from .program import BEAM_HEIGHT, BOARD_HEIGHT, TABLE_HEIGHT, Keys, Program


# Of a phase, all of it.
WHOLE = (0.0, 1.0)


def _turn(turns: float, window: tuple[float, float]) -> dict[str, tuple[float, float]]:
    return {"turn": window} if turns else {}


def run_up(program: Program, num_steps: int, speed: float) -> None:
    """Append running steps and the hurdle step on to both feet."""
    for step in range(num_steps):
        stride = SHAPES["run"] if step % 2 else mirror(SHAPES["run"])
        program.phase(0.2, "flight", [(0.5, stride)], speed=speed)
        program.phase(
            0.06, "ground", [(0.5, pose(hip_left=18, hip_right=-12, knee=28, elbow=80, foot=5))], speed=speed
        )


def round_off(program: Program, *, seconds: float, speed: float) -> None:
    """Append the second half of a round-off: from the lunge over the hands on to both feet, back to the travel."""
    program.somersault = [(0.0, 40.0)]
    program.twist = [(0.0, 25.0 * program.twist_side)]
    keys = [(0.2, "kick_over"), (0.85, "handstand")]
    shows = {"round-off": WHOLE}
    program.phase(0.57 * seconds, "ground", keys, somersault=165, twist=120, shows=shows)
    keys = [(0.35, "hollow"), (0.95, "reach")]
    options = {"twist": 35, "twist_window": (0, 0.5), "speed": speed, "shows": shows}
    program.phase(0.43 * seconds, "flight", keys, somersault=140, **options)


def flic_flac(program: Program, *, seconds: float, speed: float) -> None:
    """Append a back handspring from both feet over the hands."""
    sit = pose(hip=55, knee=68, shoulder=40, spine=10, foot=-10)
    shows = {"flic-flac": WHOLE}
    program.phase(0.28 * seconds, "ground", [(0.0, "reach"), (0.6, sit), (1.0, "take_off")], somersault=22)
    program.phase(0.25 * seconds, "flight", [(0.4, "arch"), (1.0, "arch")], somersault=113, speed=speed, shows=shows)
    program.phase(0.22 * seconds, "ground", [(0.4, "handstand"), (0.9, "handstand")], somersault=85, shows=shows)
    keys = [(0.4, "hollow"), (0.98, "reach")]
    program.phase(0.25 * seconds, "flight", keys, somersault=130, speed=0.6 * speed, shows=shows)
    program.phase(0.15 * seconds, "ground", [(0.7, "reach")], somersault=10, shows={"landing": WHOLE})


def snap_down(program: Program, *, speed: float) -> None:
    """Append the second half of a flic-flac: from the hands to the feet."""
    program.somersault = [(0.0, 190.0)]
    program.phase(0.12, "ground", [(0.0, "handstand"), (1.0, "handstand")], somersault=25)
    program.phase(0.22, "flight", [(0.4, "hollow"), (0.95, "reach")], somersault=135, speed=speed)


def finish_upright(program: Program) -> float:
    """Return the degrees of somersault up to the next upright position."""
    reached = program.somersault[-1][1]
    return float(np.ceil((reached - 1) / 360) * 360 - reached)


def salto(program: Program, shape: str, *, rotations: int, twists: float, seconds: float, speed: float) -> None:
    """Append take-off from both feet, flight and landing. `shape` is "tuck", "pike" or "layout"; twists are whole
    turns."""
    program.phase(
        0.11,
        "ground",
        [(0.0, pose(hip=16, knee=26, shoulder=150, foot=0)), (0.95, "take_off")],
        somersault=finish_upright(program) % 360 + 10,
        speed=0.3 * speed,
    )
    if shape == "layout" and twists:
        keys, window = [(0.12, "layout"), (0.24, "wrap"), (0.8, "wrap"), (0.93, "open")], (0.06, 0.88)
    else:
        keys, window = [(0.2, shape), (0.78, shape), (0.94, "open")], (0.12, 0.82)
    program.phase(
        seconds,
        "flight",
        keys,
        somersault=360 * rotations - 20,
        twist=360 * twists,
        twist_window=window,
        speed=speed,
        shows={"salto": WHOLE, "shape": (keys[0][0], keys[-2][0])} | _turn(twists, window),
    )
    program.phase(0.25, "ground", [(0.4, "land"), (1.0, "stand")], somersault=10, shows={"landing": WHOLE})


def vault(program: Program, *, forward: bool, turns: float) -> None:
    """Append a round-off on the board, a flic-flac on the table and a salto off it; `forward` turns half about before
    the table."""
    round_off(program, seconds=0.41, speed=3.0)
    program.phase(
        0.1,
        "ground",
        [(0.5, pose(hip=18, knee=28, shoulder=130, foot=0))],
        somersault=20,
        speed=1.0,
        surface=BOARD_HEIGHT,
    )
    program.phase(
        0.24,
        "flight",
        [(0.5, "arch"), (1.0, "handstand")],
        somersault=130,
        twist=180 if forward else 0,
        speed=3.2,
        surface=TABLE_HEIGHT,
        shows={"flic-flac": WHOLE} | _turn(forward, WHOLE),
    )
    keys = [(0.3, "handstand"), (0.9, "hollow")]
    program.phase(0.16, "ground", keys, somersault=60, speed=0, surface=TABLE_HEIGHT, shows={"flic-flac": WHOLE})
    middle = "wrap" if turns else "layout"
    remaining = finish_upright(program)
    program.phase(
        0.9,
        "flight",
        [(0.14, middle), (0.8, middle), (0.93, "open")],
        somersault=remaining + 360 - 8,
        twist=360 * turns,
        twist_window=(0.05, 0.88),
        speed=2.5,
        shows={"salto": WHOLE, "shape": (0.14, 0.8)} | _turn(turns, (0.05, 0.88)),
    )
    program.phase(0.28, "ground", [(0.3, "land"), (1.0, "stand")], somersault=8, shows={"landing": WHOLE})


SPLIT_LEAP: Keys = [(0.45, "split"), (0.6, "split"), (0.95, "step_out")]
LEAPS: dict[str, Keys] = {
    "split leap": SPLIT_LEAP,
    "split leap forward": SPLIT_LEAP,
    "switch leap": [(0.2, "swing"), (0.52, "switched"), (0.66, "switched"), (0.96, mirror(SHAPES["step_out"]))],
}
JUMPS: dict[str, Keys] = {
    "split jump": [(0.42, "split"), (0.6, "split"), (0.97, "open")],
    "straddle pike or side split jump": [(0.42, "straddle"), (0.6, "straddle"), (0.97, "open")],
    "sheep jump": [(0.42, "sheep"), (0.6, "sheep"), (0.97, "open")],
    "wolf hop or jump": [(0.42, "wolf"), (0.6, "wolf"), (0.97, "open")],
}


def leap(program: Program, name: str, turns: float) -> None:
    """Append a leap from one foot, with its turn in the flight."""
    program.wait("present")
    program.phase(0.28, "ground", [(0.0, "present"), (0.6, "step_out"), (1.0, "take_off")], speed=1.2)
    shows = {name: WHOLE} | _turn(turns, WHOLE)
    program.phase(0.52 + 0.08 * turns, "flight", LEAPS[name], twist=360 * turns, speed=2.4, shows=shows)
    program.phase(0.32, "ground", [(0.2, "step_out"), (1.0, "present")])


def jump(program: Program, name: str, turns: float) -> None:
    """Append a jump from both feet, almost on the spot."""
    program.wait("present")
    program.phase(0.3, "ground", [(0.0, "present"), (0.6, "crouch"), (1.0, "take_off")])
    shows = {name: WHOLE} | _turn(turns, WHOLE)
    program.phase(0.5 + 0.08 * turns, "flight", JUMPS[name], twist=360 * turns, speed=0.4, shows=shows)
    program.phase(0.3, "ground", [(0.25, "land"), (1.0, "present")])


def turn_on_one_leg(program: Program, turns: float) -> None:
    """Append a pirouette on one foot with the free leg below horizontal; faster athletes need less time for each
    turn."""
    seconds = program.rng.uniform(0.32, 0.62) * (0.45 + turns)
    program.wait("present")
    program.phase(0.26, "ground", [(0.0, "present"), (0.85, "turn_prepare")])
    keys = [(0.15, "passe"), (0.88, "passe")]
    window = (0.04, 0.94)
    shows = {"one leg": WHOLE} | _turn(turns, window)
    program.phase(0.15 + seconds, "ground", keys, twist=360 * turns, twist_window=window, shows=shows)
    program.phase(0.2, "ground", [(0.5, "turn_end"), (1.0, "present")])


def giant_circle(program: Program, turns: float) -> None:
    """Append a giant circle from handstand to handstand; turns are made on one arm over the bar."""
    shows = {"circle": WHOLE}
    program.phase(0.24, "bar", [(0.0, "bar_handstand"), (1.0, "bar_handstand")], somersault=50, shows=shows)
    kick = "bar_kick" if program.facing_back else "bar_arch"
    before = "bar_arch" if program.facing_back else "bar_kick"
    program.phase(0.45, "bar", [(0.4, "bar_handstand"), (0.95, before)], somersault=135, shows=shows)
    program.phase(0.45, "bar", [(0.35, kick), (0.95, "bar_handstand")], somersault=140, twist=0, shows=shows)
    if not turns:
        program.phase(0.28, "bar", [(1.0, "bar_handstand")], somersault=35, shows=shows)
        return
    free_arm = pose(hip=0, shoulder_left=180, shoulder_right=120, lift_right=55, lift_left=4)
    seconds = program.rng.uniform(0.32, 0.58) * (0.4 + turns)
    program.phase(
        seconds,
        "bar",
        [(0.2, free_arm), (0.72, free_arm), (0.98, "bar_handstand")],
        somersault=30,
        twist=360 * turns,
        twist_window=(0.02, 0.92),
        grip=(1.0, 0.0),
        shows=_turn(turns, (0.02, 0.92)),
    )
    program.phase(0.2, "bar", [(0.6, "bar_handstand")], somersault=8, shows={"handstand": WHOLE})


# -------------------------------------------------------------------------------------------- from attributes to parts

SALTOS = {
    "salto forward": (1, False),
    "salto backward": (1, True),
    "double salto backward": (2, True),
    "double salto forward": (2, False),
}
SHAPE_OF = {"tucked": "tuck", "piked": "pike", "stretched": "layout"}
TURNS = re.compile(r"([\d.]+) (turn|twist)")
_OTHERS = {
    "round-off",
    "flic-flac",
    "giant circle backward",
    "giant circle forward",
    "handstand",
    "landing on one or both feet",
    "on one leg free leg optional",
}
_UNDERSTOOD = {*LEAPS, *JUMPS, *SALTOS, *SHAPE_OF, *_OTHERS}


def compose(event: str, attributes: Sequence[str], rng: np.random.Generator) -> Program:
    """Return the program of a class with these attributes: a series, if they name several jumps, and otherwise one
    element.

    Raises:
        ValueError: If the attributes name no element that SynthGym knows.
    """
    jumps = [name for name in attributes if name in JUMPS]
    return _series(event, jumps, rng) if len(jumps) > 1 else _element(event, attributes, rng)


def _number_of_turns(attributes: Sequence[str]) -> float:
    for attribute in attributes:
        if match := TURNS.fullmatch(attribute):
            return float(match.group(1))
    return 0.0


def _floor_salto(program: Program, backward: bool, shape: str, rotations: int, turns: float) -> None:
    if backward:
        entry = program.rng.random()
        if entry < 0.35:
            flic_flac(program, seconds=0.62, speed=2.6)
        elif entry < 0.7:
            snap_down(program, speed=2.4)
        else:
            program.phase(0.2, "ground", [(0.0, "hollow"), (0.9, "reach")], somersault=-8, speed=1.2)
    else:
        run_up(program, int(program.rng.integers(1, 3)), 3.2)
    seconds = program.rng.uniform(0.82, 0.95) if rotations == 1 else program.rng.uniform(0.92, 1.08)
    salto(program, shape, rotations=rotations, twists=turns, seconds=seconds, speed=1.8 if backward else 2.4)


def _beam_salto(program: Program, shape: str, turns: float) -> None:
    program.wait("reach")
    program.phase(0.25, "ground", [(0.0, "reach"), (0.65, "crouch")])
    seconds = program.rng.uniform(0.6, 0.72)
    salto(program, shape, rotations=1, twists=turns, seconds=seconds, speed=0.6)


def _perform(program: Program, event: str, attributes: Sequence[str]) -> None:
    """Append the element that FineGym's attributes describe. Raise `ValueError` for one that cannot be rendered."""
    unknown = [name for name in attributes if not (name == event or name in _UNDERSTOOD or TURNS.fullmatch(name))]
    if unknown:
        raise ValueError(f"SynthGym does not know {unknown}; write the movement in finegym/synthgym/motions.py.")
    turns = _number_of_turns(attributes)
    shape = next((SHAPE_OF[name] for name in attributes if name in SHAPE_OF), "tuck")
    saltos = [SALTOS[name] for name in attributes if name in SALTOS]
    leaps = [name for name in attributes if name in LEAPS]
    jumps = [name for name in attributes if name in JUMPS]
    if event == "UB" and {"giant circle backward", "giant circle forward"} & set(attributes):
        giant_circle(program, turns)
    elif event == "VT" and saltos:
        vault(program, forward="salto forward" in attributes, turns=turns)
    elif saltos and event == "FX":
        rotations, backward = saltos[0]
        _floor_salto(program, backward, shape, rotations, turns)
    elif saltos and event == "BB" and saltos[0][0] == 1:
        _beam_salto(program, shape, turns)
    elif "flic-flac" in attributes and event == "BB":
        program.wait("reach")
        flic_flac(program, seconds=0.9, speed=1.6)
    elif leaps:
        leap(program, leaps[0], turns)
    elif jumps:
        jump(program, jumps[0], turns)
    elif "on one leg free leg optional" in attributes:
        turn_on_one_leg(program, turns)
    else:
        raise ValueError(
            f"SynthGym cannot perform {event} {list(attributes)}: compose it from the parts in motions.py."
        )


def _element(event: str, attributes: Sequence[str], rng: np.random.Generator) -> Program:
    """Return the program of one FineGym class, with random margins at both ends."""
    starts_back = event != "VT" and any("backward" in name or name == "flic-flac" for name in attributes)
    surface = BEAM_HEIGHT if event == "BB" else 0.0
    program = Program(rng, surface=surface, facing_back=starts_back, inverted=event == "UB")
    if event == "UB":
        program.somersault = [(0.0, 180.0 + rng.uniform(-25, 5))]
        program.phase(rng.uniform(0.02, 0.2), "bar", [(0.0, "bar_handstand")], somersault=5)
    _perform(program, event, attributes)
    if event == "UB":
        duration = rng.uniform(0.02, 0.2)
        keys, shows = [(1.0, "bar_handstand")], {"handstand": WHOLE}
        program.phase(duration, "bar", keys, somersault=rng.uniform(0, 25), shows=shows)
    else:
        program.wait("stand" if rng.random() < 0.5 else "reach")
    return program


def _series(event: str, names: Sequence[str], rng: np.random.Generator) -> Program:
    """Return the jumps in the given order, each with the same preparation, connection and end, whatever the order.

    1.94 s in all, 16 frames of every third at 25 frames per second. What comes before, between and after the flights
    is the same in every class, and so long that no unit of a network that sees five of these frames sees both jumps,
    or one jump and an end of the clip.
    """
    program = Program(rng, surface=BEAM_HEIGHT if event == "BB" else 0.0)
    program.tempo = 1.0
    program.phase(0.44, "ground", [(0.0, "present"), (0.4, "present"), (0.75, "crouch"), (1.0, "take_off")])
    for index, name in enumerate(names):
        if index:
            keys = [(0.25, "land"), (0.7, "crouch"), (1.0, "take_off")]
            program.phase(0.38, "ground", keys)
        program.mirrored = bool(rng.random() < 0.5)
        program.phase(0.34, "flight", JUMPS[name], speed=0.3, shows={name: WHOLE})
    program.phase(0.44, "ground", [(0.25, "land"), (0.8, "present"), (1.0, "present")])
    return program
