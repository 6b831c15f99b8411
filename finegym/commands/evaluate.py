"""`finegym evaluate`."""

from pathlib import Path
from typing import Literal

from finegym.data.arguments import Count, CountOrZero
from finegym.paths import require_path_or_hub_id


def evaluate(
    *,
    model: str,
    root: Path,
    split: Literal["train", "val"] = "val",
    num_clips: Count = 8,
    batch_size: Count = 8,
    num_workers: CountOrZero = 0,
    precision: Literal["fp32", "bf16"] = "fp32",
    features: Path | None = None,
    leave_out_leaking: bool = False,
    output: Path | None = None,
) -> str:
    """Measure a checkpoint by the paper's eight-clip protocol.

    It writes metrics.json, the scores of every video, a confusion matrix and a calibration curve.
    `accelerate launch -m finegym evaluate ...` shares the videos among any number of GPUs and machines.

    Args:
        model: The checkpoint folder or Hub id.
        root: The prepared data set folder.
        split: The split of its index.
        num_clips: The number of clips spread over each video. Equal ones are computed once. The paper takes 8.
        batch_size: The number of clips in a forward pass.
        num_workers: The number of processes that decode ahead.
        precision: The number format of weights and activations.
        features: The folder to keep the backbone's features in, so that another head on it costs next to nothing.
        leave_out_leaking: Leave out videos that the model was trained on, rather than refuse.
        output: The folder to write to. By default it is the checkpoint's own, or the name of a model of the Hub.

    Examples:
        finegym evaluate --model outputs/synthgym/video_text --root data/synthgym
    """
    require_path_or_hub_id(model, "checkpoint folder")
    if not root.is_dir():
        raise FileNotFoundError(f"There is no data set folder {root}.")
    from finegym.evaluation.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(
        model=model,
        root=root,
        split=split,
        num_clips=num_clips,
        batch_size=batch_size,
        num_workers=num_workers,
        precision=precision,
        features=features,
        leave_out_leaking=leave_out_leaking,
        output=output,
    )
