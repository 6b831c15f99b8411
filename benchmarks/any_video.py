"""Measure whether any video gives the right frames at the right times, and what that certainty costs.

Frames: every file of the tests' zoo (packed and unpacked B-frames, pictures that are not coded, fields, open GOPs,
edit lists, program and transport streams, ...) is read frame by frame, sparsely and in order, and compared bit for bit
with libavcodec's plain decoding of the whole file.

Rates: SynthGym's validation videos are written at other frame rates and classified by time; the figure is the largest
loss of top-1, in points, against the original videos.

Speed: this code and an earlier checkout (`--before`) take turns loading training clips, each in its own process; the
figure is the median of the ratios of CPU seconds within a file and round.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch

from finegym.data.index import Video, read_index
from finegym.data.video_writing import ClipWriter, write_video
from modeling_finegym.clip_sampling import resample
from modeling_finegym.clip_scoring import score_videos
from modeling_finegym.video_decoding import VideoDecodingError, open_video

from .common import write_results


ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from video_zoo import build_zoo  # noqa: E402


RATES = (12.5, 25.0, 30.0, 50.0, 60.0)
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


def write_at_rate(source: Video, target: Path, rate: float | None) -> None:
    """Return a video as a camera of another rate would have filmed it; None means a varying rate."""
    with open_video(source.path) as file:
        first, stop = file.index_range(source.start, source.end)
        seconds = np.array(file.times[first:stop]) - file.times[first]
        duration = seconds[-1] + 1 / file.fps
        if rate is None:
            draw = np.random.default_rng(0)
            times = np.concatenate([[0.0], np.cumsum(draw.choice([0.016, 0.033, 0.05], 10_000))])
            times = times[times < duration]
            indices = np.abs(seconds[None] - times[:, None]).argmin(1).tolist()
        else:
            indices = resample(seconds.tolist(), rate, 1 / file.fps)
            times = np.arange(len(indices)) / rate
        with ClipWriter(target, fps=rate or 30) as writer:
            frames = dict(file.decode(range(first, stop)))
            for index, moment in zip(indices, times):
                writer.write(frames[first + index], float(moment))


def top1_by_rate(checkpoint: str, root: Path, num_videos: int) -> list[dict]:
    from finegym.evaluation.predict import load_pipeline

    classify = load_pipeline(checkpoint)
    videos = read_index(root, "val")
    videos = random.Random(0).sample(videos, min(num_videos, len(videos)))
    labels = torch.tensor([video.label for video in videos])

    def top1(paths: Iterator[tuple[Path, float | None, float | None]]) -> float:
        loaded = (classify.video_processor.load_clips(path, start=start, end=end) for path, start, end in paths)
        scores = torch.stack([result.scores for result in score_videos(classify.model, loaded, 32)])
        return 100 * (scores.argmax(1) == labels).float().mean().item()

    original = top1((video.path, video.start, video.end) for video in videos)
    runs = [{"rate": "as it is", "top1": original, "drop": 0.0}]
    for rate in (*RATES, None):
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{number}.mp4" for number in range(len(videos))]
            for video, file in zip(videos, files):
                write_at_rate(video, file, rate)
            accuracy = top1((file, None, None) for file in files)
        runs.append({"rate": rate or "variable", "top1": accuracy, "drop": original - accuracy})
        print(runs[-1], flush=True)
    return runs


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
    parser.add_argument("--root", type=Path, default=Path("data/synthgym"))
    parser.add_argument("--num_videos", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=12)
    options = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        zoo = [count_wrong_frames(path) for path in build_zoo(Path(folder)).values()]
    figures: dict[str, float] = {
        "files": len(zoo),
        "wrong_frames": sum(file["wrong_frames"] for file in zoo),
        "refused_intact": sum(file["refused"] is not None for file in zoo),
    }
    runs: list[dict] = [{"zoo": zoo}]
    if options.checkpoint:
        rates = top1_by_rate(options.checkpoint, options.root, options.num_videos)
        figures["largest_frame_rate_drop"] = max(rate["drop"] for rate in rates)
        runs.append({"rates": rates})
    if options.before:
        ratios = speed_ratios(options.before.resolve(), options.rounds)
        figures["decode_ratio_before_after"] = statistics.median(
            run["seconds"]["before"] / run["seconds"]["after"] for run in ratios
        )
        runs.append({"speed": ratios})
    runs.append({"seconds": time.perf_counter() - start})
    write_results("any_video", figures=figures, runs=runs)
    print(json.dumps([file for file in zoo if file["wrong_frames"] or file["refused"]], indent=1))


if __name__ == "__main__":
    main()
