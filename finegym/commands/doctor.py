"""`finegym doctor`."""

from pathlib import Path

from finegym.data.arguments import Count
from finegym.paths import require_path_or_hub_id, shipped

from .parsing import Report


def doctor(
    *,
    recipe: Path | None = None,
    annotations: Path = Path("data/finegym"),
    backbone: str | None = None,
    clip_len: Count | None = None,
) -> Report:
    """Check versions, decoder, GPU, disk, data and a recipe, or a backbone, and say how to fix them.

    Every line begins with "ok" or "--"; the command that fixes it follows. The exit status is 1 if anything is to be
    fixed.

    Args:
        recipe: The recipe whose data and backbone to check: a file, or a shipped one such as synthgym/slowonly.yaml.
        annotations: The folder in which FineGym's annotation files should be.
        backbone: The checkpoint folder or Hub id of a model to take features from. Only this model is then examined:
            its tokens, whether they are in the order known of it, and the space that features and training take.
        clip_len: The number of frames of its clip. By default, it is the model's, or 8 for a model of single images.

    Examples:
        finegym doctor --recipe synthgym/vision_encoder.yaml
        finegym doctor --backbone outputs/synthgym/slowonly
    """
    recipe = None if recipe is None else shipped(recipe)
    if backbone is not None:
        require_path_or_hub_id(backbone, "checkpoint folder")
    from .examination import examine, examine_backbone, render

    findings = examine(recipe, annotations) if backbone is None else examine_backbone(backbone, clip_len)
    return Report(render(findings), status=int(any(not finding.good for finding in findings)))
