"""`finegym doctor`."""

from pathlib import Path

from finegym.paths import shipped

from .parsing import Report


def doctor(*, recipe: Path | None = None, annotations: Path = Path("data/finegym")) -> Report:
    """Check versions, decoder, GPU, disk, data and a recipe, and say how to fix them.

    Every line begins with "ok" or "--"; the command that fixes it follows. The exit status is 1 if anything is to be
    fixed.

    Args:
        recipe: The recipe whose data and backbone to check: a file, or a shipped one such as synthgym/slowonly.yaml.
        annotations: The folder in which FineGym's annotation files should be.

    Examples:
        finegym doctor --recipe synthgym/vision_encoder.yaml
    """
    recipe = None if recipe is None else shipped(recipe)
    from .examination import examine, render

    findings = examine(recipe, annotations)
    return Report(render(findings), status=int(any(not finding.good for finding in findings)))
