"""`finegym flow`."""

from pathlib import Path
from typing import Literal

from finegym.data.arguments import Count, CountOrZero


def flow(
    root: Path,
    *,
    output: Path | None = None,
    method: Literal["dis", "tvl1"] = "dis",
    short_side: Count = 256,
    num_workers: CountOrZero | None = None,
) -> str:
    """Compute the optical flow of a prepared data set, for models that see motion in place of pictures.

    It writes a second prepared folder with the same videos, splits and classes, which `data.root` of a recipe with
    `data.flow_len` names. A run that was stopped, at any moment and in any way, is resumed by the same command.

    Args:
        root: The prepared data set folder.
        output: The folder to write. By default, its name is that of `root`, followed by _flow.
        method: How motion is found. dis is fast; tvl1 is what FineGym's and mmaction2's flow is made with, and takes
            many times as long.
        short_side: The length of the shorter side of the frames, in pixels. Smaller ones are not enlarged.
        num_workers: The number of processes. By default, there is one for each CPU core; 0 works in this one.

    Examples:
        finegym flow data/gym99
        finegym flow data/gym99 --method tvl1 --output data/gym99_tvl1
    """
    if not root.is_dir():
        raise FileNotFoundError(f"There is no folder {root}.")
    output = root.absolute().with_name(f"{root.absolute().name}_flow") if output is None else output
    if output.resolve() == root.resolve():
        raise ValueError(f"The output folder is the data set itself, {root}: choose another.")
    from finegym.preparation.flow import FlowSettings, compute_flow

    return compute_flow(root, output, FlowSettings(method, short_side), num_workers)
