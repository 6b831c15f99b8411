"""Where the shipped recipes and labels are, and which names can only mean a path on this machine.

In: a name as a person wrote it. Out: a path that exists, or one sentence that says what was not found. Nothing is
opened, and no network is asked.
"""

import difflib
import re
from pathlib import Path


_PACKAGE = Path(__file__).resolve().parent
# In a wheel the folder is inside the package; in a checkout it is beside it, where people edit it.
CONFIGURATION = next(
    folder for folder in (_PACKAGE / "configuration", _PACKAGE.parent / "configuration") if folder.is_dir()
)
# The folders that the recipes and the README write to: `outputs/x` is a path, though it has the form of a Hub id.
LOCAL_FOLDERS = ("checkpoints", "configuration", "data", "outputs")


def shipped(name: str | Path) -> Path:
    """Return the file or folder `name` or, where there is none, the one that this project ships by that name.

    Args:
        name: A path, or a shipped file by its place with or without the first folder: `synthgym/slowonly.yaml` and
            `configuration/synthgym/slowonly.yaml` are the same.

    Raises:
        FileNotFoundError: If there is neither; the message suggests shipped names that resemble it.
    """
    path = Path(name)
    if path.exists() or path.is_absolute():
        if path.exists():
            return path
        raise FileNotFoundError(f"There is no file {path}.")
    parts = path.parts[1:] if path.parts[:1] == ("configuration",) else path.parts
    found = CONFIGURATION.joinpath(*parts)
    if parts and ".." not in parts and found.exists():
        return found
    known = [file.relative_to(CONFIGURATION).as_posix() for file in sorted(CONFIGURATION.rglob(f"*{path.suffix}"))]
    similar = did_you_mean(Path(*parts).as_posix(), known)
    raise FileNotFoundError(f"There is no file {path} here, and none of that name is shipped.{similar}")


def require_path_or_hub_id(name: str, what: str) -> None:
    """Refuse a name that can only be a path and that leads nowhere, rather than wait for the network to say so.

    A Hub id is `owner/name`; it counts as a path if its first part is a folder here or one of `LOCAL_FOLDERS`.

    Args:
        name: A path or a Hub id.
        what: The kind of thing that is expected there, for the message: "checkpoint folder".

    Raises:
        FileNotFoundError: If it can only be a path and there is none; the message names what resembles it.
    """
    path = Path(name)
    if path.exists():
        return
    first = name.partition("/")[0]
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) and not (first in LOCAL_FOLDERS or Path(first).is_dir()):
        return
    # names are compared, not whole paths, in which a long folder would make all names alike
    beside = [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []
    similar = did_you_mean(path.name, beside, folder=path.parent)
    hub = "" if "/" in name else " here, and a name on the Hub has the form OWNER/NAME"
    raise FileNotFoundError(f"There is no {what} {name}{hub}.{similar}")


def did_you_mean(name: str, known: list[str], folder: Path | None = None) -> str:
    """Return the name among `known` that `name` abbreviates or resembles, as a question to append to a sentence; empty
    if there is none. Names of files are shown with their folder."""
    section, _, word = name.rpartition(".")
    short = [other for other in known if other.startswith(section) and _initials(other.rpartition(".")[2]) == word]
    close = short or difflib.get_close_matches(name, known, n=1)
    return f" Did you mean {folder / close[0] if folder else close[0]}?" if close else ""


def _initials(name: str) -> str:
    """`lr` of `learning_rate`."""
    return "".join(word[:1] for word in name.split("_"))
