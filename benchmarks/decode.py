"""Measure clips per second and core, from a file with a short side of 256 to an augmented tensor, for this project and
four other decoders.

Every decoder reads the same frames of the same files, each file right after the other decoders have read it, on one
core with one thread. All but pytorchvideo hand their frames to this project's augmentation; pytorchvideo uses its
own, as its users do. Times are CPU seconds of the process, so that other work on the machine does not count.

The files have FineGym's lengths (validation videos: median 38 frames, four in five shorter than the 64 frames of the
paper's window) and are written as `finegym prepare` writes them.
"""

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path

import numpy as np
import torch


# Read when the library is imported.
os.environ["OPENCV_FFMPEG_THREADS"] = "1"

import cv2  # noqa: E402
import decord  # noqa: E402
import torchvision.transforms._functional_tensor  # noqa: E402


# pytorchvideo 0.1.5 imports this module by the name it had up to torchvision 0.16.
sys.modules["torchvision.transforms.functional_tensor"] = torchvision.transforms._functional_tensor

from pytorchvideo.data.encoded_video import EncodedVideo  # noqa: E402
from pytorchvideo.transforms import Normalize, RandomResizedCrop  # noqa: E402

from finegym.data.dataset import ClipDataset  # noqa: E402
from finegym.data.index import Video  # noqa: E402
from finegym.data.transforms import IMAGENET_MEAN, IMAGENET_STD, augment, clip_generator  # noqa: E402
from finegym.data.video_writing import write_video  # noqa: E402
from modeling_finegym.clip_sampling import random_clip  # noqa: E402
from modeling_finegym.video_decoding import open_video  # noqa: E402

from .common import write_results  # noqa: E402


try:
    from torchcodec.decoders import VideoDecoder
except (ImportError, RuntimeError, OSError):  # it needs a system FFmpeg
    VideoDecoder = None

# Deciles of the lengths of Gym99's validation videos (median 38, mean 50, 82 % below 64).
NUM_FRAMES = (17, 24, 29, 33, 38, 43, 50, 58, 90, 200)
HEIGHT, WIDTH, FPS = 256, 340, 25
CLIP = {"clip_len": 32, "frame_interval": 2}
AUGMENTATION = {"short_side": 256, "crop_size": 224, "scale": (0.08, 1.0), "ratio": (3 / 4, 4 / 3), "flip": 0.5}
TRANSFORM = partial(augment, **AUGMENTATION, mean=IMAGENET_MEAN, std=IMAGENET_STD)

Decode = Callable[[str, list[int]], torch.Tensor]


