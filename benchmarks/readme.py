"""Write the tables of README and docs from `benchmarks/results/*.json`: `python -m benchmarks.readme`.

A table is between `<!-- table: NAME -->` and `<!-- end -->`; a test holds these pages to what this module writes. It
also writes `finegym/evaluation/trust.json`, from which explanations say how far they can be trusted.
"""

import argparse
import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

from finegym.evaluation import trust


ROOT = Path(__file__).resolve().parent.parent
STUDIES = ("any_backbone", "encoders_study", "explanations")
PAGES = (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in STUDIES))
RESULTS = ROOT / "benchmarks" / "results"
TABLE = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)

MODELS = {
    "slowonly": "SlowOnly",
    "linear_control": "linear refit on its mean features",
    "pyramid_control": "linear refit on mean and three parts (control)",
    "grid_control": "linear refit on mean, three parts and four quarters",
    "vision_encoder_b1": "3D vision encoder, B = 1",
    "vision_encoder_b3": "3D vision encoder, B = 3",
    "video_text": "video-text cross encoder",
}


def figures(name: str) -> dict[str, float]:
    """Return the figures of one benchmark; empty if it has not been run."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text())["figures"] if path.exists() else {}


def _gain(values: dict[str, float], name: str) -> str:
    """Return a gain with its interval; of a model over itself there is none."""
    low, high = (values[f"{name}_{bound}"] for bound in ("low", "high"))
    return "–" if (low, high) == (0.0, 0.0) else f"{values[name]:+.2f} ({low:+.2f} to {high:+.2f})"


def synthgym() -> list[list[str]]:
    values = figures("synthgym")
    rows = [
        ["model", "top-1", "mean class accuracy", "gain over control (95 % interval)", "order split", "right order"]
    ]
    for key, name in MODELS.items():
        if f"{key}.mean_class_accuracy" not in values:
            continue
        rows.append(
            [
                name,
                f"{values[f'{key}.top1']:.1f}",
                f"{values[f'{key}.mean_class_accuracy']:.1f} ± {values[f'{key}.std']:.1f}",
                _gain(values, f"{key}.gain_over_control"),
                f"{values[f'{key}.order_accuracy']:.1f}",
                f"{values[f'{key}.right_order_accuracy']:.1f}",
            ]
        )
    for key in ("vision_encoder_b3", "video_text"):
        names = [f"{key}.{figure}_without_positions" for figure in ("order_accuracy", "right_order_accuracy")]
        if names[0] in values:
            rows.append([f"{MODELS[key]}, without positions", "", "", "", *(f"{values[name]:.1f}" for name in names)])
    return rows


# What the study says of a backbone that learns; it is named there by what differs from the shipped recipe.
LEARNING = "learning."
TITLES = {
    "as shipped": "as shipped: mixup 0.3, 40 epochs",
    "slowonly": "SlowOnly, 12 epochs",
    "linear_control": "linear refit on the mean",
    "pyramid_control": "linear refit on mean and parts",
    "vision_encoder_b1": "vision encoder, B = 1",
    "video_text": "cross encoder",
}


def study(*, is_learning: bool = False) -> list[list[str]]:
    """Return a row for each variant of the encoders' study, or for what it trained together with the backbone."""
    values = figures("encoders_study")
    names = [key.removesuffix(".top1") for key in values if key.endswith(".top1")]
    header = ["variant", "top-1", "gain over the base recipe", "gain over the better control (95 % interval)"]
    rows = [header]
    for name in (name for name in names if name.startswith(LEARNING) == is_learning):
        title = name.removeprefix(LEARNING)
        gain = "–" if title == "base" else f"{values[f'{name}.over_base']:+.2f}"
        for key, text in TITLES.items():
            title = title.replace(key, text)
        rows.append([title, f"{values[f'{name}.top1']:.1f}", gain, _gain(values, f"{name}.over_control")])
    return rows


def learning() -> list[list[str]]:
    return study(is_learning=True)


# Folder of a checkpoint -> the type of the model, and the title of the type.
TYPES = {
    "slowonly": "slowonly",
    "vision_encoder_b1": "finegym_vision",
    "vision_encoder_b3": "finegym_vision",
    "video_text": "finegym_video_text",
}
TYPE_TITLES = {
    "slowonly": "SlowOnly",
    "finegym_vision": "3D vision encoder",
    "finegym_video_text": "video-text cross encoder",
}


def trust_figures() -> dict[str, dict[str, trust.Figures]]:
    """Return model type -> method -> measure -> a figure for each measured model, for `trust.json`."""
    path = RESULTS / "explanations.json"
    runs = json.loads(path.read_text())["runs"] if path.exists() else []
    found: dict[str, dict[str, trust.Figures]] = {}
    for kind in TYPE_TITLES:
        of_kind = [run["methods"] for run in runs if TYPES[run["model"]] == kind]
        methods = [method for method in of_kind[0] if all(method in run for run in of_kind)] if of_kind else []
        for method in methods:
            measures = {measure: [round(run[method][measure], 4) for run in of_kind] for measure in of_kind[0][method]}
            found.setdefault(kind, {})[method] = measures
    return found


