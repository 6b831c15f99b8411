"""`finegym train`."""

import logging
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from finegym.paths import require_path_or_hub_id, shipped
from finegym.training.recipe import Recipe

from .parsing import Report


logger = logging.getLogger(__name__)


def train(recipe: Recipe, *, sweep: Path | None = None) -> Report:
    """Train one model from one recipe. The same command resumes a run that was stopped or killed.

    With `optimization.micro_batch_size`, any number of processes computes the same, as long as the batch divides among
    them; SynthGym's recipes of CNNs take one process. On four GPUs of one machine:

        accelerate launch --config_file configuration/accelerate/multi_gpu.yaml -m finegym train --config RECIPE

    On two machines, on each of them:

        torchrun --nnodes 2 --nproc_per_node 4 --rdzv_backend c10d --rdzv_endpoint FIRST_MACHINE:29500 \\
            -m finegym train --config RECIPE

    Args:
        recipe: The recipe.
        sweep: A YAML file that maps keys of the recipe to lists of values. Every combination is trained, over one
            cache of features, and one table compares the results.

    Examples:
        finegym train --config synthgym/slowonly.yaml --optimization.epochs 10
        finegym train --config synthgym/vision_encoder.yaml --sweep sweeps/layers_and_seeds.yaml
    """
    require_path_or_hub_id(recipe.data.root, "data set folder")
    if recipe.model.backbone is not None:
        require_path_or_hub_id(recipe.model.backbone, "backbone (model.backbone)")
    if sweep is None:
        recipes = [recipe]
    else:
        from finegym.training.sweep import expand

        recipes = expand(recipe, shipped(sweep))
    status = train_recipes(recipes)
    if status or not _is_main_process():
        return Report("", status)
    from finegym.evaluation.table import compare_checkpoints

    folder = Path(recipes[0].output_dir)
    return Report(compare_checkpoints(folder if sweep is None else folder.parent))


def train_recipes(recipes: Sequence[Recipe]) -> int:
    """Train recipes one after the other, and write the card of each checkpoint.

    Returns:
        0, or the exit status of a process that the signal ended which stopped a run.
    """
    show_progress()
    import transformers

    from finegym.training.loop import train

    transformers.utils.logging.disable_progress_bar()
    for recipe in recipes:
        outcome = train(recipe)
        if isinstance(outcome, signal.Signals):
            return 128 + outcome  # what a shell reports of a process that a signal ended
        if _is_main_process():
            _write_card(Path(recipe.output_dir))
    return 0


def show_progress() -> None:
    """Print what the work says, on the main process."""
    logging.basicConfig(format="%(message)s")
    logging.getLogger("finegym").setLevel(logging.INFO if _is_main_process() else logging.ERROR)


def _is_main_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _write_card(folder: Path) -> None:
    from finegym.data.files import write_text
    from finegym.hub.card import render_card
    from finegym.hub.checkpoint import Checkpoint

    # a name that the Hub would take; publishing writes the card again with the real one
    repository = f"OWNER/{re.sub(r'[^A-Za-z0-9]+', '-', folder.name).strip('-')}"
    try:
        card = f"{render_card(Checkpoint.read(folder), repository)}\n"
    except ValueError as error:  # the checkpoint is good all the same
        logger.warning(f"No card was written. {error}")
        return
    path = folder / "README.md"
    if not path.exists() or path.read_text(encoding="utf-8") != card:  # a finished run is left alone
        write_text(path, card)
