"""The other systems of the paper's table 3, each from its recipe to its scores."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForVideoClassification, AutoVideoProcessor, pipeline

from finegym.data.index import read_index
from finegym.evaluation.demo_views import reasons
from finegym.evaluation.explain import explain, load_clip
from finegym.evaluation.explanation_figure import draw_explanation
from finegym.evaluation.fuse import fuse_runs
from finegym.hub.card import render_card
from finegym.hub.checkpoint import Checkpoint
from finegym.preparation.flow import FlowSettings, compute_flow
from finegym.training.build import build_model, read_labels, with_normalization
from finegym.training.loop import train
from finegym.training.recipe_parsing import parse_recipe
from tests.training.tiny import write_recipe


S3D = {"model": {"architecture": "s3d", "config": {"width_multiplier": 0.0625, "depths": [1, 1, 1]}}}
CLIPS = {"data__clip_len": 8, "data__frame_interval": 1}
TSN = {
    "model": {"architecture": "bn_inception", "config": {"width_multiplier": 0.0625, "depths": [1, 1, 1]}},
}
SEGMENTS = {"data__clip_len": 3, "data__sampling": "segments", "data__num_clips": 1}
SLOWONLY = {
    "model": {"architecture": "slowonly", "config": {"stem_width": 8, "hidden_sizes": [16, 32], "depths": [1, 1]}}
}
SLOWONLY["model"]["config"]["temporal_kernel_sizes"] = [1, 3]
PATHWAYS = {"pathway_intervals": [4, 2, 1]}
# name -> the backbone, and what its recipe says
PEERS = {
    "s3d": (None, S3D | CLIPS),
    "bn_inception": (None, TSN | SEGMENTS),
    "trn": ("bn_inception", {"model": {"architecture": "trn", "config": {"hidden_size": 8}}} | SEGMENTS),
    "tqn": (
        "s3d",
        {
            "model": {"architecture": "tqn", "config": {"num_hidden_layers": 1, "intermediate_size": 16}},
            **CLIPS,
            "data__clip_len": 16,
            "data__out_of_range": "repeat_last",
        },
    ),
    "slowonly": (None, SLOWONLY),
    "mtn_pathways": (
        "slowonly",
        {
            "model": {
                "architecture": "mtn",
                "config": {"integrate_levels": False, "freeze_backbone": False, **PATHWAYS},
            },
        },
    ),
    "mtn": (
        "mtn_pathways",
        {
            "model": {"architecture": "mtn", "config": {"integration_size": 8, **PATHWAYS}},
            "features__mode": "cached",
            "features__views": 2,
        },
    ),
    "tsn_flow": ("bn_inception", TSN | SEGMENTS | {"data__flow_len": 3}),
}


@pytest.fixture(scope="module")
def root_of(root, tmp_path_factory):
    """Return a function that gives the data set of a peer: the tiny one, or its optical flow."""
    flow = tmp_path_factory.mktemp("flow")
    compute_flow(root, flow, FlowSettings(), num_workers=0)
    return lambda name: flow if name.endswith("_flow") else root


@pytest.fixture(scope="module")
def trained(root_of, tmp_path_factory):
    """Return a function that trains a peer, and its backbone before it, once."""
    folder = tmp_path_factory.mktemp("peers")

    def run(name: str) -> Path:
        backbone, changes = PEERS[name]
        if not (folder / name).exists():
            model = changes["model"] | ({} if backbone is None else {"backbone": str(run(backbone))})
            changes = changes | {"model": model, "optimization__epochs": 1, "optimization__learning_rate": 0.01}
            folders = {"root": root_of(name), "output_dir": folder / name}
            path = write_recipe(folder / f"{name}.yaml", "slowonly", **folders, **changes)
            train(parse_recipe(["--config", str(path)]))
        return folder / name

    return run


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_trained_evaluated_and_used(name, trained, root_of):
    folder = trained(name)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["num_evaluated"] == metrics["num_expected"] == 8
    classify = pipeline("video-classification", model=str(folder), trust_remote_code=True, device="cpu")
    video = str(read_index(root_of(name), "val")[0].path)
    result = classify(video, return_clip_scores=True)
    assert len(result["scores"]) == 4 and sum(clip["weight"] for clip in result["clips"]) == pytest.approx(1)
    if not name.endswith("_flow"):
        _check_explanation(folder, video, result["scores"])
    card = str(render_card(Checkpoint.read(folder), "someone/peer"))
    assert Checkpoint.read(folder).model_name in card and ("groups were answered rightly" in card) == (name == "tqn")


def _check_explanation(folder: Path, video: str, scores: list[dict]) -> None:
    """Explain the answer for the middle of a video, and draw it on a sheet and on the page."""
    explanation = explain(video, model=str(folder), contrast=scores[-1]["label"])
    numbers = explanation.to_dict()
    attribution, num_moments = explanation.attribution, explanation.num_moments
    assert numbers["contrast"] == scores[-1]["label"] != numbers["class"] and "occlusion" in attribution.over_time
    assert len(numbers["moment_times"]) == num_moments and len(set(numbers["moment_times"])) == num_moments
    assert all(values.isfinite().all() and values.any() for values in attribution.over_time.values())
    picture = folder.with_name(f"{folder.name}_why.png")
    draw_explanation(picture, explanation)
    assert picture.stat().st_size > 10_000
    shown = reasons([explanation], ["a peer"])
    assert shown.count('data-time="') == num_moments * len(attribution.over_time)


def test_attribute_answers_are_measured_and_shown(trained, root):
    """In the tiny data set every class has one attribute, and every attribute is a group of its own."""
    folder = trained("tqn")
    metrics = json.loads((folder / "metrics.json").read_text())
    model = AutoModelForVideoClassification.from_pretrained(folder).eval()
    processor = AutoVideoProcessor.from_pretrained(folder)
    classify = pipeline("video-classification", model=str(folder), trust_remote_code=True, device="cpu")
    num_right, num_matched, videos = 0, 0, read_index(root, "val")
    for video in videos:
        clip = processor.load_clips(video.path).pixel_values[:1]
        with torch.no_grad():
            answers = model(clip).attribute_logits[0].softmax(-1)
        has = torch.eye(4, dtype=torch.long) * torch.arange(1, 5)  # class by group
        num_right += (answers.argmax(-1) == has[video.label]).sum().item()
        likelihood = [math.prod(answers[group, has[label, group]].item() for group in range(4)) for label in range(4)]
        num_matched += likelihood.index(max(likelihood)) == video.label
        shown = classify(str(video.path), attributes=True)["attributes"]
        names = ["", "right", "left", "down", "up"]
        assert [row["label"] for row in shown] == [names[id] for id in answers.argmax(-1).tolist() if id]
    assert metrics["attribute_accuracy"] == pytest.approx(100 * num_right / (4 * len(videos)))
    assert metrics["match_top1"] == pytest.approx(100 * num_matched / len(videos))
    assert model.attribute_classifier.bias.abs().min() > 0  # it starts at zero: the loss of the attributes is learned
    s3d = pipeline("video-classification", model=str(trained("s3d")), trust_remote_code=True, device="cpu")
    with pytest.raises(ValueError, match="answers no attributes"):
        s3d(str(videos[0].path), attributes=True)


def test_the_second_stage_of_mtn_has_the_pathways_of_the_first(trained):
    """The first starts each of its three networks from one SlowOnly, and they part while they learn."""
    [slowonly, first, second] = (
        AutoModelForVideoClassification.from_pretrained(trained(name)) for name in ("slowonly", "mtn_pathways", "mtn")
    )
    assert second.config.class_events == [0, 0, 1, 1] and second.config.class_sets == [0, 1, 2, 2]
    before, after = first.mtn.backbone.state_dict(), second.mtn.backbone.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    weights = [network.blocks[2].res_blocks[0].branch2.conv_b.weight for network in first.mtn.backbone]
    weights.append(slowonly.base_model.blocks[2].res_blocks[0].branch2.conv_b.weight)
    for place, one in enumerate(weights):
        for other in weights[:place]:
            assert 0 < (one - other).abs().max() < 0.5


def test_classes_without_levels_are_refused(root, tmp_path, trained):
    content = json.loads((root / "labels.json").read_text())
    content["classes"][2]["set"] = None
    (tmp_path / "labels.json").write_text(json.dumps(content))
    model = PEERS["mtn_pathways"][1]["model"] | {"backbone": str(trained("slowonly"))}
    path = write_recipe(
        tmp_path / "recipe.yaml",
        "slowonly",
        root=root,
        output_dir=tmp_path / "run",
        model=model,
        data__labels=str(tmp_path / "labels.json"),
    )
    with pytest.raises(ValueError, match="class 'down' of 'tiny' has no set"):
        train(parse_recipe(["--config", str(path)]))


def test_the_streams_of_pictures_and_of_flow_are_fused(trained, root, tmp_path):
    fuse_runs([trained("bn_inception"), trained("tsn_flow")], tmp_path / "fused", root=None)
    metrics = json.loads((tmp_path / "fused" / "metrics.json").read_text())
    assert metrics["num_evaluated"] == metrics["num_expected"] == 8
    classify = pipeline("video-classification", model=str(trained("tsn_flow")), trust_remote_code=True, device="cpu")
    with pytest.raises(ValueError, match="holds pictures. This model sees optical flow, which `finegym flow`"):
        classify(str(read_index(root, "val")[0].path))
    with pytest.raises(ValueError, match="explain the other stream"):
        load_clip(classify.video_processor, None)


def test_flow_starts_from_the_mean_over_the_colors(trained, root_of, tmp_path):
    """TSN and TRN: each of the six channels gets the mean of the weights of red, green and blue."""
    pictures = AutoModelForVideoClassification.from_pretrained(trained("bn_inception")).base_model.state_dict()
    for model in (TSN["model"], PEERS["trn"][1]["model"]):
        options = {"model": model | {"backbone": str(trained("bn_inception"))}, "data__flow_len": 3, **SEGMENTS}
        folders = {"root": root_of("tsn_flow"), "output_dir": tmp_path / "run"}
        path = write_recipe(tmp_path / "recipe.yaml", "slowonly", **folders, **options)
        recipe = with_normalization(parse_recipe(["--config", str(path)]))
        assert recipe.data.mean == (0.5, 0.5) and recipe.data.std == (0.226, 0.226)
        base = build_model(recipe, read_labels(recipe)).base_model
        flow = getattr(base, "backbone", base).state_dict()
        first = "blocks.0.conv1.conv.weight"
        assert flow[first].shape[1] == 6
        torch.testing.assert_close(flow[first], pictures[first].mean(1, keepdim=True).expand(-1, 6, -1, -1))
        assert all(torch.equal(flow[name], pictures[name]) for name in pictures if name != first)
