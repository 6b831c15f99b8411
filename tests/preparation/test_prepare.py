import io
import json
import os
import random
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import datasets
import numpy as np
import pytest
from footage import encode, mark_rotated, numbers_of, picture

from finegym.commands.prepare import prepare
from finegym.data.index import read_coverage, read_index
from finegym.data.labels import ActionClass, Labels
from finegym.data.worker_pool import server_context
from finegym.preparation.annotations import EVENT_ID_LENGTH, VIDEO_ID_LENGTH
from finegym.synthgym.generate import write_routines
from modeling_finegym.video_decoding import open_video


SYNTHGYM = Path(__file__).parents[2] / "configuration" / "synthgym" / "labels.json"

# Two events of one video, with a vault in three stages, and one of another video; the times below set what is cut.
VIDEO, OTHER = "-a_B-c_D_E_", "0LtLS9wROrk"
ANNOTATION = {
    VIDEO: {
        "E_000002_000006": {
            "event": 4,
            "timestamps": [[2.013, 6.2]],
            "segments": {
                "A_0000_0001": {"stages": 1, "timestamps": [[0.1, 1.0]]},
                "A_0001_0002": {"stages": 1, "timestamps": [[1.0, 2.009]]},
                "A_0003_0003": {"stages": 1, "timestamps": [[3.0, 3.7]]},
            },
        },
        "E_000007_000009": {
            "event": 1,
            "timestamps": [[7.0, 9.0]],
            "segments": {"A_0000_0001": {"stages": 3, "timestamps": [[0.2, 0.5], [0.5, 0.9], [0.9, 1.4]]}},
        },
        "E_000009_000010": {"event": 2, "timestamps": [[9.0, 10.0]], "segments": None},
    },
    OTHER: {
        "E_000000_000002": {
            "event": 3,
            "timestamps": [[0.0, 2.0]],
            "segments": {"A_0000_0001": {"stages": 1, "timestamps": [[0.0, 1.0]]}},
        }
    },
}
LABELS = Labels("mini", [ActionClass(label, name, name) for label, name in enumerate(("kip", "vault", "turn"))], [])
TIMES_OF = {  # seconds in the full video
    f"{VIDEO}_E_000002_000006_A_0000_0001": (2.113, 3.013),
    f"{VIDEO}_E_000002_000006_A_0001_0002": (3.013, 4.022),
    f"{VIDEO}_E_000002_000006_A_0003_0003": (5.013, 5.713),
    f"{VIDEO}_E_000007_000009_A_0000_0001": (7.2, 8.4),
    f"{OTHER}_E_000000_000002_A_0000_0001": (0.0, 1.0),
}
TRAIN, VAL = dict(zip(list(TIMES_OF)[:3], (0, 0, 2))), dict(zip(list(TIMES_OF)[3:], (1, 2)))


@pytest.fixture
def annotations(tmp_path) -> Path:
    folder = tmp_path / "annotations"
    folder.mkdir()
    (folder / "finegym_annotation_info_v1.0.json").write_text(json.dumps(ANNOTATION))
    for name, videos in (("mini_train_element_v1.0.txt", TRAIN), ("mini_val_element.txt", VAL)):
        (folder / name).write_text("".join(f"{video_id} {label}\n" for video_id, label in videos.items()))
    LABELS.write(folder / "labels.json")
    return folder


def arguments(tmp_path: Path, **changes) -> dict:
    annotations = tmp_path / "annotations"
    options = {"dataset": "mini", "annotations": annotations, "labels": annotations / "labels.json"}
    options |= {"source": tmp_path / "source", "root": tmp_path / "root", "short_side": 64, "num_workers": 0}
    return options | changes


def run(tmp_path: Path, **changes) -> str:
    return prepare(**arguments(tmp_path, **changes))


