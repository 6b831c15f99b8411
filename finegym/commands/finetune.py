"""`finegym finetune`."""

import logging
import os
import re
from pathlib import Path

from finegym.data.arguments import UsageError
from finegym.paths import require_path_or_hub_id
from finegym.training.methods import MethodName

from .parsing import Report
from .train import show_progress, train_recipes


logger = logging.getLogger(__name__)


def finetune(
    source: str,
    *,
    backbone: str,
    method: MethodName | None = None,
    license: str = "",
    group: str | None = None,
    attributes: str | None = None,
    max_lost_share: float = 0.01,
    root: Path | None = None,
    output: Path | None = None,
    dry_run: bool = False,
) -> Report:
    """Fine-tune a video or image backbone on your own classes: from a folder of videos to an evaluated checkpoint.

    The videos are imported, recipes are chosen by their number and durations, written and trained, and one table
    compares the results with logistic regressions on the frozen backbone's features. The same command resumes.
    To change more than these options, edit the recipes that were written and run `finegym train`.

    Args:
        source: The folder, metadata file or Hub data set that `finegym import` takes, or a folder that it wrote.
        backbone: The checkpoint folder or Hub id of a video or image model.
        method: How much of the backbone learns. By default the number of training videos decides where there is a GPU:
            frozen below 500, lora from 500 on, full from 2,000 on. These two numbers are rules of thumb, not measured;
            the frozen backbone is trained as well, so that the table shows whether more is worth it.
        license: The terms of the videos, such as cc-by-4.0, without which no model card is written.
        group: A regular expression that finds in each file's path what it shares with others that belong on the same
            side of a split. By default, it is the metadata's column `group`.
        attributes: A JSON file with the attributes of each class, or the word names, as for `finegym import`.
        max_lost_share: The share of videos that may be lost.
        root: The folder to import to. By default, it is data/NAME, with the source's name.
        output: The folder of recipes, features and checkpoints. By default, it is outputs/NAME.
        dry_run: Import and write the recipes, and train nothing.

    Examples:
        finegym finetune my_videos --backbone MCG-NJU/videomae-base --license cc-by-4.0
        finegym finetune my_videos --backbone facebook/dinov2-base --method frozen --dry_run
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("finetune is one process: give --dry_run, and launch `finegym train` with what it wrote.")
    require_path_or_hub_id(source, "folder of videos")
    require_path_or_hub_id(backbone, "backbone")
    name = re.sub(r"[^\w.-]+", "-", Path(source).resolve().name if Path(source).exists() else source.split("/")[-1])
    is_imported = (Path(source) / "index.parquet").is_file()
    if is_imported and (license or group or attributes or root):
        raise UsageError(f"{source} was imported: leave out --license, --group, --attributes and --root.")
    root, output = root or Path("data", name), output or Path("outputs", name)
    import torch

    from finegym.evaluation.table import compare_checkpoints
    from finegym.preparation.cutting import Encoding
    from finegym.preparation.own_data import import_videos
    from finegym.preparation.splitting import Division
    from finegym.training.finetune import finetuning_recipes, inspect_backbone, verdict, write_recipe

    show_progress()
    inspected = inspect_backbone(backbone)
    if is_imported:
        root = Path(source)
    else:
        report = import_videos(
            source,
            root,
            license=license,
            attributes=attributes,
            division=Division(group),
            encoding=Encoding(max(256, inspected.short_side)),
            max_lost_share=max_lost_share,
        )
        logger.info(report)
    recipes, notes = finetuning_recipes(
        root, inspected, output=output, method=method, has_gpu=torch.cuda.is_available()
    )
    paths = [output / f"{Path(recipe.output_dir).name}.yaml" for recipe in recipes]
    recipes = [write_recipe(path, recipe, notes) for path, recipe in zip(paths, recipes, strict=True)]
    logger.info("\n".join([*notes, f"Written: {', '.join(map(str, paths))}"]))
    status = 0 if dry_run else train_recipes(recipes)
    if dry_run or status:
        return Report("Dry run: nothing was trained." if dry_run else "", status)
    folders = [Path(recipe.output_dir) for recipe in recipes]
    return Report("\n\n".join(filter(None, (compare_checkpoints(*folders), verdict(*folders)))))