def trust_text() -> str:
    return json.dumps(trust_figures(), indent=1) + "\n"


MEASURES = {
    "attribute.pointing": "attribute: pointing",
    "attribute.average_precision": "average precision",
    "movement.pointing": "movement: pointing",
    "movement.average_precision": "average precision",
    "deletion": "deletion",
    "insertion": "insertion",
}


def explanations() -> list[list[str]]:
    """Return a row for each method of each model type."""
    rows = [["model", "method", *MEASURES.values()]]
    for kind, methods in trust_figures().items():
        first = trust.judge(methods).method
        for method, figures in methods.items():
            values = [f"{statistics.fmean(figures[name]):.2f}" if name in figures else "" for name in MEASURES]
            rows.append([TYPE_TITLES[kind], f"**{method}**" if method == first else method, *values])
    return rows


def trusted() -> list[list[str]]:
    """Return what can be trusted, for each model type."""
    rows = [["model", "the method to look at first", "what the numbers say"]]
    for kind, methods in trust_figures().items():
        found = trust.judge(methods)
        rows.append([TYPE_TITLES[kind], found.method, found.sentence])
    return rows


def grid() -> list[list[str]]:
    """Return a row for each encoder that reads the mean over space or a grid, beside the linear controls."""
    values = figures("grid")
    rows = [["model", "top-1", "gain over mean pooling (95 % interval)", "gain over the better control"]]
    for name in (key.removesuffix(".top1") for key in values if key.endswith(".top1")):
        gains = [_gain(values, f"{name}.{other}") for other in ("over_mean", "over_control")]
        rows.append([MODELS.get(name, name), f"{values[f'{name}.top1']:.1f}", *gains])
    return rows


COSTS = {
    "cache_ratio": "cache of a 2 x 2 grid, against the mean's",
    "paper.epoch_ratio": "epoch of the paper's encoder (B = 3) on it",
    "own.epoch_ratio": "epoch of the encoder of `configuration/own/frozen.yaml` on it",
}


def costs() -> list[list[str]]:
    values = figures("grid")
    rows = [[text, _format(values[key], "x")] for key, text in COSTS.items() if key in values]
    return [["what", "times the mean's"], *rows]


def lora() -> list[list[str]]:
    """Return a row for each type of backbone."""
    values = figures("grid")
    rows = [["backbone", "weights", "of which LoRA of rank 8 learns"]]
    for name in (key.split(".")[1] for key in values if key.startswith("lora.") and key.endswith(".share")):
        share = f"{100 * values[f'lora.{name}.share']:.2f} %"
        rows.append([f"`{name}`", f"{values[f'lora.{name}.num_weights'] / 1e6:.0f} million", share])
    return rows


# The systems of the paper's table 3, by the names of `benchmarks.table3`.
SYSTEMS = {
    "tsn": "TSN",
    "trn": "TRN, multi-scale",
    "tsm": "TSM",
    "i3d": "I3D",
    "nl_i3d": "NL-I3D",
    "vision_encoder": "3D vision encoder, B = 3",
    "video_text": "video-text cross encoder",
    "mtn": "MTN",
    "tqn": "TQN",
}
STREAMS = {"rgb": "frames alone", "flow": "flow alone"}


def table3() -> list[list[str]]:
    """Return a row for each system, by mean class accuracy, and for each stream of those that have two."""
    values = figures("table3")
    titles = dict(SYSTEMS)
    for key in (key.removesuffix(".top1") for key in values if key.endswith(".top1")):
        if key not in SYSTEMS:
            titles[key] = f"{SYSTEMS[key.split('_')[0]]}, {STREAMS[key.rpartition('_')[2]]}"
    header = ["system", "top-1", "mean class accuracy", "order split", "parameters", "GFLOPs per video"]
    rows = [[*header, "Gym99 as published: top-1 / mean"]]
    shown = [key for key in titles if f"{key}.top1" in values]
    for key in sorted(shown, key=lambda key: -values[f"{key}.mean_class_accuracy"]):
        published = [values.get(f"{key}.published_gym99_{name}") for name in ("top1", "mean_class_accuracy")]
        accuracies = [f"{values[f'{key}.{name}']:.1f}" for name in ("top1", "mean_class_accuracy", "order_accuracy")]
        costs = [f"{values[f'{key}.num_parameters'] / 1e6:.2f} M", f"{values[f'{key}.gflops_per_video']:.2f}"]
        rows.append(
            [titles[key], *accuracies, *costs, "" if None in published else "{:.1f} / {:.1f}".format(*published)]
        )
    return rows


def ranks() -> list[list[str]]:
    values = figures("table3")
    rows = [["systems ordered by", "Spearman's rank correlation with Gym99 (95 % interval)"]]
    for key, text in (("rank_correlation", "mean class accuracy"), ("rank_correlation_of_top1", "top-1")):
        if key in values:
            rows.append([text, f"{values[key]:.2f} ({values[f'{key}_low']:.2f} to {values[f'{key}_high']:.2f})"])
    return rows