def shown(root: Path) -> dict[str, list[int]]:
    """Return the frame numbers that every video of the index shows."""
    numbers = {}
    for split in ("train", "val"):
        for video in read_index(root, split):
            with open_video(video.path) as file:
                assert video.num_frames == file.num_frames
                numbers[video.id] = numbers_of(file.frames(list(range(file.num_frames))))
    return numbers


def expected_numbers(times, video_ids=TIMES_OF) -> dict[str, list[int]]:
    """Compute what must be shown from the frame times alone."""
    times = np.round(np.asarray(times), 3)
    return {
        video_id: [
            number for number, time in enumerate(times) if TIMES_OF[video_id][0] <= time < TIMES_OF[video_id][1]
        ]
        for video_id in video_ids
    }


STEADY = np.arange(300) / 30
VARIABLE = np.cumsum(np.random.default_rng(1).choice([0.017, 0.033, 0.055], 400))
SHAPES = {
    "steady.mp4": (STEADY, (64, 96), {"g": "250", "bf": "3", "preset": "fast"}, 0.0),
    "variable rate.mp4": (VARIABLE - VARIABLE[0], (64, 96), {"g": "60", "bf": "4", "preset": "medium"}, 0.0),
    "late start.mkv": (STEADY, (64, 96), {"g": "100", "preset": "fast"}, 11.5),
    "odd size.mkv": (STEADY, (77, 113), {"codec": "libx264rgb", "pixel_format": "rgb24", "qp": "8"}, 0.0),
    "sound.mp4": (STEADY, (64, 96), {"g": "50", "audio": True}, 0.0),
    "larger.webm": (STEADY, (160, 96), {"codec": "libvpx-vp9", "deadline": "realtime", "cpu-used": "8"}, 0.0),
}


@pytest.mark.parametrize("name", SHAPES)
def test_clips_of_full_videos_are_frame_exact(tmp_path, annotations, name):
    times, (height, width), options, offset = SHAPES[name]
    frames = [picture(number, height, width) for number in range(len(times))]
    encode(tmp_path / "source" / f"{VIDEO}{Path(name).suffix}", frames, times + offset, **options)
    report = run(tmp_path)
    wanted = expected_numbers(times, [*TRAIN, list(VAL)[0]])
    assert shown(tmp_path / "root") == wanted
    for video in read_index(tmp_path / "root", "train"):
        with open_video(video.path) as file:
            assert min(file.width, file.height) == 64
            frames = file.frames([0]).numpy()[0]
            assert frames.shape[1] / frames.shape[0] == pytest.approx(width / height, abs=0.02)
    assert "train: 3 of 3 videos" in report and f"1 missing: video absent: {OTHER}" in report


def test_a_rotated_video_is_turned_upright(tmp_path, annotations):
    path = tmp_path / "source" / f"{VIDEO}.mp4"
    encode(path, [np.rot90(picture(number), 1) for number in range(300)], STEADY)
    mark_rotated(path)
    run(tmp_path)
    assert shown(tmp_path / "root") == expected_numbers(STEADY, [*TRAIN, list(VAL)[0]])


def test_event_clips_sub_action_clips_and_shards_give_the_same(tmp_path, annotations):
    video = [picture(number) for number in range(300)]
    source = tmp_path / "source"
    start = int(np.ceil(2.013 * 30))  # the file of an event starts at the event's first frame
    encode(source / "deep" / "down" / f"{VIDEO}_E_000002_000006.mp4", video[start:187], STEADY[: 187 - start])
    vault, turn = list(VAL)
    encode(tmp_path / "clip.mp4", video[216:252], STEADY[:36])
    encode(tmp_path / "turn.mp4", video[:30], STEADY[:30])
    with tarfile.open(source / "shard-000.tar", "w") as shard:
        shard.add(tmp_path / "clip.mp4", f"vault/{vault}.mp4")
        shard.add(tmp_path / "turn.mp4", f"{turn}.mp4")
    run(tmp_path)
    result = shown(tmp_path / "root")
    assert result[vault] == list(range(216, 252)) and result[turn] == list(range(30))
    # The event file's own time starts up to a frame after the event: the cut may differ by that frame, and no more.
    for video_id, numbers in expected_numbers(STEADY, TRAIN).items():
        assert len(set(result[video_id]) ^ set(numbers)) <= 2
        assert result[video_id] == list(range(result[video_id][0], result[video_id][-1] + 1))


