"""`finegym flow`: the motion is that of the frames, nothing is lost on disk, and nothing is computed twice."""

import json
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage

from finegym.commands.line import main
from finegym.data.index import AttributeSpan, read_coverage, read_index, write_index
from finegym.data.video_writing import write_video
from finegym.preparation.flow import FlowSettings, _write_video, compute_flow, flow_function, to_picture
from modeling_finegym.video_decoding import open_video
from tests.training.launching import start_command
from tests.training.tiny import write_dataset


def texture(height: int, width: int) -> np.ndarray:
    """Return a smooth random texture, (height, width) of 0 to 255."""
    noise = np.random.default_rng(0).standard_normal((height, width))
    smooth = ndimage.gaussian_filter(noise, 3)
    return (255 * (smooth - smooth.min()) / np.ptp(smooth)).astype(np.uint8)


@pytest.mark.parametrize("method", ["dis", "tvl1"])
def test_motion_of_a_shifted_picture(method):
    """What moves three pixels to the right and two up has x = 3 and y = -2."""
    picture = texture(96, 128)
    shifted = np.roll(picture, (-2, 3), axis=(0, 1))
    flow = flow_function(method)(picture, shifted)
    inner = flow[16:-16, 16:-16]
    assert abs(np.median(inner[..., 0]) - 3) < 0.1 and abs(np.median(inner[..., 1]) + 2) < 0.1
    x, y = np.split(to_picture(flow)[16:-16], 2, axis=1)
    assert abs(np.median(x) - 127.5 - 3 * 6.375) <= 1 and abs(np.median(y) - 127.5 + 2 * 6.375) <= 1


def test_levels_are_those_of_denseflow():
    """cvRound(255 * (v + 20) / 40), with 0 and 255 beyond; its ties go to the even number."""
    motion = np.zeros((1, 5, 2), np.float32)
    motion[0, :, 0] = [-30, -20, 0, 10, 25]
    motion[0, :, 1] = [20, 0.04, -0.04, 0.2, 1]
    assert to_picture(motion).tolist() == [[0, 0, 128, 191, 255, 255, 128, 127, 129, 134]]


def test_nothing_is_lost_on_disk(tmp_path):
    generator = np.random.default_rng(0)
    pictures = [generator.integers(0, 256, (36, 50), dtype=np.uint8) for _ in range(5)]
    times = [0.0, 0.04, 0.08, 0.2, 0.24]
    for name in ("first.mkv", "second.mkv"):
        _write_video(tmp_path / name, pictures, times, 25.0, "{}")
    assert (tmp_path / "first.mkv").read_bytes() == (tmp_path / "second.mkv").read_bytes()
    with open_video(tmp_path / "first.mkv") as file:
        assert file.pixel_format == "gray" and file.times == pytest.approx(times, abs=6e-4)
        frames = file.frames([0, 1, 2, 3, 4]).numpy()
    np.testing.assert_array_equal(frames, np.stack([np.repeat(one[..., None], 3, axis=2) for one in pictures]))


@pytest.fixture
def root(tmp_path) -> Path:
    return write_dataset(tmp_path / "data", num_train=6, num_val=4)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_a_prepared_folder_becomes_another(root, capsys):
    assert main(["flow", str(root), "--num_workers", "0"]) == 0
    flow = root.with_name("data_flow")
    report = capsys.readouterr().out
    assert "train: 6 of 6 videos" in report and "Optical flow (dis)" in report
    for split in ("train", "val"):
        before, after = read_index(root, split), read_index(flow, split)
        assert [(video.id, video.label, video.num_frames) for video in after] == [
            (video.id, video.label, video.num_frames - 1) for video in before
        ]
    for video in read_index(root, "val"):
        compute = flow_function("dis")
        with open_video(video.path) as file, open_video(flow / "clips" / f"{video.id}.mkv") as made:
            pictures = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in file.frames(list(range(12))).numpy()]
            expected = [to_picture(compute(*pair)) for pair in zip(pictures, pictures[1:])]
            np.testing.assert_array_equal(made.frames(list(range(11))).numpy()[..., 0], expected)
    # two processes write the same bytes; what is there is kept, unless it was made in another way
    compute_flow(root, root.with_name("again"), FlowSettings(), num_workers=2)
    assert files_of(root.with_name("again")) == files_of(flow)
    stamps = {path: path.stat().st_mtime_ns for path in flow.glob("clips/*")}
    compute_flow(root, flow, FlowSettings(), num_workers=0)
    assert {path: path.stat().st_mtime_ns for path in flow.glob("clips/*")} == stamps
    compute_flow(root, flow, FlowSettings(short_side=16), num_workers=0)
    assert all(path.stat().st_mtime_ns > stamp for path, stamp in stamps.items())
    assert json.loads((flow / "coverage.json").read_text())["optical_flow"]["short_side"] == 16


