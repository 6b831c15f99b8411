"""Sending a folder to the Hub as one commit, or nothing of it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_session
from huggingface_hub.errors import (
    HfHubHTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import hf_raise_for_status, httpx


MANIFEST = "MANIFEST.sha256"
# Seconds that the Hub may stay silent within one request; huggingface_hub itself would wait forever.
SILENCE_LIMIT = 60.0
ADVICE = {
    401: "the token is not valid (anymore). Run `hf auth login`, or set HF_TOKEN to a token with write access",
    403: "the token may not do this. It needs write access to this owner's repositories",
    409: "the Hub reports a conflict with something that exists",
    412: "the branch has moved since it was read. Run the command again",
    413: "the Hub finds the upload too large",
    429: "too many requests. Wait some minutes and run the command again",
}


class PublishingError(RuntimeError):
    """Nothing was published, or less than was asked for; the message says which, why, and what to do."""


@dataclass(frozen=True)
class PublishedFile:
    """A file of the folder that is sent. `path` is relative to it, with forward slashes; `size` is in bytes."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Publication:
    """The result of a publication. `commit` holds the files; `changed` and `deleted` are what it moved."""

    repo_id: str
    url: str
    commit: str
    changed: list[str]
    deleted: list[str]


def list_files(folder: Path) -> list[PublishedFile]:
    """Return the files of a folder with their hashes, sorted by path."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [PublishedFile(path.relative_to(folder).as_posix(), path.stat().st_size, _sha256(path)) for path in files]


def write_manifest(folder: Path) -> list[PublishedFile]:
    """Write the manifest, in the form of `sha256sum`, and return all files, including the manifest."""
    (folder / MANIFEST).unlink(missing_ok=True)
    lines = [f"{file.sha256}  {file.path}\n" for file in list_files(folder)]
    (folder / MANIFEST).write_text("".join(lines), encoding="utf-8")
    return list_files(folder)


def send(
    folder: Path,
    files: list[PublishedFile],
    repo_id: str,
    *,
    message: str,
    private: bool = False,
    create_pr: bool = False,
    revision: str | None = None,
    tag: str | None = None,
    kind: str = "model",
    api: HfApi | None = None,
) -> Publication:
    """Make `repo_id` hold exactly `files`, in one commit. Files published earlier and not among them are deleted.

    Args:
        folder: The folder of the files.
        files: The files as they were tested; a file with other bytes is refused.
        repo_id: The repository, `owner/name`, created if it does not exist.
        message: The message of the commit.
        private: Whether to make a new repository private. An existing public one is refused.
        create_pr: Whether to open a pull request rather than commit.
        revision: The branch to commit to, created if it does not exist, or `refs/pr/N`.
        tag: The name for the commit.
        kind: "model" or "space".
        api: The Hub to send to; by default the one, and the token, that `huggingface_hub` is set up for.

    Raises:
        PublishingError: If sending fails; unless the message says otherwise, nothing was changed.
    """
    api = api or HfApi()
    get_session().timeout = httpx.Timeout(SILENCE_LIMIT)
    branch = revision or "main"
    with explained(f"Nothing was published to {repo_id}"):
        _check_token(api)
        head = _head(api, repo_id, branch, kind)
        if head is not None and private and not head.private:
            raise PublishingError(
                f"{repo_id} exists and is public: --private cannot keep this from view. Make the repository private "
                "in its settings first, or choose another name."
            )
        changed, deleted = _difference(api, repo_id, head and head.sha, folder, files, kind)
        tagged = _tagged_commit(api, repo_id, tag, kind) if head is not None and tag is not None else None
        if tagged is not None and (changed or deleted or tagged != head.sha):
            raise PublishingError(
                f"{repo_id} already has a tag {tag}, on other files. A tag is a promise: choose a new one, or delete "
                "the old one on the Hub."
            )
        operations = _operations(folder, files, changed, deleted)
        _check_card(api, folder, kind)

    commit, url = _commit(api, repo_id, operations, head, message, private, create_pr, revision, kind)
    if tag is not None and tagged is None:
        with explained(f"{url} was published, but not tagged {tag}. Running the same command again only tags it"):
            api.create_tag(repo_id, tag=tag, revision=commit, repo_type=kind)
    return Publication(repo_id, url, commit, changed, deleted)


@dataclass(frozen=True)
class _Head:
    """The commit a publication starts from; `branch_exists` is false where it starts from main in place of its own."""

    sha: str
    private: bool
    branch_exists: bool = True


def _commit(
    api: HfApi,
    repo_id: str,
    operations: list[CommitOperationAdd | CommitOperationDelete],
    head: _Head | None,
    message: str,
    private: bool,
    create_pr: bool,
    revision: str | None,
    kind: str,
) -> tuple[str, str]:
    """Create what is missing, commit, and return the commit and where people see it."""
    consequence = f"Nothing was published to {repo_id}"
    if head is None:
        with explained(consequence):
            api.create_repo(repo_id, private=private, repo_type=kind, space_sdk="gradio" if kind == "space" else None)
        consequence = f"Nothing was published. {repo_id} was made and is empty: run the command again, or delete it"
    with explained(consequence):
        head = head or _head(api, repo_id, revision or "main", kind)
        if not head.branch_exists:
            api.create_branch(repo_id, branch=revision, revision=head.sha, repo_type=kind)
        if not operations:
            return head.sha, _address(api, repo_id, kind)
        options = {"commit_message": message, "revision": revision, "create_pr": create_pr, "parent_commit": head.sha}
        options["repo_type"] = kind
        try:
            answer = api.create_commit(repo_id, operations, **options)
        except (httpx.TransportError, HfHubHTTPError) as error:
            if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
                raise
            commit = _find_commit(api, repo_id, head, message, create_pr, revision, error, kind)
            return commit, f"{_address(api, repo_id, kind)}/commit/{commit}"
    return answer.oid, answer.pr_url or answer.commit_url


def _find_commit(
    api: HfApi,
    repo_id: str,
    head: _Head,
    message: str,
    create_pr: bool,
    revision: str | None,
    error: Exception,
    kind: str,
) -> str:
    """Return the commit that was made although the Hub broke off before its answer. Raise `error` if there is none."""
    if create_pr:
        raise PublishingError(
            f"The Hub broke off ({error}) before it said whether the pull request is open. Look at "
            f"{_address(api, repo_id, kind)}/discussions before you try again."
        ) from error
    newest = api.list_repo_commits(repo_id, revision=revision, repo_type=kind)[0]
    if newest.commit_id == head.sha or newest.title != message:
        raise error
    return newest.commit_id


def _address(api: HfApi, repo_id: str, kind: str) -> str:
    """Return where people see a repository."""
    return f"{api.endpoint}/{'spaces/' if kind == 'space' else ''}{repo_id}"


def _check_card(api: HfApi, folder: Path, kind: str) -> None:
    """Ask the Hub whether it accepts the card's header, before anything is created."""
    question = {"content": (folder / "README.md").read_text(encoding="utf-8"), "repoType": kind}
    response = get_session().post(f"{api.endpoint}/api/validate-yaml", json=question)
    if response.status_code == 400:
        problems = "; ".join(str(error.get("message")) for error in response.json().get("errors", []))
        raise PublishingError(f"Nothing was published: the Hub refuses the card's header ({problems}).")
    hf_raise_for_status(response)


