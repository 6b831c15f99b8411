"""Measure whether any video gives the right frames at the right times, and what that certainty costs.

Frames: every file of the tests' zoo (packed and unpacked B-frames, pictures that are not coded, fields, open GOPs,
edit lists, program and transport streams, ...) is read frame by frame, sparsely and in order, and compared bit for bit
with libavcodec's plain decoding of the whole file.

Rates: SynthGym's validation videos are filmed again at other frame rates, and resampled to them, and classified by
time; the figure is the largest loss of top-1, in points, against the original videos. The same for other forms: XviD
with packed B-frames, turned on its side, ten bits, ...

Speed: this code and an earlier checkout (`--before`) take turns loading training clips, each in its own process; the
figure is the median of the ratios of CPU seconds within a file and round.
"""

import argparse
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch

from finegym.data.index import Video, read_index
from finegym.data.video_writing import VideoWriter, write_video
from finegym.evaluation.predict import load_pipeline
from modeling_finegym.clip_scoring import score_videos
from modeling_finegym.video_decoding import VideoDecodingError, open_video

from .common import write_results


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from forms import FORMS, resample_file, times_at  # noqa: E402
from reshooting import film_at, performances_of  # noqa: E402
from video_zoo import build_zoo  # noqa: E402


RATES = (12.5, 50.0, "variable", 60.0, 30.0, 25.0)
OTHER_FORMS = ("xvid_packed.avi", "rotated.mp4", "ten_bits.mp4")
CLIPS_PER_PASS = 32
# Another checkout runs this: it loads a training clip for every line on its input and answers with CPU seconds.
SERVER = """
import sys, time, functools, torch
from pathlib import Path
from finegym.data import dataset, index
from finegym.data.transforms import augment
torch.set_num_threads(1)
Row = getattr(index, "Video", None) or index.Clip
rows = [Row(id=path.stem, path=path, label=0, num_frames=0) for path in map(Path, sys.argv[1:])]
transform = functools.partial(augment, short_side=256, crop_size=224)
clips = dataset.ClipDataset(rows, seed=0, clip_len=32, frame_interval=2, transform=transform)
print("ready", flush=True)
for line in sys.stdin:
    epoch, number = map(int, line.split())
    start = time.process_time()
    clips[epoch, number]
    print(time.process_time() - start, flush=True)
"""


def count_wrong_frames(path: Path) -> dict:
    """Compare every way of reading a file with the decoder's own frames."""
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    count, draw = len(expected), random.Random(0)
    reads = [[number] for number in range(count)] + [list(range(count)), list(range(1, count, 3))]
    reads += [draw.sample(range(count), 5) for _ in range(5)]
    num_wrong, refused = 0, None
    try:
        with open_video(path) as video:
            num_wrong += abs(video.num_frames - count)
            for indices in reads:
                found = video.frames([index for index in indices if index < video.num_frames]).numpy()
                num_wrong += sum(not np.array_equal(*pair) for pair in zip(found, (expected[i] for i in indices)))
    except VideoDecodingError as error:
        refused = str(error)
    return {"file": path.name, "num_frames": count, "wrong_frames": num_wrong, "refused": refused}


def _drawn(folder: Path, videos: list[Video], root: Path, rate: float | str) -> Iterator[Path]:
    """Write SynthGym's performances as their camera would have filmed them at another rate."""
    performances = performances_of(root)
    for number, video in enumerate(videos):
        shown = performances[video.id]
        times = times_at(rate, shown.num_frames / shown.fps)
        with open_video(video.path) as file:
            frames = film_at(shown, times, file.width)
        path = folder / f"{number}.mp4"
        with VideoWriter(path, fps=len(times) * shown.fps / shown.num_frames) as writer:
            for frame, time_shown in zip(frames, times):
                writer.write(av.VideoFrame.from_ndarray(frame, format="rgb24"), float(time_shown))
        yield path


def _written(folder: Path, videos: list[Video], write: Callable[[Path, Path], None], suffix: str) -> Iterator[Path]:
    for number, video in enumerate(videos):
        write(video.path, folder / f"{number}{suffix}")
        yield folder / f"{number}{suffix}"