def test_what_has_no_flow_is_missing_and_says_why(root, capsys):
    (root / "clips" / "val_001.mp4").write_bytes(b"not a video")
    (root / "clips" / "train_003.mp4").unlink()
    assert main(["flow", str(root), "--num_workers", "0"]) == 0
    flow = root.with_name("data_flow")
    report = capsys.readouterr().out
    assert "val: 3 of 4 videos" in report and "1 missing: undecodable: " in report
    coverage = read_coverage(flow, "val")
    assert (coverage.num_expected, coverage.num_present, coverage.empty_classes) == (4, 3, [1])
    assert list(coverage.missing) == ["val_001"] and "val_001.mp4" in coverage.missing["val_001"]
    assert list(read_coverage(flow, "train").missing) == ["train_003"]
    assert [video.id for video in read_index(flow, "val")] == ["val_000", "val_002", "val_003"]


def test_parts_of_files_and_single_frames(root):
    """Of a part, the flow begins with it, and attribute spans move along; a single frame does not move."""
    rows = [
        {"id": "part", "file": "clips/val_000.mp4", "split": "val", "label": 0, "num_frames": 5}
        | {"fps": 25.0, "start": 0.2, "end": 0.4, "spans": [{"attribute": 1, "start": 0.24, "end": 0.36}]},
        {"id": "still", "file": "clips/still.mp4", "split": "val", "label": 1, "num_frames": 1, "fps": 25.0},
        {"id": "train", "file": "clips/train_000.mp4", "split": "train", "label": 0, "num_frames": 12, "fps": 25.0},
    ]
    write_index(root, rows)
    write_video(root / "clips" / "still.mp4", np.full((1, 32, 40, 3), 90, np.uint8), fps=25)
    flow = root.with_name("flow")
    compute_flow(root, flow, FlowSettings(), num_workers=0)
    part, still = read_index(flow, "val")
    assert (part.num_frames, part.start, part.end) == (4, None, None)
    assert part.spans == (AttributeSpan(1, pytest.approx(0.04), pytest.approx(0.16)),)
    with open_video(part.path) as file:
        frames = file.frames([0, 1, 2, 3]).numpy()
    with open_video(root / "clips" / "val_000.mp4") as file:
        grays = [cv2.cvtColor(one, cv2.COLOR_RGB2GRAY) for one in file.frames([5, 6, 7, 8, 9]).numpy()]
    compute = flow_function("dis")
    np.testing.assert_array_equal(frames[..., 0], [to_picture(compute(*pair)) for pair in zip(grays, grays[1:])])
    with open_video(still.path) as file:
        assert still.num_frames == 1 and (file.frames([0]).numpy() == 128).all()


def test_killed_and_resumed(root):
    """It is killed while it works; the same command ends with the bytes of an undisturbed run."""
    undisturbed, killed = root.with_name("undisturbed"), root.with_name("killed")
    compute_flow(root, undisturbed, FlowSettings(), num_workers=0)
    command = ["finegym", "flow", str(root), "--output", str(killed), "--num_workers", "0"]
    process = start_command(command, root, root.with_name("output"), root.with_name("errors"))
    while not list(killed.glob("clips/*.mkv")) and process.is_alive():
        time.sleep(0.002)
    process.kill()
    process.join()
    num_done = len(list(killed.glob("clips/*.mkv")))
    assert num_done > 0
    compute_flow(root, killed, FlowSettings(), num_workers=0)
    assert files_of(killed) == files_of(undisturbed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent"], "There is no folder absent."),
        (["data", "--output", "data"], "The output folder is the data set itself"),
        (["data", "--short_side", "8"], "short_side must be at least 16 pixels, got 8."),
        (["empty"], "labels.json"),
    ],
)
def test_mistakes(root, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(root.parent)
    (root.parent / "empty").mkdir()
    assert main(["flow", *arguments]) == 1
    errors = capsys.readouterr().err
    assert message in errors and errors.count("\n") == 1
