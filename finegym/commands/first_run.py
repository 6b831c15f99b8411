"""What `make train` says: its plan, the stage it is in, and what to do next.

`python -m finegym.commands.first_run plan | 1 | 2 | 3 | 4 | next`.
"""

import os
import sys


# What is done, the folder it fills, and seconds on two cores of an AMD EPYC of the Milan generation (AVX2), nothing
# else running.
STAGES = (
    ("Drawing SynthGym", "data/synthgym", 155),
    ("Training SlowOnly", "outputs/synthgym/slowonly", 638),
    ("Computing its features and training the vision encoder on them", "outputs/synthgym/vision_encoder", 285),
    ("Training the video-text cross encoder on the same features", "outputs/synthgym/video_text", 174),
)
MEASURED_CORES = 2
BEST = STAGES[-1][1]
NEXT = (
    (
        f"finegym evaluate {STAGES[1][1]} {BEST} --root data/synthgym --output results",
        "both side by side, as one HTML report",
    ),
    (f"finegym predict VIDEO.mp4 --model {BEST}", "the classes of a video of yours"),
    (f"python push_to_hub.py {BEST} OWNER/NAME --dry-run", "what would be published"),
)


def estimate(seconds: float, num_cores: int, *, scales: bool) -> str:
    """Return the minutes that a stage takes. Drawing `scales` with all cores, training small networks with at most
    two."""
    factor = MEASURED_CORES / num_cores if scales or num_cores < MEASURED_CORES else 1.0
    return f"about {max(1, round(seconds * factor / 60))} min"


def plan(num_cores: int) -> str:
    """Return the four stages and their estimated times on this many cores."""
    lines = [
        f"make train has four stages. The times are estimates for {num_cores} core(s), from a run on {MEASURED_CORES} "
        "cores of an AMD EPYC; if it is stopped, the same command resumes."
    ]
    for number, (title, folder, seconds) in enumerate(STAGES):
        time = estimate(seconds, num_cores, scales=number == 0)
        lines.append(f"  {number + 1}/{len(STAGES)}  {time:<13}{title} -> {folder}")
    return "\n".join(lines)


def next_steps() -> str:
    """Return where the checkpoints are, and three commands to type."""
    lines = ["The checkpoints:", *(f"  {folder}" for _, folder, _ in STAGES[1:])]
    width = max(len(command) for command, _ in NEXT)
    lines += ["Next, after `source .venv/bin/activate`:"]
    return "\n".join(lines + [f"  {command:<{width}}  # {purpose}" for command, purpose in NEXT])


def main(what: str) -> None:
    if what == "plan":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        text = plan(cores)
    elif what == "next":
        text = next_steps()
    else:
        title, folder, _ = STAGES[int(what) - 1]
        text = f"\n{what}/{len(STAGES)}  {title} -> {folder}"
    sys.stdout.write(text + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