def accuracies(checkpoint: str, root: Path, num_videos: int) -> Iterator[dict]:
    """Classify validation videos as they are, at other frame rates and in other forms, all by time."""
    classify = load_pipeline(checkpoint)
    videos = read_index(root, "val")
    videos = random.Random(0).sample(videos, min(num_videos, len(videos)))
    labels = torch.tensor([video.label for video in videos])
    kinds: dict[tuple[str, str | float], Callable[[Path], Iterator[Path]]] = {}
    for rate in RATES:
        kinds["drawn", rate] = partial(_drawn, videos=videos, root=root, rate=rate)
        kinds["resampled", rate] = partial(_written, videos=videos, write=partial(resample_file, rate), suffix=".mp4")
    for name in OTHER_FORMS:
        kinds["form", name] = partial(_written, videos=videos, write=FORMS[name], suffix=Path(name).suffix)

    known: dict[bytes, int] = {}  # most clips of a resampled file are those of the original, bit for bit

    def predict(path: Path) -> int:
        clips = classify.video_processor.load_clips(path)
        key = hashlib.sha256(clips.pixel_values.numpy().tobytes()).digest()
        if key not in known:
            [result] = score_videos(classify.model, [clips], CLIPS_PER_PASS)
            known[key] = int(result.scores.argmax())
        return known[key]

    def are_right(paths: Iterable[Path]) -> torch.Tensor:
        return torch.tensor([predict(path) for path in paths]) == labels

    original = are_right(video.path for video in videos)
    yield {
        "kind": "original",
        "model": classify.model.config.model_type,
        "num_videos": len(videos),
        "top1": 100 * original.double().mean().item(),
    }
    for (kind, which), write in kinds.items():
        with tempfile.TemporaryDirectory() as folder:
            right = are_right(write(Path(folder)))
        yield {
            "kind": kind,
            "which": which,
            "top1": 100 * right.double().mean().item(),
            "drop": 100 * (original.double() - right.double()).mean().item(),
            "num_lost": int((original & ~right).sum()),
            "num_won": int((right & ~original).sum()),
        }


def speed_ratios(before: Path, rounds: int) -> list[dict]:
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, num_frames in enumerate((17, 24, 29, 33, 38, 43, 50, 58, 90, 200)):
            noise = draw.integers(0, 40, (num_frames, 256, 340, 3), dtype=np.uint8)
            hall = np.linspace(40, 200, 340 + num_frames).astype(np.uint8)
            frames = [noise[place] + hall[None, place : place + 340, None] for place in range(num_frames)]
            write_video(Path(folder) / f"{number}.mp4", frames, fps=25)
            files.append(f"{folder}/{number}.mp4")
        servers = {}
        for name, checkout in (("before", before), ("after", ROOT)):
            servers[name] = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", SERVER, *files],
                cwd=checkout,
                env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            servers[name].stdout.readline()
        runs = []
        for epoch in range(rounds + 1):
            for number in range(len(files)):
                seconds = {}
                for name in random.sample(sorted(servers), 2):
                    servers[name].stdin.write(f"{epoch} {number}\n")
                    servers[name].stdin.flush()
                    seconds[name] = float(servers[name].stdout.readline())
                if epoch:
                    runs.append({"file": number, "round": epoch, "seconds": seconds})
        for server in servers.values():
            server.stdin.close()
            server.wait()
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="an earlier checkout, to compare the speed with")
    parser.add_argument("--checkpoint", help="a model trained on SynthGym")
    parser.add_argument(
        "--root", type=Path, default=Path("data/synthgym"), help="SynthGym, as `finegym synthgym` draws it"
    )
    parser.add_argument("--num_videos", type=int, default=400, help="how many validation videos to classify")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--smoke", action="store_true", help="eight videos and one round; writes no result")
    options = parser.parse_args()
    if options.smoke:
        options.num_videos, options.rounds = 8, 1
    start = time.perf_counter()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        zoo = [count_wrong_frames(path) for path in build_zoo(Path(folder)).values()]
    figures: dict[str, float] = {
        "files": len(zoo),
        "wrong_frames": sum(file["wrong_frames"] for file in zoo),
        "refused_intact": sum(file["refused"] is not None for file in zoo),
    }
    print(json.dumps([file for file in zoo if file["wrong_frames"] or file["refused"]], indent=1), flush=True)
    runs: dict[str, list[dict]] = {"zoo": zoo}

    def save() -> None:
        if options.smoke:
            print(figures, flush=True)
        else:
            seconds = time.perf_counter() - start
            write_results(
                "any_video",
                figures=figures,
                runs=[{name: part} for name, part in runs.items()] + [{"seconds": seconds}],
            )

    if options.before:
        runs["speed"] = speed_ratios(options.before.resolve(), options.rounds)
        ratios = [run["seconds"]["before"] / run["seconds"]["after"] for run in runs["speed"]]
        figures["decode_ratio_before_after"] = statistics.median(ratios)
    save()
    if options.checkpoint:
        runs["accuracies"] = []
        for run in accuracies(options.checkpoint, options.root, options.num_videos):
            print(run, flush=True)
            runs["accuracies"].append(run)
            figures |= _largest_drops(runs["accuracies"])
            save()


def _largest_drops(runs: list[dict]) -> dict[str, float]:
    """Return the largest losses of top-1, in points, over the frame rates and over the other forms."""
    drops: dict[str, list[float]] = {"largest_frame_rate_drop": [], "largest_form_drop": []}
    for run in runs[1:]:
        drops["largest_form_drop" if run["kind"] == "form" else "largest_frame_rate_drop"].append(run["drop"])
    return {name: max(values) for name, values in drops.items() if values}


if __name__ == "__main__":
    main()
