"""Shared by all tests: small real videos, small real models."""

import os
from collections import Counter


# before torch and transformers are imported: tests are reproducible and never reach for the network
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # there are as many test processes as cores

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

from finegym.data.video_writing import write_video  # noqa: E402
from modeling_finegym import FineGymVideoTextConfig, FineGymVisionConfig, SlowOnlyConfig  # noqa: E402
from modeling_finegym import FineGymVideoTextForVideoClassification as VideoTextClassifier  # noqa: E402
from modeling_finegym import FineGymVisionForVideoClassification as VisionClassifier  # noqa: E402
from modeling_finegym import SlowOnlyForVideoClassification as SlowOnlyClassifier  # noqa: E402
from tests.hf_common.not_applicable import why_not  # noqa: E402


def pytest_collection_modifyitems(items):
    for item in items:
        if "gpu" in item.keywords and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and this machine has none"))


# What did not run and why is said in a few lines, whether tests ran in this process or in those of pytest-xdist, which
# all see the same tests.
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


LABELS = {0: "split leap", 1: "sheep jump", 2: "switch leap"}
ENCODER = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64}


def small_slowonly_config(**changes) -> SlowOnlyConfig:
    values = {"num_frames": 8, "image_size": 32, "stem_width": 8, "hidden_sizes": (16, 32, 32, 64), "depths": (1,) * 4}
    labels = {"id2label": LABELS, "label2id": {name: index for index, name in LABELS.items()}}
    return SlowOnlyConfig(**{**values, **labels, **changes})


def small_model(family: str, **changes) -> torch.nn.Module:
    """A classifier of one of the three families with random weights, in eval mode."""
    torch.manual_seed(0)
    backbone = small_slowonly_config()
    labels = {"id2label": backbone.id2label, "label2id": backbone.label2id}
    if family == "slowonly":
        return SlowOnlyClassifier(small_slowonly_config(**changes)).eval()
    if family == "vision":
        return VisionClassifier(FineGymVisionConfig(vision_config=backbone, **ENCODER, **labels, **changes)).eval()
    attributes = {"attribute_names": ["", "leap", "jump", "0.5 turn"]}
    config = FineGymVideoTextConfig(vision_config=backbone, **{**ENCODER, **labels, **attributes, **changes})
    return VideoTextClassifier(config).eval()


FAMILIES = ("slowonly", "vision", "video_text")


@pytest.fixture(params=FAMILIES)
def model(request):
    return small_model(request.param)


@pytest.fixture
def pixel_values() -> torch.Tensor:
    return torch.randn(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def moving_square(num_frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames (T, H, W, 3) that all differ: a bright square moves over a gradient, and the gray level counts frames."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    frames[..., 0] = np.linspace(0, 120, width, dtype=np.uint8)
    for index in range(num_frames):
        frames[index, ..., 1] = 20 + index * 200 // max(num_frames, 1)
        left = index * (width - 12) // max(num_frames - 1, 1)
        frames[index, 8:20, left : left + 12, 2] = 230
    return frames


@pytest.fixture(scope="session")
def video_path(tmp_path_factory):
    """70 frames at 25 frames per second, 64 x 48 pixels."""
    path = tmp_path_factory.mktemp("videos") / "clip.mp4"
    write_video(path, moving_square(70), fps=25)
    return path