MEASURED = {
    "first_run": [
        ("minutes of `make train` after set-up, on two cores", "train_minutes_after", "n"),
        ("the same, against the first version, both in one run", "train_ratio", "x"),
    ],
    "slowonly": [
        ("SlowOnly forward, fp32, against pytorchvideo", "fp32_speedup_over_pytorchvideo", "x"),
        ("share of the machine's measured fp32 convolution peak", "fp32_share_of_peak", "%"),
        ("SlowOnly forward, bf16, against pytorchvideo fp32", "bf16_speedup_over_pytorchvideo", "x"),
        ("training step, fp32, against pytorchvideo", "training_step_speedup_over_pytorchvideo", "x"),
        ("peak memory of the forward, against pytorchvideo", "peak_memory_over_pytorchvideo", "x"),
    ],
    "table3": [
        (
            "forward of the nine systems' networks, against the fastest other code: the slowest",
            "slowest_forward_ratio",
            "x",
        ),
        ("SlowOnly forward, the first version's time against this one's", "slowonly_ratio_before_after", "x"),
    ],
    "throughput": [
        (
            "bf16 weights on a processor without bf16 arithmetic, against fp32",
            "bf16_over_fp32.slowonly.cpu_seconds",
            "x",
        ),
        (
            "`from_pretrained` of SlowOnly, against a VideoMAE of as many parameters",
            "loading.over_videomae.cpu_seconds",
            "x",
        ),
    ],
    "decode": [
        ("video file to augmented tensor, against the fastest other decoder", "speed_over_fastest_peer", "x"),
        ("the same, against pytorchvideo's EncodedVideo", "speed_over_pytorchvideo", "x"),
    ],
    "any_video": [
        ("video files of all kinds, compared frame by frame with FFmpeg's decoding", "files", "n"),
        ("frames in them that differ, through single, sparse and sequential reads", "wrong_frames", "n"),
        (
            "largest loss of top-1 at 12.5, 25, 30, 50, 60 and varying frames per second",
            "largest_frame_rate_drop",
            "points",
        ),
        ("the same in other forms: XviD with packed B-frames, turned, ten bits", "largest_form_drop", "points"),
    ],
    "features": [
        (
            "epoch of the vision encoder on cached features, against our backbone online",
            "vision_epoch_speedup_over_online",
            "x",
        ),
        ("the same, against a pytorchvideo backbone", "vision_epoch_speedup_over_pytorchvideo", "x"),
        (
            "epoch of the cross encoder on cached features, against our backbone online",
            "video_text_epoch_speedup_over_online",
            "x",
        ),
        ("the same, against a pytorchvideo backbone", "video_text_epoch_speedup_over_pytorchvideo", "x"),
        ("eight-clip protocol on FineGym's video lengths, share of the naive loop's cost", "protocol_cost", "x"),
        ("largest difference of its scores", "protocol_max_score_difference", ""),
        ("share of training time waiting for the cache", "data_wait_share", "%"),
    ],
    "flow": [
        ("pairs of 256 x 340 frames per second of one core's time, flow by DIS alone", "dis.pairs_per_second", "n"),
        ("the same, from a video file to written flow", "file.pairs_per_second", "n"),
    ],
    "resume": [
        ("runs killed with `kill -9` at random moments", "kills", "n"),
        ("of these, resumed runs with the undisturbed run's weights, bit for bit", "equal_hashes", "n"),
    ],
}


def measured() -> list[list[str]]:
    rows = [["measured", "number", "file"]]
    for name, entries in MEASURED.items():
        values = figures(name)
        rows += [[text, _format(values[key], unit), f"`{name}.json`"] for text, key, unit in entries if key in values]
    return rows


def _format(value: float, unit: str) -> str:
    if unit == "x":
        return f"{value:.2f}x" if value < 10 else f"{value:.0f}x"
    if unit == "%":
        return f"{100 * value:.1f} %"
    if unit == "points":
        return f"{value:.1f} points"
    return f"{value:.0f}" if unit == "n" else f"{value:.1e}"


def render(rows: list[list[str]]) -> str:
    header, *body = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([header, "|" + " --- |" * len(rows[0]), *body]) + "\n"


def rewrite(text: str) -> str:
    """Return a page's text with every table generated again."""
    tables = {"synthgym": synthgym, "measured": measured, "study": study, "learning": learning}
    tables |= {"explanations": explanations, "trusted": trusted}
    tables |= {"grid": grid, "costs": costs, "lora": lora, "table3": table3, "ranks": ranks}
    return TABLE.sub(lambda match: match[1] + render(tables[match[2]]()) + match[3], text)


def main(arguments: Sequence[str] | None = None) -> None:
    argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__).parse_args(arguments)
    for page in PAGES:
        page.write_text(rewrite(page.read_text()))
    trust.MEASURED.write_text(trust_text())


if __name__ == "__main__":
    main()
