"""`finegym explain`."""

import importlib.util
import json
from pathlib import Path

from finegym.data.arguments import UsageError
from finegym.data.files import expand_names, write_text
from finegym.data.text import safe_text
from finegym.paths import require_path_or_hub_id


def explain(
    video: str,
    *,
    model: str,
    output: Path,
    revision: str | None = None,
    contrast: str | None = None,
    start: float | None = None,
    end: float | None = None,
    device: str | None = None,
) -> str:
    """Draw what a model's answer rests on: which moments, attributes and places.

    One picture shows the frames of the clip in the middle of the video and, below them, what several methods say of
    every moment: attention, its rollout, input gradients, integrated gradients and occlusion for the encoders, with a
    row for each attribute of the class where the model reads or answers attributes (the cross encoder, TQN); Grad-CAM,
    input gradients and occlusion for the CNNs. The method that can be trusted most comes first; the output says how
    far, by what was measured on SynthGym, whose renderer knows when each attribute happens. The numbers are written
    beside the picture as JSON, and the picture as PDF as well.
    It needs the `explain` extra: pip install 'finegym[explain]'.

    Args:
        video: The file, or an https address.
        model: The checkpoint folder or Hub id.
        output: The picture to write, which ends in .png.
        revision: The commit, tag or branch of a Hub id.
        contrast: Explain why the answer is not this class, given by its name, a part of it, or its id.
        start: The second of the video to begin at.
        end: The second of the video to end at.
        device: The device to compute on, such as cpu or cuda:1. By default, it is the CPU.

    Examples:
        finegym explain clip.mp4 --model outputs/synthgym/video_text --output why.png
        finegym explain clip.mp4 --model outputs/synthgym/slowonly --output why.png --contrast "1 turn on one leg"
    """
    if output.suffix.lower() != ".png":
        raise UsageError(f"--output must end in .png, not {output.name}.")
    names = expand_names([video])
    if len(names) > 1:
        raise UsageError(f"{video} holds {len(names)} videos; explain one at a time.")
    require_path_or_hub_id(model, "checkpoint folder")
    if importlib.util.find_spec("captum") is None:
        raise ImportError("Explanations need Captum: run `pip install 'captum>=0.9'`.")
    from finegym.evaluation.explain import explain
    from finegym.evaluation.explanation_figure import draw_explanation

    options = {"revision": revision, "contrast": contrast, "start": start, "end": end, "device": device}
    explanation = explain(names[0], model=model, **options)
    draw_explanation(output, explanation)
    numbers = explanation.to_dict()
    write_text(output.with_suffix(".json"), json.dumps(numbers, indent=2, ensure_ascii=False) + "\n")
    lines = [f"{safe_text(names[0], one_line=True)}  {numbers['scores'][0]['score']:6.4f}  {numbers['class']}"]
    if numbers["contrast"]:
        lines.append(f"against {numbers['contrast']}")
    first = f"Look at {numbers['trusted_method']} first. " if numbers["trusted_method"] else ""
    lines.append(first + numbers["trust"])
    lines.append(f"Written to {output}, {output.with_suffix('.pdf').name} and {output.with_suffix('.json').name}.")
    return "\n".join(lines)
