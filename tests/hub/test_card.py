"""The card agrees with the checkpoint's files, and what it says about the model is true."""

import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt
from transformers import AutoModelForVideoClassification

from finegym.hub.card import PAPER_RESULTS, check_names, render_card
from finegym.hub.checkpoint import Checkpoint
from tests.hub.conftest import ATTRIBUTES, HOSTILE_NAMES, make_checkpoint


REPO = "someone/model"


def header(card: str) -> dict:
    assert card.startswith("---\n")
    return yaml.safe_load(card.split("\n---\n")[0][4:])


def html(card: str) -> str:
    body = card.partition("\n---\n")[2]
    return MarkdownIt("gfm-like", {"html": True}).render(body)


def change(folder: Path, file: str, **values) -> Checkpoint:
    content = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps({**content, **values}))
    return Checkpoint.read(folder)


def test_header_of_a_synthetic_checkpoint(checkpoint):
    card = render_card(Checkpoint.read(checkpoint), REPO)
    values = header(str(card))
    assert values["license"] == "apache-2.0"
    assert values["library_name"] == "transformers"
    assert values["pipeline_tag"] == "video-classification"
    assert "synthetic" in values["tags"] and "finegym" not in values["tags"]
    assert "base_model" not in values
    [result] = values["model-index"][0]["results"]
    assert result["dataset"]["split"] == "val"
    assert result["dataset"]["args"] == {"annotation_version": "v1.0", "num_evaluated": 30, "num_expected": 32}
    assert [(metric["name"], metric["value"]) for metric in result["metrics"]] == [
        ("top-1 accuracy (%)", 73.33),
        ("mean class accuracy (%)", 71.25),
    ]
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict()


def test_a_synthetic_checkpoint_says_so_first(checkpoint):
    text = str(render_card(Checkpoint.read(checkpoint), REPO))
    body = text.partition("\n---\n")[2].strip()
    assert body.startswith("# Video-text cross encoder on SynthGym (synthetic)\n\n> **Synthetic data.**")
    assert "94.57" not in text


def test_a_finegym_checkpoint_sets_the_papers_figures_apart(tmp_path):
    folder = make_checkpoint(tmp_path / "gym99", dataset="gym99")
    card = str(render_card(Checkpoint.read(folder), REPO))
    assert header(card)["license"] == "cc-by-nc-4.0"
    assert "creativecommons.org/licenses/by-nc/4.0" in card
    ours, papers = [line for line in card.splitlines() if re.search(r"\| \d+\.\d\d \| \d+\.\d\d \|$", line)][:2]
    assert ours.startswith(
        "| this checkpoint, measured | Gym99 val, annotation v1.0, 30 of the 32 videos (93.8 %) | 73.33"
    )
    assert papers == "| the authors' model, as printed in the paper (Table 2) | Gym99 | 94.57 | 91.43 |".replace(
        "'", "&#39;"
    )
    assert "belongs to the authors' own weights" in card
    # no figure of the paper is claimed as a result of this repository
    assert [metric["value"] for metric in header(card)["model-index"][0]["results"][0]["metrics"]] == [73.33, 71.25]
    assert "@inproceedings{shao2020finegym" in card and "title     = {{FineGym}:" in card


def test_the_papers_figures_are_the_papers():
    """Check the figures retyped from Tables 1 and 2 by the gains over SlowOnly that the text of section 4 names."""
    gain = {
        ("gym99", "finegym_vision", 3): 0.55,
        ("gym99", "finegym_video_text", 2): 1.11,
        ("gym288", "finegym_video_text", 2): 3.28,
    }
    for key, value in gain.items():
        assert PAPER_RESULTS[key][0] - PAPER_RESULTS[key[0], "slowonly", None][0] == pytest.approx(value, abs=1e-9)


def test_data_without_known_terms_cannot_be_published(checkpoint):
    read = change(checkpoint, "metrics.json", dataset="own", synthetic=False)
    card = str(render_card(read, REPO))
    assert (header(card)["license"], header(card)["license_name"]) == ("other", "test")
    (checkpoint / "labels.json").unlink()
    with pytest.raises(ValueError, match="under which terms"):
        render_card(Checkpoint.read(checkpoint), REPO)


