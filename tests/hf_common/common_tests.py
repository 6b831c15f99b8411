"""Fetch the common tests of the installed Transformers: `python -m tests.hf_common.common_tests`.

Transformers ships `tests/test_*_common.py` in its source distribution only. Pip downloads that once per version, and
it is kept in `.cache/` at the root of the repository; none of it is committed.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path


VERSION = version("transformers")
CACHE = Path(__file__).parents[2] / ".cache" / f"transformers_tests-{VERSION}"
PACKAGE = "transformers_tests"

# What the common tests import from files that the source distribution leaves out. The first two hold tests that do not
# concern these models (exporters, text generation); the third holds a value other than the default for common options.
STUBS = {
    "exporters/test_export.py": "class ExportTesterMixin: ...\n",
    "generation/test_utils.py": "class GenerationTesterMixin: ...\n",
    "utils/test_configuration_utils.py": """\
config_common_kwargs = {
    "return_dict": False,
    "output_hidden_states": True,
    "output_attentions": True,
    "dtype": "float16",
    "chunk_size_feed_forward": 5,
    "architectures": ["BertModel"],
    "id2label": {0: "label"},
    "label2id": {"label": "0"},
    "problem_type": "regression",
}
""",
}


def download_sources(folder: Path) -> Path:
    """Download the source distribution of the installed Transformers into `folder`; return the archive."""
    requirement = f"transformers=={VERSION}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
    command += ["--retries", "1", "--timeout", "20", "--dest", str(folder), requirement]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    return next(folder.glob("transformers-*.tar.gz"))


def unpack_common_tests(archive: Path, package: Path) -> None:
    """Write the top-level `tests/*.py` of `archive` and the stubs into the folder `package`."""
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = Path(member.name).parts
            if member.isfile() and len(parts) == 3 and parts[1] == "tests" and parts[2].endswith(".py"):
                (package / parts[2]).write_bytes(tar.extractfile(member).read())
    for name, text in STUBS.items():
        (package / name).parent.mkdir()
        (package / name).write_text(text)
    for folder in [package, *(path for path in package.iterdir() if path.is_dir())]:
        (folder / "__init__.py").touch()


def make_common_tests_importable() -> None:
    """Put the package `transformers_tests` on the path, downloading it if it is not in the cache."""
    if not CACHE.is_dir():
        CACHE.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE.parent) as scratch:
            root = Path(scratch) / "root"
            (root / PACKAGE).mkdir(parents=True)
            try:
                unpack_common_tests(download_sources(Path(scratch)), root / PACKAGE)
                os.replace(root, CACHE)
            except (subprocess.SubprocessError, OSError):
                # No network, or another test process was faster. Without a copy the test module skips, with a reason.
                pass
    if CACHE.is_dir():
        sys.path.append(str(CACHE))


if __name__ == "__main__":
    make_common_tests_importable()
