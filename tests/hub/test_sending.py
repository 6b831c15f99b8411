"""Send a folder to a Hub that answers, one that refuses, and one that hangs up."""

import hashlib
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from huggingface_hub import HfApi, ModelCard, ModelCardData
from huggingface_hub.utils import _http

from finegym.hub.sending import MANIFEST, PublishingError, list_files, send, write_manifest


REPO = "someone/model"
FIRST = {"README.md": None, "config.json": b"{}", "model.safetensors": b"w" * 5000, "old_code.py": b"# old"}
# The requests of a first publication, in order; the branch, the pull request and the tag have tests of their own.
STEPS = [
    "whoami",
    "info",
    "validate-yaml",
    "create-repository",
    "preupload",
    "large-file-batch",
    "large-file-upload",
    "large-file-verify",
    "commit",
]


@pytest.fixture
def folder(tmp_path) -> Path:
    folder = tmp_path / "built"
    folder.mkdir()
    for name, content in FIRST.items():
        if name == "README.md":
            content = str(
                ModelCard.from_template(ModelCardData(license="mit"), template_str="---\n{{ card_data }}\n---")
            )
            content = content.encode()
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """Skip the waiting: the client waits half a minute before it gives up a server, which is not what is tested."""
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None, time=time.time))


def steps(hub) -> list[str]:
    return [step for step, _, _ in hub.requests]


def test_first_publication_holds_exactly_the_listed_bytes(hub, api, folder):
    files = write_manifest(folder)
    publication = send(folder, files, REPO, message="one", api=api)
    stored = hub.files(REPO)
    assert {path: hashlib.sha256(stored[path]).hexdigest() for path in FIRST} == {
        file.path: file.sha256 for file in files if file.path != MANIFEST
    }
    listed = dict(reversed(line.split("  ")) for line in stored[MANIFEST].decode().splitlines())
    assert listed == {path: hashlib.sha256(stored[path]).hexdigest() for path in FIRST}
    assert hub.repositories[REPO].branches["main"] == publication.commit
    assert steps(hub).count("commit") == 1


def test_publishing_the_same_again_changes_nothing(hub, api, folder):
    files = write_manifest(folder)
    first = send(folder, files, REPO, message="one", api=api)
    hub.requests.clear()
    second = send(folder, files, REPO, message="two", api=api)
    assert second.commit == first.commit
    assert (second.changed, second.deleted) == ([], [])
    assert not {"commit", "preupload", "large-file-upload", "create-repository"} & set(steps(hub))


def test_only_what_changed_is_sent_and_only_what_was_published_is_deleted(hub, api, folder):
    send(folder, write_manifest(folder), REPO, message="one", api=api)
    api.upload_file(path_or_fileobj=b"by hand", path_in_repo="notes.txt", repo_id=REPO)
    (folder / "old_code.py").unlink()
    (folder / "config.json").write_bytes(b'{"a": 1}')
    publication = send(folder, write_manifest(folder), REPO, message="two", api=api)
    assert publication.changed == [MANIFEST, "config.json"]
    assert publication.deleted == ["old_code.py"]
    stored = hub.files(REPO)
    assert stored["config.json"] == b'{"a": 1}'
    assert stored["notes.txt"] == b"by hand"
    assert "old_code.py" not in stored


def test_a_file_changed_after_its_test_is_not_sent(hub, api, folder):
    files = write_manifest(folder)
    (folder / "model.safetensors").write_bytes(b"x" * 5000)
    with pytest.raises(PublishingError, match="model.safetensors has changed since it was tested"):
        send(folder, files, REPO, message="one", api=api)
    assert hub.repositories == {}