def test_hostile_texts_are_only_shown(checkpoint):
    hostile = "x\nlicense: mit\n---\n# Boo <script>alert(1)</script> {{ card_data }} ![a](https://example.org/b.png)"
    for file in ("metrics.json", "labels.json"):
        change(checkpoint, file, dataset=hostile, name=hostile, license=hostile, split=hostile, synthetic=False)
    recipe = yaml.safe_load((checkpoint / "recipe.yaml").read_text())
    recipe["name"] = recipe["optimization"]["optimizer"] = hostile
    (checkpoint / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    card = str(render_card(Checkpoint.read(checkpoint), REPO, family={"someone/other": hostile}))
    values = header(card)
    assert (values["license"], values["license_name"], values["datasets"]) == ("other", hostile, [hostile])
    page = html(card)
    assert "<script" not in page and "<img" not in page
    links = set(re.findall('href="([^"]+)"', page))
    assert links == {"https://arxiv.org/abs/2208.01897", "recipe.yaml", "https://huggingface.co/someone/other"}
    assert len(re.findall("<h1>", page)) == 1
    # the only HTML that a card opens itself is the folded list of attributes
    assert set(re.findall("<(details|summary|b|td><b)>", page)) == {"details", "summary"}


def test_classes_and_attributes_stand_in_their_tables(checkpoint):
    page = html(str(render_card(Checkpoint.read(checkpoint), REPO)))
    cells = [cell.replace("<!---->", "") for cell in re.findall("<td>(.*?)</td>", page)]
    unescaped = [
        re.sub("&(lt|gt|quot|amp);", lambda m: {"lt": "<", "gt": ">", "quot": '"', "amp": "&"}[m[1]], c) for c in cells
    ]
    for name in HOSTILE_NAMES[:3]:  # the fourth has no video, and so no accuracy
        assert " ".join(name.split()) in unescaped
    for number, name in enumerate(ATTRIBUTES):
        place = unescaped.index(name or "(blank)")
        assert unescaped[place - 1] == str(number)
    hardest = [unescaped.index(" ".join(HOSTILE_NAMES[label].split())) for label in (1, 2, 0)]
    assert hardest == sorted(hardest), "the hardest class comes first"


def test_what_the_card_says_about_the_text_stream_is_true(checkpoint):
    model = AutoModelForVideoClassification.from_pretrained(checkpoint).eval()
    video = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = model(pixel_values=video).logits
        model.config.attribute_names = [f"renamed {number}" for number in range(len(ATTRIBUTES))]
        assert torch.equal(model(pixel_values=video).logits, before), "renaming an id changes no score"
        order = torch.randperm(len(ATTRIBUTES), generator=torch.Generator().manual_seed(1))
        assert not torch.equal(order, torch.arange(len(ATTRIBUTES)))
        moved = 0
        for name, table in model.named_parameters():
            if table.ndim == 2 and "embedding" in name and len(table) == len(ATTRIBUTES):
                table.copy_(table[order])
                moved += 1
            elif "position_embeddings" in name and len(table) == 4 + len(ATTRIBUTES):
                table[4:] = table[4:][order]
                moved += 1
        assert moved >= 3, "text, text position and cross position"
        assert torch.allclose(model(pixel_values=video).logits, before, atol=1e-6), "reordering changes no score"


@pytest.mark.parametrize("repo_id", ["model", "a/b/c", 'a/b"); import os', "a/b c", "../b", "a/.."])
def test_names_that_are_none(repo_id):
    with pytest.raises(ValueError, match="is not a repository name"):
        check_names(repo_id)


@pytest.mark.parametrize("revision", ["", "-x", 'v1"', "a b", "a//b", "v1\n", "../x"])
def test_revisions_that_are_none(checkpoint, revision):
    with pytest.raises(ValueError, match="is not the name of a branch or tag"):
        render_card(Checkpoint.read(checkpoint), REPO, revision=revision)


@pytest.mark.parametrize("file", ["config.json", "metrics.json", "recipe.yaml", "video_preprocessor_config.json"])
def test_an_unfinished_checkpoint_is_named(checkpoint, file):
    (checkpoint / file).unlink()
    with pytest.raises(FileNotFoundError, match=f"{file}( is missing|.*writes it)"):
        Checkpoint.read(checkpoint)


def test_a_missing_metric_is_named(checkpoint):
    metrics = json.loads((checkpoint / "metrics.json").read_text())
    del metrics["num_expected"]
    (checkpoint / "metrics.json").write_text(json.dumps(metrics))
    with pytest.raises(ValueError, match="lacks 'num_expected'"):
        render_card(Checkpoint.read(checkpoint), REPO)


def test_a_card_of_own_data_is_about_nobody_elses(checkpoint):
    recipe = yaml.safe_load((checkpoint / "recipe.yaml").read_text())
    (checkpoint / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"name": "synthgym-video-text"}))
    change(checkpoint, "labels.json", name="synthgym of mine", license="CC-BY-4.0")
    read = change(checkpoint, "metrics.json", dataset="synthgym of mine", synthetic=False, annotation_version="own")
    card = str(render_card(read, REPO))
    values = header(card)
    assert values["license"] == "cc-by-4.0" and "license_name" not in values
    assert not {"gymnastics", "finegym", "synthetic"} & set(values["tags"])
    assert "synthgym-video-text" not in card and "example.mp4" not in card and "drawn by a program" not in card
    assert 'print(classify("clip.mp4", top_k=3))' in card and "hf_hub_download" not in card
    (checkpoint / "example.mp4").write_bytes(b"a video of the user's")
    assert 'hf_hub_download("someone/model", "example.mp4")' in str(render_card(read, REPO))


@pytest.mark.parametrize("name", ["gym99", "synthgym"])
def test_own_data_by_a_famous_name_is_own_data(checkpoint, name):
    """The maker of a data set states what it is; its name never decides."""
    change(checkpoint, "labels.json", license="mine alone")
    metrics = json.loads((checkpoint / "metrics.json").read_text())
    del metrics["synthetic"]
    (checkpoint / "metrics.json").write_text(json.dumps(metrics | {"dataset": name, "annotation_version": "own"}))
    values = header(str(render_card(Checkpoint.read(checkpoint), REPO)))
    assert (values["license"], values["license_name"]) == ("other", "mine alone")
    assert not {"gymnastics", "finegym", "synthetic"} & set(values["tags"])
