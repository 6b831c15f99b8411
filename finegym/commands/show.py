"""`finegym show`."""

from pathlib import Path

from finegym.data.arguments import Count, CountOrZero, UsageError


def show(
    root: Path,
    *,
    output: Path,
    split: str = "train",
    num_videos: Count = 24,
    num_frames: Count = 8,
    seed: CountOrZero = 0,
    recipe: Path | None = None,
    augmented: bool = False,
) -> str:
    """Draw a contact sheet of a data set, to check it before training.

    Videos are drawn at random, as evenly over the classes as possible, and shown with their class and attributes.

    Args:
        root: The prepared data set folder.
        output: The file to write, which ends in .html or .png.
        split: The split to draw from.
        num_videos: The number of videos on the sheet.
        num_frames: The number of frames of each video.
        seed: The seed of the draw.
        recipe: Show the clip that a model of this recipe sees, with its size and crop, in place of the whole video.
        augmented: Show the training view, with the random window, crop and flip of the first epoch.

    Examples:
        finegym show data/synthgym --output sheet.html
        finegym show data/synthgym --output sheet.png --recipe configuration/synthgym/slowonly.yaml --augmented
    """
    if augmented and recipe is None:
        raise UsageError("--augmented shows what a recipe says of augmentation: give --recipe RECIPE.")
    if not root.is_dir():
        raise FileNotFoundError(f"There is no data set folder {root}.")
    from finegym.training.contact_sheet import write_contact_sheet
    from finegym.training.recipe_parsing import parse_recipe

    strips = write_contact_sheet(
        output,
        root,
        split=split,
        num_videos=num_videos,
        num_frames=num_frames,
        seed=seed,
        recipe=None if recipe is None else parse_recipe(["--config", str(recipe)]),
        augmented=augmented,
    )
    unreadable = [f"cannot be read: {strip.video.id}: {strip.reason}" for strip in strips if strip.frames is None]
    return "\n".join([f"{output} shows {len(strips)} videos of {root}, split {split}.", *unreadable])