def test_revision_pull_request_and_tag(hub, api, folder):
    files = write_manifest(folder)
    main = send(folder, files, REPO, message="one", tag="v1.0", api=api)
    assert hub.repositories[REPO].tags == {"v1.0": main.commit}
    (folder / "config.json").write_bytes(b'{"b": 2}')
    files = write_manifest(folder)
    branch = send(folder, files, REPO, message="two", revision="trial", api=api)
    assert hub.files(REPO, "trial")["config.json"] == b'{"b": 2}'
    assert hub.files(REPO)["config.json"] == b"{}"
    proposal = send(folder, files, REPO, message="three", create_pr=True, api=api)
    assert proposal.url.endswith("/discussions/1")
    assert hub.files(REPO, "refs/pr/1")["config.json"] == b'{"b": 2}'
    assert hub.repositories[REPO].branches == {"main": main.commit, "trial": branch.commit}
    (folder / "config.json").write_bytes(b'{"b": 3}')
    send(folder, write_manifest(folder), REPO, message="four", revision="refs/pr/1", api=api)
    assert hub.files(REPO, "refs/pr/1")["config.json"] == b'{"b": 3}'
    with pytest.raises(PublishingError, match="no refs/pr/9"):
        send(folder, files, REPO, message="five", revision="refs/pr/9", api=api)


def test_a_new_branch_without_changes_is_made(hub, api, folder):
    files = write_manifest(folder)
    main = send(folder, files, REPO, message="one", api=api)
    branch = send(folder, files, REPO, message="one", revision="stable", api=api)
    assert (branch.commit, branch.changed) == (main.commit, [])
    assert hub.repositories[REPO].branches == {"main": main.commit, "stable": main.commit}


def test_a_tag_on_other_files_is_refused_before_anything_is_sent(hub, api, folder):
    send(folder, write_manifest(folder), REPO, message="one", tag="v1.0", api=api)
    before = dict(hub.repositories[REPO].branches)
    (folder / "config.json").write_bytes(b'{"c": 3}')
    with pytest.raises(PublishingError, match="already has a tag v1.0"):
        send(folder, write_manifest(folder), REPO, message="two", tag="v1.0", api=api)
    assert hub.repositories[REPO].branches == before


def test_private_is_kept_or_refused(hub, api, folder):
    files = write_manifest(folder)
    send(folder, files, REPO, message="one", private=True, api=api)
    assert hub.repositories[REPO].private
    send(folder, files, "someone/open", message="one", api=api)
    (folder / "config.json").write_bytes(b'{"secret": 1}')
    with pytest.raises(PublishingError, match="exists and is public"):
        send(folder, write_manifest(folder), "someone/open", message="two", private=True, api=api)
    assert hub.files("someone/open")["config.json"] == b"{}"


@pytest.mark.parametrize("how", ["403", "500", "close"])
@pytest.mark.parametrize("step", STEPS)
def test_a_failure_at_any_step_leaves_nothing_half_published(hub, api, folder, step, how):
    files = write_manifest(folder)
    hub.fail(step, how)
    with pytest.raises(PublishingError) as error:
        send(folder, files, REPO, message="one", api=api)
    message = str(error.value)
    assert "Nothing was published" in message
    assert "\n" not in message
    if REPO in hub.repositories:
        assert "is empty" in message
        assert list(hub.files(REPO)) == [".gitattributes"]
    hub.failures.clear()
    assert send(folder, files, REPO, message="one", api=api).commit == hub.repositories[REPO].branches["main"]


@pytest.mark.parametrize("step", ["tree", "references", "commit", "branch"])
def test_a_failed_update_leaves_the_old_files(hub, api, folder, step):
    send(folder, write_manifest(folder), REPO, message="one", api=api)
    before = dict(hub.repositories[REPO].branches)
    (folder / "config.json").write_bytes(b'{"d": 4}')
    hub.fail(step, "500")
    with pytest.raises(PublishingError, match=f"Nothing was published to {REPO}"):
        send(folder, write_manifest(folder), REPO, message="two", tag="v2", revision="trial", api=api)
    assert {name: sha for name, sha in hub.repositories[REPO].branches.items() if name == "main"} == before
    assert hub.repositories[REPO].tags == {}