def test_a_full_video_comes_before_somebody_elses_cut(tmp_path, annotations):
    source = tmp_path / "source"
    encode(source / f"{VIDEO}.mp4", [picture(number) for number in range(300)], STEADY)
    encode(source / f"{list(TRAIN)[0]}.mp4", [picture(4000)] * 9, STEADY[:9])
    run(tmp_path)
    assert shown(tmp_path / "root")[list(TRAIN)[0]] == expected_numbers(STEADY)[list(TRAIN)[0]]


def test_file_names_of_yt_dlp_are_understood(tmp_path, annotations):
    encode(tmp_path / "source" / f"Worlds 2017 [HD] [{VIDEO}].mp4", [picture(n) for n in range(300)], STEADY)
    run(tmp_path)
    assert len(read_index(tmp_path / "root", "train")) == 3


def test_the_report_names_every_missing_clip_and_what_it_costs(tmp_path, annotations):
    source = tmp_path / "source"
    encode(source / f"{VIDEO}.mp4", [picture(number) for number in range(165)], STEADY[:165])  # ends at 5.5 s
    (source / f"{OTHER}.mp4").write_bytes(b"no video at all")
    (source / "rest.tar.gz").write_bytes(b"")
    report = run(tmp_path)
    root = tmp_path / "root"
    train = read_coverage(root, "train")
    assert (train.num_present, train.num_expected, train.empty_classes) == (2, 3, [1, 2])
    assert train.missing == {list(TRAIN)[2]: "video too short: it ends at 5.50 s, the segment at 5.71 s"}
    assert train.annotation_version == "v1.0"
    content = json.loads((root / "coverage.json").read_text())
    assert content["splits"]["val"]["num_present"] == 0
    assert content["splits"]["val"]["missing_by_reason"] == {"video too short": 1, "text": 1}
    assert f"{OTHER}.mp4" in content["splits"]["val"]["missing"][list(VAL)[1]]
    assert content["files_not_used"] == {"rest.tar.gz": "compressed archive: unpack it first"}
    assert "train: 2 of 3 videos (66.7 %)" in report and "val: 0 of 2 videos" in report
    assert "classes without a train video, because the annotation lists none: 1 'vault'" in report
    assert "classes without a train video, because all are missing: 2 'turn'" in report


def test_the_ceiling_on_mean_class_accuracy(tmp_path, annotations):
    source = tmp_path / "source"
    for name, length in ((VIDEO, 300), (OTHER, 60)):
        encode(source / f"{name}.mp4", [picture(number) for number in range(length)], STEADY[:length])
    report = run(tmp_path)
    # vault is validated on and never trained on; turn is both; kip is never validated on
    assert json.loads((tmp_path / "root" / "coverage.json").read_text())["mean_class_accuracy_ceiling"] == 50
    assert "No model can reach more than 50.00 %" in report


def test_the_index_is_a_table_that_datasets_reads(tmp_path, annotations):
    encode(tmp_path / "source" / f"{VIDEO}.mp4", [picture(number) for number in range(300)], STEADY)
    run(tmp_path)
    index = str(tmp_path / "root" / "index.parquet")
    table = datasets.load_dataset("parquet", data_files=index, split="train", cache_dir=str(tmp_path / "cache"))
    assert sorted(table["id"]) == sorted([*TRAIN, list(VAL)[0]])
    assert table[0]["fps"] == pytest.approx(30, abs=0.1)


