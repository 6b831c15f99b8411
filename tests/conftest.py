"""What all tests share: small real videos and small real models."""

import os
from collections import Counter


# before torch and transformers are imported: tests are reproducible and never reach for the network
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # there are as many test processes as cores

import pytest  # noqa: E402
import torch  # noqa: E402

from finegym.data.video_writing import write_video  # noqa: E402
from finegym.data.worker_pool import server_context  # noqa: E402
from tests.footage import moving_square  # noqa: E402
from tests.hf_common.not_applicable import why_not  # noqa: E402
from tests.small import FAMILIES, small_model  # noqa: E402
from tests.training.launching import PRELOADED  # noqa: E402


# Each has tests or fixtures of half a minute. They begin first, so that no process is left alone with one at the end.
LONGEST = ("test_readme.py", "test_golden.py", "test_wheel.py", "test_remote_code.py", "test_pipeline.py")


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.name not in LONGEST)
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.timeout(7200))
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and this machine has none"))


def pytest_collection_finish(session):
    """Start the server of processes in each process of pytest-xdist, before a pool starts one that imports less."""
    if hasattr(session.config, "workerinput") and not session.config.option.collectonly:
        server_context(PRELOADED)


# A few lines report what did not run and why, whether tests ran in this process or in those of pytest-xdist, which all
# see the same tests.
_deselected: Counter[str] = Counter()


def pytest_deselected(items):
    for item in items:
        if "slow" in item.keywords:
            reason = "take minutes: `make test-slow`"
        elif "hf_common" in item.path.parts and why_not(item.cls.__name__, item.name) is not None:
            reason = "Transformers' tests of what these models do not have: tests/hf_common/not_applicable.py"
        else:
            reason = "were not asked for"
        _deselected[reason] += 1


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["deselected"] = dict(_deselected)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    _deselected.clear()
    _deselected.update(getattr(node, "workeroutput", {}).get("deselected", {}))


def pytest_terminal_summary(terminalreporter):
    skipped, missing = Counter(), set()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if reason.startswith("test requires "):  # Transformers' wording
            missing.add(reason.removeprefix("test requires "))
        else:
            skipped[reason] += 1
    num_missing = len(terminalreporter.stats.get("skipped", [])) - skipped.total()
    if missing:
        skipped[f"Transformers' tests that need what is not here: {', '.join(sorted(missing))}"] = num_missing
    if skipped or _deselected:
        terminalreporter.section("not run", sep="-")
        for reason, count in skipped.most_common():
            terminalreporter.write_line(f"{count} skipped: {reason}")
        for reason, count in _deselected.most_common():
            terminalreporter.write_line(f"{count} left out: {reason}")


@pytest.fixture(params=FAMILIES)
def model(request):
    return small_model(request.param)


@pytest.fixture
def pixel_values() -> torch.Tensor:
    return torch.randn(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def video_path(tmp_path_factory):
    """70 frames at 25 frames per second, 64 x 48 pixels."""
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    write_video(path, moving_square(70), fps=25)
    return path
