"""`finegym evaluate`."""

from pathlib import Path
from typing import Literal

from finegym.data.arguments import Count, CountOrZero
from finegym.paths import require_path_or_hub_id


def evaluate(
    models: list[str],
    *,
    root: Path,
    split: Literal["train", "val", "test"] = "val",
    fold: CountOrZero | None = None,
    num_clips: Count = 8,
    batch_size: Count = 8,
    num_workers: CountOrZero = 0,
    precision: Literal["fp32", "bf16"] = "fp32",
    features: Path | None = None,
    leave_out_leaking: bool = False,
    output: Path | None = None,
) -> str:
    """Measure checkpoints by the paper's eight-clip protocol and report what they confuse.

    It writes metrics.json, the scores of every video and still pictures for each model, and report.html, one page
    about all of them that opens from disk: charts to hover over, the worst confusions, the most confident mistakes
    and, for several models, their comparison with the first.
    `accelerate launch -m finegym evaluate ...` shares the videos among any number of GPUs and machines.

    Args:
        models: The checkpoint folders or Hub ids.
        root: The prepared data set folder.
        split: The split to evaluate on. Results on any other than val go into a folder of its name.
        fold: The fold to evaluate on as val, for a data set with folds. By default, it is the one that the checkpoint
            was not trained on.
        num_clips: The number of clips spread over each video. Equal ones are computed once. The paper takes 8.
        batch_size: The number of clips in a forward pass.
        num_workers: The number of processes that decode ahead.
        precision: The number format of weights and activations. A CPU without arithmetic for bf16 computes in fp32.
        features: The folder to keep the backbone's features in, so that another head on it costs next to nothing.
        leave_out_leaking: Leave out videos that a model was trained on, rather than refuse.
        output: The folder to write to, with one for each of several models. By default, each model's results go to its
            own folder, or to the name of a model of the Hub, and the report to that of the first.

    Examples:
        finegym evaluate outputs/synthgym/video_text --root data/synthgym
        finegym evaluate outputs/synthgym/slowonly outputs/synthgym/video_text --root data/synthgym --output results
    """
    for model in models:
        require_path_or_hub_id(model, "checkpoint folder")
    if not root.is_dir():
        raise FileNotFoundError(f"There is no data set folder {root}.")
    from finegym.evaluation.evaluate import Protocol, evaluate_checkpoints

    protocol = Protocol(root, split, fold, num_clips, batch_size, num_workers, precision, features, leave_out_leaking)
    return evaluate_checkpoints(models, protocol, output=output)
