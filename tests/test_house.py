"""The project's rules that a machine can check. Import-linter checks the import floors, in the same command."""

import ast
import graphlib
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from benchmarks import readme
from finegym.architectures import ARCHITECTURES
from finegym.evaluation import trust


ROOT = Path(__file__).resolve().parent.parent
PUBLISHED = ROOT / "modeling_finegym"
SOURCES = sorted(
    path
    for folder in ("modeling_finegym", "finegym", "benchmarks", "examples")
    for path in (ROOT / folder).rglob("*.py")
) + [ROOT / "train.py", ROOT / "push_to_hub.py"]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
ROOMS = [PUBLISHED, *sorted(path.parent for path in (ROOT / "finegym").glob("*/__init__.py"))]
# reads foreign checkpoints, with weights_only=True
UNPICKLER = ROOT / "finegym" / "hub" / "foreign_files.py"


def name(path):
    return str(path.relative_to(ROOT))


def calls(tree):
    """Yield the dotted name, and the keyword names and values, of every call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}


@pytest.mark.parametrize("path", SOURCES + TESTS, ids=name)
def test_files_classes_and_functions_can_be_read_in_one_sitting(path):
    """Docstrings count, but not a function's own, which may describe many arguments."""
    text = path.read_text()
    assert len(text.splitlines()) <= 450
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ClassDef):
            assert node.end_lineno - node.lineno + 1 <= 200, node.name
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            num_docstring_lines = len((ast.get_docstring(node, clean=False) or "").splitlines())
            assert node.end_lineno - node.lineno + 1 - num_docstring_lines <= 60, node.name


def _lines_that_say_something(path):
    """Yield (line number, line) without indentation, leaving out blank lines, comments and imports."""
    text = path.read_text()
    imports = {
        number
        for node in (ast.walk(ast.parse(text)) if path.suffix == ".py" else ())
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for number in range(node.lineno, node.end_lineno + 1)
    }
    for number, line in enumerate(map(str.strip, text.splitlines()), start=1):
        if line and not line.startswith("#") and number not in imports:
            yield number, line


def test_no_ten_lines_are_written_twice():
    templates = [path for kind in ("*.html", "*.md") for path in (ROOT / "finegym").rglob(kind)]
    seen, twice = {}, []
    for path in [*SOURCES, *templates]:
        numbered = list(_lines_that_say_something(path))
        for start in range(len(numbered) - 9):
            run = tuple(line for _, line in numbered[start : start + 10])
            place = f"{name(path)}:{numbered[start][0]}"
            if run in seen:
                twice.append(f"{seen[run]} and {place}")
            seen.setdefault(run, place)
    assert len(seen) > 10_000 and not twice


def test_the_head_of_the_training_loop_explains_what_it_uses_of_a_run():
    tree = ast.parse((ROOT / "finegym" / "training" / "loop.py").read_text())
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "run"
    }
    assert used and used <= set(re.findall(r"\w+", ast.get_docstring(tree)))


@pytest.mark.parametrize("room", ROOMS, ids=name)
def test_no_circles_inside_a_room(room):
    """A file may import its neighbors only if the files can be ordered: each below those that need it."""
    files = {path.stem: ast.parse(path.read_text()) for path in room.glob("*.py")}
    needs = {
        stem: {
            neighbor
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.level == 1
            for neighbor in ([node.module] if node.module else [alias.name for alias in node.names])
        }
        for stem, tree in files.items()
        if stem not in ("__init__", "publishing_finegym")  # it names what it copies, when it copies
    }
    list(graphlib.TopologicalSorter(needs).static_order())  # raises a CycleError that names the circle


@pytest.mark.parametrize("room", ROOMS[1:], ids=name)
def test_every_room_has_a_sign_on_its_door(room):
    sign = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
    assert re.search(r"\n\nIn: .+ Out: .+\bThis\s+package\s", sign, re.DOTALL), sign


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_nothing_is_unpickled_or_evaluated(path):
    tree = ast.parse(path.read_text())
    imported = {
        alias.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
    }
    imported |= {
        node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module
    }
    if path != UNPICKLER:  # names pickle's error, to explain it
        assert not imported & {"pickle", "dill", "joblib", "cloudpickle", "shelve", "marshal"}
    for function, keywords in calls(tree):
        assert function not in ("eval", "exec", "yaml.load", "os.system", "os.popen"), function
        assert function.rsplit(".", 1)[-1] not in ("getoutput", "getstatusoutput"), function
        assert keywords.get("shell") != "True" and keywords.get("allow_pickle") != "True", function
        if function == "torch.load":
            assert path == UNPICKLER and keywords.get("weights_only") == "True"