def _check_token(api: HfApi) -> None:
    try:
        who = api.whoami()
    except LocalTokenNotFoundError as error:
        raise PublishingError(
            "No Hugging Face token was found. Run `hf auth login`, or set HF_TOKEN to a token with write access "
            "(https://huggingface.co/settings/tokens)."
        ) from error
    if who.get("auth", {}).get("accessToken", {}).get("role") == "read":
        raise PublishingError(
            "The Hugging Face token can only read. Make one with write access at https://huggingface.co/settings/tokens."
        )


def _head(api: HfApi, repo_id: str, branch: str, kind: str) -> _Head | None:
    """Return the commit that `branch` points to, or main's where there is no such branch, or None without a
    repository."""
    try:
        info = api.repo_info(repo_id, revision=branch, repo_type=kind)
        return _Head(info.sha, bool(info.private))
    except RevisionNotFoundError as error:
        if branch.startswith("refs/"):
            raise PublishingError(f"{repo_id} has no {branch}. Use --create-pr to open a pull request.") from error
        info = api.repo_info(repo_id, repo_type=kind)
        return _Head(info.sha, bool(info.private), branch_exists=False)
    except RepositoryNotFoundError as error:
        if error.response.status_code != 404:
            raise
        return None


def _difference(
    api: HfApi, repo_id: str, commit: str | None, folder: Path, files: list[PublishedFile], kind: str
) -> tuple[list[str], list[str]]:
    """Return the paths that differ from the repository's, and those that an earlier publication left there."""
    if commit is None:
        return [file.path for file in files], []
    listing = api.list_repo_tree(repo_id, revision=commit, recursive=True, repo_type=kind)
    remote = {entry.path: entry for entry in listing if hasattr(entry, "size")}
    changed = [file.path for file in files if not _is_same(file, folder, remote.get(file.path))]
    if MANIFEST not in remote:
        return changed, []
    earlier = Path(api.hf_hub_download(repo_id, MANIFEST, revision=commit, repo_type=kind)).read_text(encoding="utf-8")
    listed = {line.partition("  ")[2] for line in earlier.splitlines()}
    return changed, sorted((listed & remote.keys()) - {file.path for file in files})


