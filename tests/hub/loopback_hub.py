"""A Hub on the loopback interface that speaks the protocol `huggingface_hub` speaks, and fails on command.

It keeps whole commits in memory: a repository is a table of commits (path -> bytes) and of references to them. Large
files go through the LFS batch, upload and verify requests, small ones through the commit body, as on the real Hub.

    with LoopbackHub() as hub:
        HfApi(endpoint=hub.url, token=hub.token).create_repo("someone/model")
        hub.fail("commit", "500")          # every following request of that step answers 500

`python -m tests.hub.loopback_hub` serves one until it is interrupted.
"""

import base64
import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

from tests.hub.hub_repository import HubError, Repository, entry, git_blob_id, is_large, listing


# a Space is kept as `spaces/owner/name`, a data set as `datasets/owner/name`
REPOSITORY = r"(?P<repo>(?:(?:spaces|datasets)/)?[\w.-]+/[\w.-]+)"
FAILURES = ("close", "forget", "slow", "401", "403", "404", "409", "412", "500")


class LoopbackHub:
    """A threaded HTTP server on 127.0.0.1 and the state behind it. `requests` lists (step, method, path) in order."""

    def __init__(self, token: str = "hf_loopback", owner: str = "someone"):
        self.token, self.owner = token, owner
        self.repositories: dict[str, Repository] = {}
        self.collections: dict[str, dict] = {}
        self.large_files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.failures: dict[str, str] = {}
        self.before: dict[str, Callable[[], None]] = {}  # called when a request of a step arrives
        self.slow_seconds = 0.3
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception) -> None:
        self.server.shutdown()
        self.server.server_close()

    def fail(self, step: str, how: str) -> None:
        """Make every request of `step` (a name in ROUTES) fail with one of FAILURES.

        A number is the status of the answer; "close" hangs up in the middle of the upload, "forget" does the work and
        hangs up before answering, "slow" only delays the answer.
        """
        if step not in {name for name, *_ in ROUTES}:
            raise KeyError(f"{step} is no step of the loopback Hub")
        if how not in FAILURES:
            raise KeyError(f"{how} is none of {FAILURES}")
        self.failures[step] = how

    def add(self, repo_id: str, files: dict[str, bytes], *, private: bool = False) -> Repository:
        """Return a repository with one commit on its main branch."""
        repository = self.repositories[repo_id] = Repository(private=private)
        repository.branches["main"] = repository.commit(files, "initial", None)
        return repository

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        repository = self.repositories[repo_id]
        return repository.commits[repository.resolve(revision)]

    def environment(self, home: str) -> dict[str, str]:
        """Return the environment of a child process that talks to this Hub and to nothing else."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": self.token,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

    def repository(self, repo_id: str) -> Repository:
        if repo_id not in self.repositories:
            raise HubError(404, "Repository not found", "RepoNotFound")
        return self.repositories[repo_id]

    def revision(self, repo_id: str, revision: str) -> tuple[Repository, str]:
        repository = self.repository(repo_id)
        sha = repository.resolve(revision)
        if sha is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repository, sha


# One function per request. Each gets (hub, match of its pattern, query, body) and returns what is sent as JSON.


def whoami(hub: LoopbackHub, match, query, body):
    token = {"displayName": "loopback", "role": "write"}
    return {
        "type": "user",
        "name": hub.owner,
        "orgs": [],
        "auth": {"type": "access_token", "accessToken": token},
    }


def create_repository(hub: LoopbackHub, match, query, body):
    request = json.loads(body)
    owner = request.get("organization") or hub.owner
    repo_id = f"{'spaces/' * (request.get('type') == 'space')}{owner}/{request['name']}"
    if owner != hub.owner:
        raise HubError(403, f"You don't have the rights to create a model under the namespace {owner}")
    if repo_id in hub.repositories:
        raise HubError(409, "You already created this model repo", extra={"url": f"{hub.url}/{repo_id}"})
    is_private = request.get("visibility") == "private" or bool(request.get("private"))
    hub.add(repo_id, {".gitattributes": b"*.safetensors filter=lfs\n"}, private=is_private)
    return {"url": f"{hub.url}/{repo_id}", "name": repo_id}


def model_info(hub: LoopbackHub, match, query, body):
    repo_id = match["repo"]
    repository, sha = hub.revision(repo_id, unquote(match.groupdict().get("revision") or "main"))
    siblings = [{"rfilename": path} for path in sorted(repository.commits[sha])]
    return {"id": repo_id, "modelId": repo_id, "sha": sha, "private": repository.private, "siblings": siblings}


def references(hub: LoopbackHub, match, query, body):
    repository = hub.repository(match["repo"])

    def named(names: dict[str, str], prefix: str) -> list[dict]:
        return [{"name": name, "ref": f"{prefix}{name}", "targetCommit": sha} for name, sha in names.items()]

    answer = {"branches": named(repository.branches, "refs/heads/"), "tags": named(repository.tags, "refs/tags/")}
    return {**answer, "converts": [], "pullRequests": named(repository.pull_requests, "")}


def tree(hub: LoopbackHub, match, query, body):
    repository, sha = hub.revision(match["repo"], unquote(match["revision"]))
    is_recursive = query.get("recursive", ["true"]) != ["false"]
    return listing(repository.commits[sha], unquote(match["path"] or ""), is_recursive=is_recursive)


def commits(hub: LoopbackHub, match, query, body):
    repository, sha = hub.revision(match["repo"], unquote(match["revision"]))
    order = list(repository.commits)
    newest_first = [sha, *(other for other in reversed(order[: order.index(sha)]))]
    date = "2026-01-01T00:00:00.000Z"
    return [
        {"id": commit, "title": repository.messages[commit], "message": "", "date": date, "authors": []}
        for commit in newest_first
    ]


def paths_info(hub: LoopbackHub, match, query, body):
    repository, sha = hub.revision(match["repo"], unquote(match["revision"]))
    wanted = json.loads(body)["paths"]
    return [entry(path, content) for path, content in sorted(repository.commits[sha].items()) if path in wanted]


def validate_yaml(hub: LoopbackHub, match, query, body):
    content = json.loads(body)["content"]
    header = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
    try:
        metadata = yaml.safe_load(header[1]) if header else {}
    except yaml.YAMLError as error:
        raise HubError(400, "Invalid YAML", extra={"errors": [{"message": str(error)}], "warnings": []}) from error
    if not isinstance(metadata, dict) or "license" not in metadata:
        raise HubError(400, "Invalid metadata", extra={"errors": [{"message": "license is missing"}], "warnings": []})
    return {"errors": [], "warnings": []}


def preupload(hub: LoopbackHub, match, query, body):
    hub.revision(match["repo"], unquote(match["revision"]))
    files = json.loads(body)["files"]
    return {
        "files": [
            {"path": f["path"], "uploadMode": "lfs" if is_large(f["path"]) else "regular", "shouldIgnore": False}
            for f in files
        ]
    }


def large_file_batch(hub: LoopbackHub, match, query, body):
    hub.repository(match["repo"])
    answer = []
    for wanted in json.loads(body)["objects"]:
        description = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in hub.large_files:
            upload = {"href": f"{hub.url}/_lfs/{wanted['oid']}"}
            verify = {"href": f"{hub.url}/_lfs_verify/{wanted['oid']}"}
            description["actions"] = {"upload": upload, "verify": verify}
        answer.append(description)
    return {"transfer": "basic", "objects": answer}


def large_file_upload(hub: LoopbackHub, match, query, body):
    if hashlib.sha256(body).hexdigest() != match["oid"]:
        raise HubError(400, "The content does not have the announced SHA-256")
    hub.large_files[match["oid"]] = body
    return {}


def large_file_verify(hub: LoopbackHub, match, query, body):
    if match["oid"] not in hub.large_files:
        raise HubError(404, "No such object")
    return {}


def commit(hub: LoopbackHub, match, query, body):
    repo_id, target = match["repo"], unquote(match["revision"])
    repository, parent = hub.revision(repo_id, target)
    lines = [json.loads(line) for line in body.splitlines() if line.strip()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    is_pull_request = "create_pr" in query
    if not is_pull_request and header.get("parentCommit", parent) != parent:
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    files = dict(repository.commits[parent])
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif line["key"] == "lfsFile":
            if value["oid"] not in hub.large_files:
                raise HubError(400, f"The large file {value['path']} was never uploaded")
            files[value["path"]] = hub.large_files[value["oid"]]
        elif line["key"] == "deletedFile":
            del files[value["path"]]
    sha = repository.commit(files, header["summary"], parent)
    answer = {"success": True, "commitOid": sha, "commitUrl": f"{hub.url}/{repo_id}/commit/{sha}"}
    if is_pull_request:
        number = len(repository.pull_requests) + 1
        repository.pull_requests[f"refs/pr/{number}"] = sha
        return {**answer, "pullRequestUrl": f"{hub.url}/{repo_id}/discussions/{number}"}
    if target in repository.pull_requests:
        repository.pull_requests[target] = sha
    else:
        repository.branches[target] = sha
    return answer


def create_tag(hub: LoopbackHub, match, query, body):
    repository, sha = hub.revision(match["repo"], unquote(match["revision"]))
    name = json.loads(body)["tag"]
    if name in repository.tags:
        raise HubError(409, "Tag reference exists already")
    repository.tags[name] = sha
    return {}


def create_branch(hub: LoopbackHub, match, query, body):
    repository = hub.repository(match["repo"])
    name = unquote(match["branch"])
    if name in repository.branches:
        raise HubError(409, "Branch exists already")
    start = (json.loads(body) if body else {}).get("startingPoint", "main")
    repository.branches[name] = hub.revision(match["repo"], start)[1]
    return {}


def collection_answer(collection: dict) -> dict:
    return {**collection, "items": [{**item, "position": i} for i, item in enumerate(collection["items"])]}


def create_collection(hub: LoopbackHub, match, query, body):
    request = json.loads(body)
    title = re.sub(r"[^a-z0-9]+", "-", request["title"].lower()).strip("-")
    slug = f"{request['namespace']}/{title}-{len(request['title']):024x}"
    if slug in hub.collections:
        raise HubError(409, "Collection exists already", extra={"slug": slug})
    hub.collections[slug] = {
        "slug": slug,
        "title": request["title"],
        "owner": {"name": request["namespace"], "type": "user"},
        "description": request.get("description"),
        "private": request.get("private", False),
        "lastUpdated": "2026-01-01T00:00:00.000Z",
        "theme": "blue",
        "position": 0,
        "upvotes": 0,
        "items": [],
    }
    return collection_answer(hub.collections[slug])


def get_collection(hub: LoopbackHub, match, query, body):
    if match["slug"] not in hub.collections:
        raise HubError(404, "Collection not found")
    return collection_answer(hub.collections[match["slug"]])


def add_collection_item(hub: LoopbackHub, match, query, body):
    request = json.loads(body)
    collection = hub.collections[match["slug"]]
    if any(item["id"] == request["item"]["id"] for item in collection["items"]):
        raise HubError(409, "Item already in collection")
    item = {
        "_id": f"{len(collection['items']):024x}",
        "id": request["item"]["id"],
        "type": "model",
        "repoType": "model",
    }
    collection["items"].append({**item, "note": {"text": request["note"]} if request.get("note") else None})
    return collection_answer(collection)


ROUTES: tuple[tuple[str, str, str, Callable], ...] = (
    ("whoami", "GET", r"/api/whoami-v2", whoami),
    ("create-repository", "POST", r"/api/repos/create", create_repository),
    ("validate-yaml", "POST", r"/api/validate-yaml", validate_yaml),
    ("references", "GET", rf"/api/(?:models/)?{REPOSITORY}/refs", references),
    ("tree", "GET", rf"/api/(?:models/)?{REPOSITORY}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", tree),
    ("commits", "GET", rf"/api/(?:models/)?{REPOSITORY}/commits/(?P<revision>[^/]+)", commits),
    ("paths-info", "POST", rf"/api/(?:models/)?{REPOSITORY}/paths-info/(?P<revision>[^/]+)", paths_info),
    ("preupload", "POST", rf"/api/(?:models/)?{REPOSITORY}/preupload/(?P<revision>[^/]+)", preupload),
    ("commit", "POST", rf"/api/(?:models/)?{REPOSITORY}/commit/(?P<revision>[^/]+)", commit),
    ("tag", "POST", rf"/api/(?:models/)?{REPOSITORY}/tag/(?P<revision>[^/]+)", create_tag),
    ("branch", "POST", rf"/api/(?:models/)?{REPOSITORY}/branch/(?P<branch>[^/]+)", create_branch),
    ("info", "GET", rf"/api/(?:models/)?{REPOSITORY}(/revision/(?P<revision>[^/]+))?", model_info),
    ("large-file-batch", "POST", rf"/{REPOSITORY}\.git/info/lfs/objects/batch", large_file_batch),
    ("large-file-upload", "PUT", r"/_lfs/(?P<oid>[0-9a-f]{64})", large_file_upload),
    ("large-file-verify", "POST", r"/_lfs_verify/(?P<oid>[0-9a-f]{64})", large_file_verify),
    ("create-collection", "POST", r"/api/collections", create_collection),
    ("add-collection-item", "POST", r"/api/collections/(?P<slug>[\w.-]+/[\w.-]+)/items", add_collection_item),
    ("get-collection", "GET", r"/api/collections/(?P<slug>[\w.-]+/[\w.-]+)", get_collection),
)
RESOLVE = re.compile(rf"/{REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
# Requests that the storage behind the Hub answers, authorized by their URL alone.
WITHOUT_TOKEN = ("large-file-upload", "validate-yaml")


class _Handler(BaseHTTPRequestHandler):
    """Find the route, check the token, apply the requested failure, and answer."""

    hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet: otherwise each answer waits 40 ms for the client's delayed acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *arguments) -> None:
        pass

    def do_GET(self) -> None:
        self.handle_request()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815, the base class calls them so

    def handle_request(self) -> None:
        address = urlsplit(self.path)
        query = parse_qs(address.query, keep_blank_values=True)
        route = next(
            (
                (step, match, function)
                for step, method, pattern, function in ROUTES
                if method == self.command and (match := re.fullmatch(pattern, address.path))
            ),
            None,
        )
        with self.hub.lock:
            self.hub.requests.append((route[0] if route else "resolve", self.command, self.path))
        failure = self.hub.failures.get(route[0]) if route else None
        if failure == "slow":
            time.sleep(self.hub.slow_seconds)
        elif failure == "close":
            self.rfile.read(min(1024, int(self.headers.get("Content-Length") or 0)))
            self.hang_up()
            return
        body = self.read_body()
        try:
            if failure and failure.isdigit():
                raise HubError(int(failure), f"The loopback Hub was told to answer {failure}")
            if route is None:
                self.answer_file(address.path)
                return
            step, match, function = route
            if step not in WITHOUT_TOKEN and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
                raise HubError(401, "Invalid username or password.")
            with self.hub.lock:
                self.hub.before.get(step, lambda: None)()
                answer = function(self.hub, match, query, body)
            if failure == "forget":
                self.hang_up()
            else:
                self.answer(200, answer)
        except HubError as error:
            self.answer(error.status, {"error": error.message, **error.extra}, code=error.code)

    def hang_up(self) -> None:
        """Close the connection without an answer."""
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, status: int, content: object, code: str | None = None) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code:
            self.send_header("X-Error-Code", code)
        if status >= 400:
            self.send_header("X-Error-Message", str(content["error"]))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_file(self, path: str) -> None:
        match = RESOLVE.fullmatch(unquote(path))
        if match is None:
            raise HubError(404, f"The loopback Hub does not know {self.command} {path}")
        repository, sha = self.hub.revision(match["repo"], match["revision"])
        if repository.private and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            raise HubError(401, "Repository not found", "RepoNotFound")
        content = repository.commits[sha].get(match["path"])
        if content is None:
            raise HubError(404, "Entry not found", "EntryNotFound")
        self.send_response(200)
        self.send_header("X-Repo-Commit", sha)
        self.send_header("ETag", f'"{entry(match["path"], content).get("lfs", {}).get("oid", git_blob_id(content))}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


if __name__ == "__main__":
    with LoopbackHub() as served:
        print(f"HF_ENDPOINT={served.url} HF_TOKEN={served.token} HF_HUB_DISABLE_XET=1", flush=True)
        threading.Event().wait()
