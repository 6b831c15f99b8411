"""Publish all finished checkpoints of a folder of recipes, with links between them and a Collection."""

import re
from pathlib import Path

import pytest
import yaml

from finegym.commands.line import main
from finegym.hub import family, publish
from finegym.hub.family import finished_checkpoints, publish_family
from finegym.hub.sending import PublishingError
from tests.hub.conftest import make_checkpoint


@pytest.fixture
def recipes(tmp_path) -> Path:
    """Three recipes: a backbone, an encoder on it, and one that was never trained."""
    folder = tmp_path / "configuration"
    folder.mkdir()
    backbone = make_checkpoint(tmp_path / "slowonly", architecture="slowonly", dataset="gym99")
    encoder = make_checkpoint(tmp_path / "video_text", dataset="gym99")
    recipe = yaml.safe_load((encoder / "recipe.yaml").read_text())
    recipe["model"]["backbone"] = str(backbone)
    (encoder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    for name, output_dir in (("slowonly", backbone), ("video_text", encoder), ("vision", tmp_path / "never")):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"name": f"gym99-{name}", "output_dir": str(output_dir)}))
    return folder


@pytest.fixture
def tested(monkeypatch, hub) -> list[tuple[str, int]]:
    """Record when and on what the stranger's test runs. It takes seconds, so one test really runs it, and once."""
    seen = []
    monkeypatch.setattr(family, "validate", lambda build: seen.append((build.checkpoint.title, len(hub.requests))))
    return seen


def header(hub, repo_id: str) -> dict:
    return yaml.safe_load(hub.files(repo_id)["README.md"].decode().split("\n---\n")[0][4:])


def test_a_family_is_published_linked_and_collected(hub, api, recipes, tested, monkeypatch):
    note = family.validate

    def validate(build):
        note(build)
        if build.checkpoint.title.startswith("Video-text"):
            publish.validate(build)

    monkeypatch.setattr(family, "validate", validate)
    shown = []
    publications = publish_family(recipes, "someone", tag="v1.0", api=api, say=shown.append)
    backbone, encoder = "someone/finegym-gym99-slowonly", "someone/finegym-gym99-video-text"
    assert [publication.repo_id for publication in publications] == [backbone, encoder]
    assert tested == [("SlowOnly on Gym99", 0), ("Video-text cross encoder on Gym99", 0)], "before anything is sent"
    assert any(re.match("Left out vision.yaml: There is no checkpoint folder", line) for line in shown)

    assert header(hub, encoder)["base_model"] == backbone
    assert "base_model" not in header(hub, backbone)
    for here, other in ((backbone, encoder), (encoder, backbone)):
        links = re.findall(r"\]\(https://huggingface.co/(.+)\)", hub.files(here)["README.md"].decode())
        assert links == [other]
    [collection] = hub.collections.values()
    assert [item["id"] for item in collection["items"]] == [backbone, encoder]
    assert collection["title"] == "Fine-grained action recognition on Gym99"
    assert shown[-1] == f"Collection: {hub.url}/collections/{collection['slug']}"


def test_publishing_a_family_again_changes_nothing(hub, api, recipes, tested):
    publish_family(recipes, "someone", api=api, say=lambda line: None)
    before = {repo_id: dict(repository.branches) for repo_id, repository in hub.repositories.items()}
    again = publish_family(recipes, "someone", api=api, say=lambda line: None)
    assert [publication.changed for publication in again] == [[], []]
    assert {repo_id: dict(repository.branches) for repo_id, repository in hub.repositories.items()} == before
    assert [len(collection["items"]) for collection in hub.collections.values()] == [2]


@pytest.mark.parametrize("step", ["create-collection", "add-collection-item"])
def test_a_collection_that_fails_is_the_only_thing_missing(hub, api, recipes, tested, step):
    hub.fail(step, "403")
    with pytest.raises(PublishingError, match="The checkpoints are published, but not their Collection"):
        publish_family(recipes, "someone", api=api, say=lambda line: None)
    assert len(hub.repositories) == 2
    hub.failures.clear()
    publish_family(recipes, "someone", api=api, say=lambda line: None)
    assert [len(collection["items"]) for collection in hub.collections.values()] == [2]


def test_dry_run_of_a_family_sends_nothing(hub, api, recipes, tested):
    assert publish_family(recipes, "someone", dry_run=True, api=api, say=lambda line: None) == []
    assert len(tested) == 2
    assert hub.requests == []


def test_folders_without_recipes_or_checkpoints(tmp_path, recipes, hub, api):
    with pytest.raises(FileNotFoundError, match="There is no recipe"):
        finished_checkpoints(tmp_path / "nowhere")
    for name in ("slowonly", "video_text"):
        (recipes / f"{name}.yaml").unlink()
    with pytest.raises(ValueError, match="has a finished checkpoint"):
        publish_family(recipes, "someone", api=api, say=lambda line: None)


def test_two_recipes_of_the_same_name_are_refused(tmp_path, recipes, hub, api, tested):
    twin = make_checkpoint(tmp_path / "twin", dataset="gym99", seed=1)
    (recipes / "z.yaml").write_text(yaml.safe_dump({"output_dir": str(twin)}))
    with pytest.raises(ValueError, match="would both become someone/finegym-gym99-video-text"):
        publish_family(recipes, "someone", api=api, say=lambda line: None)


def test_the_command_line_keeps_the_two_ways_apart(capsys):
    for arguments in (
        ["someone"],
        ["checkpoint", "someone/x", "--all", "recipes"],
        ["--all", "r", "o", "--create-pr"],
    ):
        assert main(["push", *arguments]) == 2
    assert "--all commits to main" in capsys.readouterr().err