def _is_same(file: PublishedFile, folder: Path, remote) -> bool:
    if remote is None or remote.size != file.size:
        return False
    if remote.lfs is not None:
        return remote.lfs.sha256 == file.sha256
    content = (folder / file.path).read_bytes()
    return (
        remote.blob_id == hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    )  # git's own hash of a file


def _tagged_commit(api: HfApi, repo_id: str, tag: str, kind: str) -> str | None:
    tags = {reference.name: reference.target_commit for reference in api.list_repo_refs(repo_id, repo_type=kind).tags}
    return tags.get(tag)


def _operations(
    folder: Path, files: list[PublishedFile], changed: list[str], deleted: list[str]
) -> list[CommitOperationAdd | CommitOperationDelete]:
    tested = {file.path: file.sha256 for file in files}
    operations = [CommitOperationAdd(path, folder / path) for path in changed]
    for operation in operations:
        if operation.upload_info.sha256.hex() != tested[operation.path_in_repo]:
            raise PublishingError(f"{folder / operation.path_in_repo} has changed since it was tested.")
    return operations + [CommitOperationDelete(path) for path in deleted]


@contextmanager
def explained(consequence: str) -> Iterator[None]:
    """Turn any error of the Hub or the network into one sentence that begins with the consequence."""
    try:
        yield
    except PublishingError:
        raise
    except (OfflineModeIsEnabled, LocalTokenNotFoundError) as error:
        raise PublishingError(f"{consequence}: {error}") from error
    except RemoteEntryNotFoundError as error:
        raise PublishingError(f"{consequence}: the Hub lost a file that it had listed ({error}).") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        answer = error.server_message or str(error).partition("\n")[0]
        advice = ADVICE.get(
            status, "the Hub has a problem of its own. Try again later" if status >= 500 else "it refuses"
        )
        raise PublishingError(f"{consequence}: {advice} ({status}: {answer}).") from error
    except httpx.TimeoutException as error:
        raise PublishingError(f"{consequence}: the Hub did not answer in time. Try again later.") from error
    except httpx.HTTPError as error:
        raise PublishingError(f"{consequence}: the Hub cannot be reached ({error}). Check the network.") from error
    except (KeyError, TypeError) as error:
        raise PublishingError(f"{consequence}: the Hub's answer cannot be understood ({error!r}).") from error
    except (ValueError, OSError, RuntimeError) as error:
        raise PublishingError(f"{consequence}: {error}") from error


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