def test_nothing_that_fits_is_said_with_the_names_expected(tmp_path, annotations):
    encode(tmp_path / "source" / "holiday.mp4", [picture(0)] * 3, STEADY[:3])
    with pytest.raises(ValueError, match=r"holiday\.mp4.*-a_B-c_D_E_\.mp4.*finegym import"):
        run(tmp_path)
    (annotations / "finegym_annotation_info_v1.0.json").unlink()
    encode(tmp_path / "source" / f"{VIDEO}.mp4", [picture(0)] * 3, STEADY[:3])
    with pytest.raises(ValueError, match=r"finegym_annotation_info_v1\.0\.json.*finegym fetch"):
        run(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        run(tmp_path, source=tmp_path / "nowhere")


def member(name: str, content: bytes = b"", **fields) -> tuple[tarfile.TarInfo, io.BytesIO]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, io.BytesIO(content)


def test_hostile_archives_write_nothing_outside_and_are_reported(tmp_path, annotations):
    source = tmp_path / "source"
    encode(source / f"{VIDEO}.mp4", [picture(number) for number in range(300)], STEADY)
    video = f"{list(VAL)[1]}.mp4"
    with tarfile.open(source / "hostile.tar", "w") as archive:
        archive.addfile(*member(f"../../{video}", b"x"))
        archive.addfile(*member(f"/tmp/{video}", b"x"))
        archive.addfile(*member(f"link/{video}", type=tarfile.SYMTYPE, linkname="/etc/passwd"))
        archive.addfile(*member(f"hard/{video}", type=tarfile.LNKTYPE, linkname="/etc/passwd"))
        archive.addfile(*member(f"device/{video}", type=tarfile.CHRTYPE))
    with tarfile.open(source / "bomb.tar", "w") as archive:
        archive.addfile(*member(video, b"x"))
    content = bytearray((source / "bomb.tar").read_bytes())
    info = tarfile.TarInfo(video)
    info.size = 9 * 1024**3
    content[:512] = info.tobuf(tarfile.GNU_FORMAT)
    (source / "bomb.tar").write_bytes(content)
    (source / "noise.tar").write_bytes(os.urandom(2048))
    before = set(tmp_path.rglob("*"))
    run(tmp_path)
    refused = json.loads((tmp_path / "root" / "coverage.json").read_text())["files_not_used"]
    reasons = [reason for name, reason in refused.items()]
    assert len([reason for reason in reasons if reason == "its path leaves the archive"]) == 2
    assert len([reason for reason in reasons if reason == "not a regular file"]) == 3
    assert "it claims 9663676416 bytes" in reasons and refused["noise.tar"].startswith("not a readable tar")
    written = set(tmp_path.rglob("*")) - before
    assert all(path.is_relative_to(tmp_path / "root") for path in written)


def test_an_index_is_byte_identical_whatever_the_order_of_work(tmp_path, annotations):
    encode(tmp_path / "source" / f"{VIDEO}.mp4", [picture(number) for number in range(300)], STEADY)
    encode(tmp_path / "source" / f"{OTHER}.mp4", [picture(number) for number in range(60)], STEADY[:60])
    run(tmp_path)
    first = snapshot(tmp_path / "root")
    (tmp_path / "root").rename(tmp_path / "first")
    run(tmp_path, num_workers=2)
    assert snapshot(tmp_path / "root") == first


def test_clips_made_in_another_way_are_made_anew(tmp_path, annotations):
    encode(tmp_path / "source" / f"{VIDEO}.mp4", [picture(number) for number in range(300)], STEADY)
    run(tmp_path)
    before = snapshot(tmp_path / "root")
    video = read_index(tmp_path / "root", "train")[0].path
    made = video.stat().st_mtime_ns
    run(tmp_path)
    assert video.stat().st_mtime_ns == made
    run(tmp_path, short_side=32)
    with open_video(video) as file:
        assert (file.width, file.height) == (48, 32)
    run(tmp_path)
    assert snapshot(tmp_path / "root") == before


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def whole_clips(root: Path) -> None:
    """Every video that can be seen can be read to its end."""
    for path in root.rglob("*.mp4"):
        if not path.name.startswith("."):
            with open_video(path) as file:
                file.frames([0, file.num_frames - 1])


def hold_to_an_undisturbed_run(tmp_path: Path) -> None:
    assert snapshot(tmp_path / "root") == snapshot(tmp_path / "undisturbed")
    assert not list(tmp_path.rglob("*.partial"))


def test_a_killed_run_goes_on_to_the_same_result(tmp_path, annotations):
    for name, length in ((VIDEO, 300), (OTHER, 60)):
        frames = [picture(number, 240, 320) for number in range(length)]
        encode(tmp_path / "source" / f"{name}.mp4", frames, STEADY[:length])
    started = time.monotonic()
    run(tmp_path, short_side=128)
    duration = time.monotonic() - started
    (tmp_path / "root").rename(tmp_path / "undisturbed")
    context = server_context("finegym.commands.prepare")
    draw = random.Random(0)
    for _ in range(4):
        # from a server and not from this process, which shares the lock of its progress bars with its forks
        process = context.Process(target=prepare, kwargs=arguments(tmp_path, short_side=128))
        process.start()
        time.sleep(draw.uniform(0.1, 0.9) * duration)
        process.kill()
        process.join()
        whole_clips(tmp_path / "root")
    run(tmp_path, short_side=128)
    hold_to_an_undisturbed_run(tmp_path)


IN_A_PROCESS = """
import sys
from pathlib import Path
from finegym.commands.prepare import prepare
if __name__ == "__main__":
    folder, root, labels = map(Path, sys.argv[1:])
    print("ready", flush=True)
    options = {"dataset": "synthgym", "annotations": folder / "annotations", "labels": labels}
    prepare(folder / "videos", root, **options, short_side=112, num_workers=2)
"""


@pytest.mark.slow
def test_a_run_of_two_workers_killed_twenty_times_goes_on_to_the_same_result(tmp_path):
    write_routines(tmp_path, num_performances=40, size=112)
    arguments = [sys.executable, "-c", IN_A_PROCESS, tmp_path]
    started = time.monotonic()
    subprocess.run([*arguments, tmp_path / "undisturbed", SYNTHGYM], check=True, stderr=subprocess.DEVNULL)
    duration = time.monotonic() - started
    draw = random.Random(0)
    for _ in range(20):
        with subprocess.Popen(
            [*arguments, tmp_path / "root", SYNTHGYM], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            process.stdout.readline()
            time.sleep(draw.uniform(0.1, 0.6) * duration)
            process.kill()
        whole_clips(tmp_path / "root")
    subprocess.run([*arguments, tmp_path / "root", SYNTHGYM], check=True, stderr=subprocess.DEVNULL)
    hold_to_an_undisturbed_run(tmp_path)


def test_routines_of_rendered_gymnasts_come_back_as_rendered(tmp_path):
    truth = write_routines(tmp_path, num_performances=6, size=112)
    options = {"dataset": "synthgym", "annotations": tmp_path / "annotations", "labels": SYNTHGYM}
    prepare(tmp_path / "videos", tmp_path / "root", **options, short_side=112, num_workers=0)
    videos = [*read_index(tmp_path / "root", "train"), *read_index(tmp_path / "root", "val")]
    assert {video.id for video in videos} == truth.keys()
    for video in videos:
        with open_video(video.path) as file:
            frames = file.frames(list(range(file.num_frames))).numpy().astype(int)
        assert frames.shape == truth[video.id].shape
        per_frame = np.abs(frames - truth[video.id]).mean((1, 2, 3))
        assert per_frame.max() < 5  # gray levels of coding noise, twice; the gray of a pause is 20 and more away
        assert np.abs(truth[video.id].astype(int) - 128).mean((1, 2, 3)).min() > 15


def test_ids_are_taken_apart_at_fixed_offsets():
    for video_id in TIMES_OF:
        assert video_id[:VIDEO_ID_LENGTH] in (VIDEO, OTHER)
        assert video_id[VIDEO_ID_LENGTH:EVENT_ID_LENGTH].startswith("_E_")