def film(num_frames: int, seed: int) -> np.ndarray:
    """Return (num_frames, 256, 340, 3) uint8: a camera pans over a textured hall in which a figure turns, with sensor
    noise."""
    draw = np.random.default_rng(seed)
    coarse = draw.integers(30, 220, (40, 80, 3)).astype(np.float32)
    hall = cv2.resize(coarse, (2 * WIDTH, HEIGHT + 64), interpolation=cv2.INTER_CUBIC)
    hall += draw.normal(0, 6, hall.shape)
    frames = np.empty((num_frames, HEIGHT, WIDTH, 3), np.uint8)
    for number in range(num_frames):
        left, top = int(number * (WIDTH / num_frames)), int(16 + 12 * np.sin(number / 9))
        frame = np.ascontiguousarray(hall[top : top + HEIGHT, left : left + WIDTH])
        center = (WIDTH // 2 + int(60 * np.sin(number / 7)), HEIGHT // 2 + int(40 * np.cos(number / 5)))
        cv2.ellipse(frame, center, (18, 60), number * 11, 0, 360, (60, 40, 170), -1)
        frames[number] = np.clip(frame + draw.normal(0, 2, frame.shape), 0, 255)
    return frames


def decode_ours(path: str, indices: list[int]) -> torch.Tensor:
    with open_video(path) as video:
        return video.frames(indices)


def decode_torchcodec(path: str, indices: list[int]) -> torch.Tensor:
    decoder = VideoDecoder(path, num_ffmpeg_threads=1, seek_mode="approximate")
    return decoder.get_frames_at(indices).data.permute(0, 2, 3, 1)


def decode_decord(path: str, indices: list[int]) -> torch.Tensor:
    return torch.from_numpy(decord.VideoReader(path, num_threads=1).get_batch(indices).asnumpy())


def decode_opencv(path: str, indices: list[int]) -> torch.Tensor:
    capture, wanted, frames = cv2.VideoCapture(path), set(indices), []
    for number in range(indices[-1] + 1):
        capture.grab()
        if number in wanted:
            frames.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
    capture.release()
    return torch.from_numpy(np.stack(frames))


def decode_pytorchvideo(path: str, indices: list[int]) -> torch.Tensor:
    """Return (3, N, H, W) float: what `get_clip` gives for the time from the first to the last of these frames."""
    video = EncodedVideo.from_path(path, decode_audio=False)
    start = indices[0] / FPS
    clip = video.get_clip(start, (indices[-1] + 0.5) / FPS)["video"]
    video.close()
    return clip[:, [index - indices[0] for index in indices]]


def item_of_peer(decode: Decode, video: Video, epoch: int) -> torch.Tensor:
    """Return what `ClipDataset` gives, with another decoder."""
    generator = clip_generator(0, epoch, video.id)
    indices = random_clip(video.num_frames, **CLIP, generator=generator)
    distinct = sorted(set(indices))
    frames = decode(str(video.path), distinct)
    return TRANSFORM(frames, generator)[[distinct.index(index) for index in indices]]


def item_of_pytorchvideo(video: Video, epoch: int) -> torch.Tensor:
    """Return (3, T, 224, 224), by pytorchvideo's decoder and transforms."""
    indices = random_clip(video.num_frames, **CLIP, generator=clip_generator(0, epoch, video.id))
    distinct = sorted(set(indices))
    frames = decode_pytorchvideo(str(video.path), distinct)[:, [distinct.index(index) for index in indices]]
    crop = RandomResizedCrop(
        AUGMENTATION["crop_size"], AUGMENTATION["crop_size"], AUGMENTATION["scale"], AUGMENTATION["ratio"]
    )
    frames = Normalize(IMAGENET_MEAN, IMAGENET_STD)(crop(frames / 255))
    return frames.flip(3) if torch.rand(()) < AUGMENTATION["flip"] else frames


def check_same_frames(videos: list[Video], decoders: dict[str, Decode]) -> None:
    """Check the frames: a decoder that gives other frames is not faster, it is wrong."""
    for video in videos:
        indices = list(range(0, video.num_frames, 3))
        ours = decode_ours(str(video.path), indices).float()
        for name, decode in decoders.items():
            frames = decode(str(video.path), indices).float()
            if name == "pytorchvideo":
                frames = frames.permute(1, 2, 3, 0)
            difference = (frames - ours).abs().mean().item()
            if difference > 1.5:
                raise ValueError(
                    f"{name} reads other frames of {video.id}: they differ by {difference:.1f} gray levels."
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    decoders = {"decord2": decode_decord, "opencv": decode_opencv, "pytorchvideo": decode_pytorchvideo}
    if VideoDecoder is None:
        print("torchcodec does not load here and is left out", flush=True)
    else:
        decoders["torchcodec"] = decode_torchcodec
    with tempfile.TemporaryDirectory() as folder:
        videos = []
        for number, num_frames in enumerate(NUM_FRAMES):
            path = Path(folder) / f"video{number}.mp4"
            write_video(path, film(num_frames, number), fps=FPS)
            videos.append(Video(path.stem, path, 0, num_frames))
        check_same_frames(videos, decoders)
        dataset = ClipDataset(videos, seed=0, **CLIP, transform=TRANSFORM)
        items = {name: partial(item_of_peer, decode) for name, decode in decoders.items() if name != "pytorchvideo"}
        items["pytorchvideo"] = item_of_pytorchvideo
        items["ours"] = lambda video, epoch: dataset[epoch, videos.index(video)]
        runs = measure(items, videos, rounds)
    report(runs, items)


def measure(items: dict[str, Callable], videos: list[Video], rounds: int) -> list[dict]:
    """Measure the CPU seconds of every decoder for every video in every round; the first round only warms up."""
    draw, runs = random.Random(0), []
    for epoch in range(rounds + 1):
        for video in videos:
            seconds = {}
            for name in draw.sample(sorted(items), len(items)):
                start = time.process_time()
                items[name](video, epoch)
                seconds[name] = time.process_time() - start
            if epoch:
                runs.append({"round": epoch, "num_frames": video.num_frames, "seconds": seconds})
    return runs


def report(runs: list[dict], items: dict[str, Callable]) -> None:
    """Take ratios within a video and round, and their median over all videos and rounds."""
    ratios = {
        name: statistics.median(run["seconds"][name] / run["seconds"]["ours"] for run in runs)
        for name in items
        if name != "ours"
    }
    figures = {f"speed_over_{name}": ratio for name, ratio in ratios.items()}
    figures["speed_over_fastest_peer"] = min(ratios.values())
    for name in items:
        total = sum(run["seconds"][name] for run in runs)
        figures[f"{name}.clips_per_second_and_core"] = len(runs) / total
    versions = {name: metadata.version(name) for name in ("decord2", "opencv-contrib-python-headless")}
    if VideoDecoder is not None:
        versions["torchcodec"] = metadata.version("torchcodec")
    write_results("decode", figures=figures, runs=[{"peers": versions}, *runs])


if __name__ == "__main__":
    main()