def test_a_failed_tag_is_said_to_be_the_only_thing_missing(hub, api, folder):
    hub.fail("tag", "500")
    files = write_manifest(folder)
    with pytest.raises(PublishingError, match="was published, but not tagged v1.0"):
        send(folder, files, REPO, message="one", tag="v1.0", api=api)
    hub.failures.clear()
    again = send(folder, files, REPO, message="one", tag="v1.0", api=api)
    assert again.changed == []
    assert hub.repositories[REPO].tags == {"v1.0": again.commit}


def test_a_commit_whose_answer_was_lost_is_found(hub, api, folder):
    hub.fail("commit", "forget")
    publication = send(folder, write_manifest(folder), REPO, message="one", api=api)
    assert publication.commit == hub.repositories[REPO].branches["main"]
    assert set(FIRST) < set(hub.files(REPO))


def test_a_lost_pull_request_is_not_repeated_blindly(hub, api, folder):
    send(folder, write_manifest(folder), REPO, message="one", api=api)
    (folder / "config.json").write_bytes(b'{"e": 5}')
    hub.fail("commit", "forget")
    with pytest.raises(PublishingError, match="Look at .*/discussions"):
        send(folder, write_manifest(folder), REPO, message="two", create_pr=True, api=api)


def test_somebody_elses_commit_in_between_is_a_conflict(hub, api, folder):
    send(folder, write_manifest(folder), REPO, message="one", api=api)
    (folder / "config.json").write_bytes(b'{"f": 6}')
    repository = hub.repositories[REPO]

    def somebody_else_commits():
        repository.branches["main"] = repository.commit({"config.json": b"theirs"}, "theirs", None)

    hub.before["commit"] = somebody_else_commits
    with pytest.raises(PublishingError, match="the branch has moved"):
        send(folder, write_manifest(folder), REPO, message="two", api=api)
    assert hub.files(REPO)["config.json"] == b"theirs"


def test_missing_wrong_and_weak_tokens(hub, folder, monkeypatch):
    files = write_manifest(folder)
    with pytest.raises(PublishingError, match="the token is not valid"):
        send(folder, files, REPO, message="one", api=HfApi(endpoint=hub.url, token="hf_wrong"))
    monkeypatch.setattr("huggingface_hub.hf_api.get_token", lambda: None)
    with pytest.raises(PublishingError, match="No Hugging Face token was found. Run `hf auth login`"):
        send(folder, files, REPO, message="one", api=HfApi(endpoint=hub.url))
    with pytest.raises(PublishingError, match="the token may not do this"):
        send(folder, files, "somebody-else/model", message="one", api=HfApi(endpoint=hub.url, token=hub.token))
    assert hub.repositories == {}


def test_no_network(hub, folder):
    with pytest.raises(PublishingError, match="Nothing was published to .*: the Hub cannot be reached"):
        send(
            folder, write_manifest(folder), REPO, message="one", api=HfApi(endpoint="http://127.0.0.1:9", token="hf_x")
        )


def test_a_card_that_the_hub_refuses_stops_everything(hub, api, folder):
    (folder / "README.md").write_text("---\nlanguage: en\n---\n")
    with pytest.raises(PublishingError, match="refuses the card's header .*license is missing"):
        send(folder, write_manifest(folder), REPO, message="one", api=api)
    assert hub.repositories == {}


def test_a_slow_hub_is_waited_for(hub, api, folder):
    for step in STEPS:
        hub.fail(step, "slow")
    hub.slow_seconds = 0.1
    start = time.perf_counter()
    publication = send(folder, write_manifest(folder), REPO, message="one", api=api)
    assert time.perf_counter() - start > 0.1 * len(STEPS)
    assert publication.commit == hub.repositories[REPO].branches["main"]


def test_the_manifest_is_in_the_form_of_sha256sum(folder):
    write_manifest(folder)
    lines = (folder / MANIFEST).read_text().splitlines()
    assert lines == [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}" for name in sorted(FIRST)]
    assert [file.path for file in list_files(folder)] == sorted([MANIFEST, *FIRST])