# The only files that may do these things, and within bounds.
READS_TEXT = ROOT / "finegym" / "data" / "text.py"
LOADING = ("data/checkpoints.py", "features/backbones.py", "hub/stranger.py")
LOADS_MODELS = [ROOT / "finegym" / path for path in LOADING]
NETWORK = ("urlopen", "urlretrieve", "requests.", "download_url_to_file", "load_state_dict_from_url", "torch.hub.load")


@pytest.mark.parametrize("path", [path for path in SOURCES if path.parts[-2] != "benchmarks"], ids=name)
def test_what_strangers_wrote_is_read_in_one_place(path):
    assert '"/tmp' not in path.read_text(), "tempfile's folders are private"
    for function, keywords in calls(ast.parse(path.read_text())):
        called = function.rsplit(".", 1)[-1]
        assert path == READS_TEXT or not re.fullmatch(r"json\.load|yaml\..*load(_all)?", function), function
        assert not any(function.startswith(way) or function.endswith(way) for way in NETWORK), function
        assert called not in ("mktemp", "extractall") and keywords.get("verify") != "False", function
        if called == "from_pretrained" and path.is_relative_to(ROOT / "finegym"):
            assert path in LOADS_MODELS, "load it by finegym.data.checkpoints"
            assert path.name == "stranger.py" or "trust_remote_code" in keywords or "**options" in path.read_text()


# The first versions without known vulnerabilities: CVE-2026-4372 and 5241, 2026-24747, FFmpeg 8.1 within PyAV 18
# (2026-40962), 2023-47248, 2025-48379, 2024-34062, 2025-68146 and 2026-22701, 2025-27516.
FLOORS = {
    "transformers": "5.3",
    "torch": "2.10",
    "av": "18",
    "pyarrow": "14.0.1",
    "pillow": "11.3",
    "tqdm": "4.66.3",
    "filelock": "3.20.3",
    "jinja2": "3.1.6",
    "pyyaml": "5.4",
}


@pytest.mark.parametrize(("package", "floor"), FLOORS.items())
def test_versions_with_known_holes_are_not_installed(package, floor):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    [requirement] = [found for found in map(Requirement, declared) if found.name.lower() == package]
    lowest = [Version(part.version) for part in requirement.specifier if part.operator == ">="]
    assert lowest and lowest[0] >= Version(floor), f"{package} must be at least {floor}"


def test_every_promise_of_security_names_its_tests():
    rows = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| **")]
    assert len(rows) >= 12
    for row in rows:
        files = re.findall(r"`(tests/[\w/]+\.py)`", row)
        assert files and all((ROOT / file).is_file() for file in files), row


def test_the_published_folder_is_flat():
    assert [path for path in PUBLISHED.iterdir() if path.is_dir() and path.name != "__pycache__"] == []


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.py")), ids=name)
def test_published_files_import_what_a_stranger_has(path):
    """Transformers requires every import that is not guarded, also inside functions, and copies `from .file` only."""
    text = path.read_text()
    assert "from __future__" not in text
    assert not re.search(r"^\s*from \.(\w*\.\w|\s*import)|^\s*from \.\. ", text, re.MULTILINE)
    tree = ast.parse(text)
    guarded = {child for node in ast.walk(tree) if isinstance(node, ast.Try) for child in ast.walk(node)}
    allowed = {"torch", "transformers", "numpy", "huggingface_hub"}  # the last two come with transformers
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and node not in guarded:
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node not in guarded and not node.level:
            modules = [node.module]
        else:
            continue
        for module in modules:
            top = module.split(".")[0]
            assert top in allowed or top in STANDARD_LIBRARY, module


STANDARD_LIBRARY = __import__("sys").stdlib_module_names


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md", "tests/README.md"])
def test_files_named_in_the_docs_are_there(page):
    named = set(
        re.findall(r"`((?:finegym|modeling_finegym|tests|configuration|docs)/[\w/.]+)`", (ROOT / page).read_text())
    )
    missing = {file for file in named if "NAME" not in file and not (ROOT / file).exists()}
    assert named and not missing


def test_what_is_said_of_explanations_is_what_was_measured():
    assert trust.MEASURED.read_text() == readme.trust_text(), "run `python -m benchmarks.readme`"
    types = {row.config_class.model_type for row in ARCHITECTURES.values()}
    assert trust.measured() and trust.measured().keys() <= types


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.name)
def test_pages_show_the_measured_numbers(page):
    text = page.read_text()
    assert readme.rewrite(text) == text, "run `python -m benchmarks.readme`"
    for table in readme.TABLE.finditer(text):
        assert len(table[0].splitlines()) > 4, f"the table {table[2]} is empty"


@pytest.mark.parametrize("option", ["--help", "--check"])
def test_asking_how_the_pages_are_written_does_not_write_them(option, monkeypatch, capsys):
    monkeypatch.setattr(readme, "PAGES", [None])  # which cannot be written
    with pytest.raises(SystemExit):
        readme.main([option])
    assert "usage: python -m benchmarks.readme [-h]" in "".join(capsys.readouterr())
