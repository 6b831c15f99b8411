"""The repositories of the loopback Hub: commits, references to them, and files as the Hub describes them."""

import hashlib
from dataclasses import dataclass, field


LARGE_FILE_SUFFIXES = (".safetensors", ".mp4", ".png")


@dataclass
class Repository:
    """Commits (sha -> {path: bytes}) and the references that name some of them."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    pull_requests: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], message: str, parent: str | None) -> str:
        listing = "".join(f"{path} {hashlib.sha256(files[path]).hexdigest()}\n" for path in sorted(files))
        sha = hashlib.sha1(f"{parent} {len(self.commits)} {message}\n{listing}".encode()).hexdigest()
        self.commits[sha] = files
        self.messages[sha] = message
        return sha

    def resolve(self, revision: str) -> str | None:
        for references in (self.branches, self.tags, self.pull_requests):
            if revision in references:
                return references[revision]
        return revision if revision in self.commits else None


class HubError(Exception):
    """An unsuccessful answer: its status, and the code that the client turns into an exception class."""

    def __init__(self, status: int, message: str, code: str | None = None, extra: dict | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.extra = status, message, code, extra or {}


def git_blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: str) -> bool:
    return path.endswith(LARGE_FILE_SUFFIXES)


def large_file_pointer(content: bytes) -> bytes:
    oid = hashlib.sha256(content).hexdigest()
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n".encode()


def entry(path: str, content: bytes) -> dict:
    if not is_large(path):
        return {"type": "file", "path": path, "size": len(content), "oid": git_blob_id(content)}
    pointer = large_file_pointer(content)
    large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": len(pointer)}
    return {"type": "file", "path": path, "size": len(content), "oid": git_blob_id(pointer), "lfs": large}


def listing(files: dict[str, bytes], folder: str, *, is_recursive: bool) -> list[dict]:
    """Return the entries of a folder: of all files below it, or of the files and folders in it."""
    below = f"{folder}/" if folder else ""
    found = {path: content for path, content in sorted(files.items()) if path.startswith(below)}
    if not found:
        raise HubError(404, "Entry not found", "EntryNotFound")
    if is_recursive:
        return [entry(path, content) for path, content in found.items()]
    folders = {below + path.removeprefix(below).split("/")[0] for path in found if "/" in path.removeprefix(below)}
    direct = [entry(path, content) for path, content in found.items() if "/" not in path.removeprefix(below)]
    return [*direct, *({"type": "directory", "path": path, "oid": git_blob_id(b"")} for path in sorted(folders))]
