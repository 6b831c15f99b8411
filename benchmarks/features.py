"""Measure what it saves to compute a frozen backbone's features once: `python -m benchmarks.features`.

Full-size models run on clips of 32 x 224 x 224 pixels from mp4 files. Every round measures, one after another on the
same batch, the training step of each encoder on cached features (including reading them), decoding and augmenting the
batch, our backbone and pytorchvideo's. An online step is decoding + backbone + encoder, as in training without a
cache.

The cost of the protocol is measured on videos with FineGym's lengths, against eight clips read and run one by one.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from benchmarks.common import median_ratio, time_in_turns, write_results
from finegym.data.dataset import ClipDataset, StepSampler, collate
from finegym.data.index import Video
from finegym.data.labels import Labels
from finegym.data.transforms import augment
from finegym.data.video_writing import write_video
from finegym.evaluation.protocol import evaluate
from finegym.features.cache import build_features
from finegym.features.dataset import FeatureDataset
from finegym.features.views import TrainingViews
from modeling_finegym import (
    FineGymVideoProcessor,
    FineGymVideoTextConfig,
    FineGymVideoTextForVideoClassification,
    FineGymVisionConfig,
    FineGymVisionForVideoClassification,
    SlowOnlyConfig,
    SlowOnlyForVideoClassification,
)
from modeling_finegym.clip_sampling import clip_indices, sample_clips
from modeling_finegym.video_decoding import open_video


LABELS = Path(__file__).resolve().parent.parent / "configuration" / "gym99" / "labels.json"
# Gym99's validation videos by event: number, median and 95th percentile of their lengths in frames (in TQN's
# extraction). Log-normal lengths with these values have median 38, mean 49, 82.6 % under 64 and maximum 472 over all
# events; the real lengths 38, 49.9, 82.3 % and 483.
LENGTHS = {"VT": (446, 195, 289), "UB": (2814, 49, 88), "FX": (2226, 32, 66), "BB": (3035, 29, 72)}


def draw_lengths(num_videos: int, generator: np.random.Generator) -> np.ndarray:
    """Return lengths in frames at evenly spaced quantiles of FineGym's distribution, in random order. (num_videos,)"""
    draws = [
        np.exp(generator.normal(np.log(median), np.log(high / median) / 1.645, size=20 * count))
        for count, median, high in LENGTHS.values()
    ]
    lengths = np.quantile(np.concatenate(draws), (np.arange(num_videos) + 0.5) / num_videos)
    return generator.permutation(lengths.round().astype(int).clip(2))


def write_videos(folder: Path, lengths: np.ndarray, labels: Labels, *, height: int, width: int) -> list[Video]:
    """Write videos of a camera that pans over a cluttered scene, encoded as `finegym prepare` does."""
    generator = np.random.default_rng(0)
    videos = []
    for number, length in enumerate(lengths):
        coarse = generator.integers(0, 256, (height // 8 + 1, (width + 4 * int(length)) // 8 + 1, 3), dtype=np.uint8)
        scene = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height]
        frames = np.stack([scene[:, 4 * time : 4 * time + width] for time in range(length)])
        path = folder / f"{number:03d}.mp4"
        write_video(path, frames, fps=25)
        videos.append(Video(path.stem, path, number % len(labels.classes), int(length)))
    return videos


def make_encoders(backbone: SlowOnlyForVideoClassification, labels: Labels) -> dict[str, nn.Module]:
    """Build the paper's encoders at full size (section 4.2), ready to train."""
    shared = {"vision_config": backbone.config, "num_labels": len(labels.classes)}
    vision = FineGymVisionForVideoClassification(FineGymVisionConfig(**shared))
    config = FineGymVideoTextConfig(attribute_names=labels.attributes, **shared)
    return {"vision": vision.train(), "video_text": FineGymVideoTextForVideoClassification(config).train()}


def training_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, torch.Tensor]) -> None:
    model(**batch).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def pytorchvideo_features() -> Callable[[torch.Tensor], torch.Tensor]:
    """Build the backbone as pytorchvideo's users run it: (B, T, C, H, W) -> (B, T, 2048)."""
    from pytorchvideo.models.resnet import create_resnet

    model = create_resnet(stem_conv_kernel_size=(1, 7, 7), head_pool_kernel_size=(8, 7, 7), model_depth=50)
    model.blocks[-1] = nn.Identity()
    model.eval()
    return lambda pixel_values: model(pixel_values.transpose(1, 2)).mean(dim=(3, 4)).transpose(1, 2)


def in_pieces(function: Callable[[torch.Tensor], torch.Tensor], clips: torch.Tensor, size: int = 4) -> torch.Tensor:
    """Run a batch in pieces that fit into memory, without gradients."""
    with torch.inference_mode():
        return torch.cat([function(piece) for piece in clips.split(size)])


def bench_epochs(folder: Path, labels: Labels, *, batch_size: int, num_rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of each part of a step, per round."""
    lengths = draw_lengths(batch_size, np.random.default_rng(1))
    videos = write_videos(folder / "train", lengths, labels, height=256, width=340)
    transform = {"short_side": 256, "crop_size": 224}
    dataset = ClipDataset(videos, seed=0, clip_len=32, frame_interval=2, transform=partial(augment, **transform))
    backbone = SlowOnlyForVideoClassification(SlowOnlyConfig(num_labels=len(labels.classes))).eval()
    views = TrainingViews(dataset, num_views=1, transform=transform)
    features = build_features(backbone, views, folder / "features", batch_size=4)
    encoders = make_encoders(backbone, labels)
    sampler = StepSampler(len(videos), batch_size=batch_size, num_steps=10**6, seed=0)
    loader = DataLoader(FeatureDataset(features, views), batch_sampler=sampler, collate_fn=collate)
    batches, wait = iter(loader), []
    parameters = {name: [p for p in model.parameters() if p.requires_grad] for name, model in encoders.items()}
    optimizers = {name: torch.optim.AdamW(values, lr=1e-4) for name, values in parameters.items()}

    def cached_step(name: str) -> None:
        start = time.perf_counter()
        batch = next(batches)
        wait.append((name, time.perf_counter() - start))
        training_step(encoders[name], optimizers[name], batch)

    pixels: list[torch.Tensor] = []

    def load() -> None:
        pixels[:] = [torch.stack([dataset[len(wait), index]["pixel_values"] for index in range(batch_size)])]

    theirs = pytorchvideo_features()
    variants = {
        "vision": partial(cached_step, "vision"),
        "video_text": partial(cached_step, "video_text"),
        "loading": load,
        "our_backbone": lambda: in_pieces(backbone.get_video_features, pixels[0]),
        "pytorchvideo_backbone": lambda: in_pieces(theirs, pixels[0]),
    }
    seconds = time_in_turns(variants, num_rounds=num_rounds)
    for name in ("vision", "video_text"):
        seconds[f"{name}_waiting"] = [duration for owner, duration in wait if owner == name][-num_rounds:]
    return seconds


def epoch_figures(seconds: dict[str, list[float]]) -> dict[str, float]:
    figures = {}
    for encoder in ("vision", "video_text"):
        for name, part in (("online", "our_backbone"), ("pytorchvideo", "pytorchvideo_backbone")):
            online = [sum(parts) for parts in zip(seconds["loading"], seconds[part], seconds[encoder], strict=True)]
            figures[f"{encoder}_epoch_speedup_over_{name}"] = median_ratio(online, seconds[encoder])
    shares = [wait / step for wait, step in zip(seconds["vision_waiting"], seconds["vision"], strict=True)]
    return figures | {"data_wait_share": statistics.median(shares)}


def naive_scores(model: nn.Module, processor: FineGymVideoProcessor, videos: list[Video]) -> torch.Tensor:
    """Score eight clips per video as the paper's users do: read, transform and score each on its own. (N, C)"""
    scores = []
    for video in videos:
        with open_video(video.path) as file:
            spacing = (file.num_frames - 63) / 8
            offsets = [int(window * spacing + spacing / 2) if spacing > 0 else 0 for window in range(8)]
            logits = []
            for offset in offsets:
                indices = clip_indices(offset, file.num_frames, 32, 2, "loop")
                with torch.inference_mode():
                    logits.append(model(processor.preprocess_frames(file.frames(indices))[None]).logits[0])
        scores.append(torch.stack(logits).softmax(-1).mean(0))
    return torch.stack(scores)


def bench_protocol(folder: Path, labels: Labels, *, num_videos: int, num_rounds: int) -> tuple[dict, dict]:
    """Run the full SlowOnly at 112 pixels, so that the naive loop finishes. With larger frames, the cost comes closer
    to the share of clips that are run."""
    lengths = draw_lengths(num_videos, np.random.default_rng(2))
    videos = write_videos(folder / "val", lengths, labels, height=128, width=170)
    torch.manual_seed(0)
    model = SlowOnlyForVideoClassification(SlowOnlyConfig(num_labels=len(labels.classes), image_size=112)).eval()
    processor = FineGymVideoProcessor(size={"shortest_edge": 128}, crop_size={"height": 112, "width": 112})
    scores: dict[str, torch.Tensor] = {}

    def ours() -> None:
        scores["ours"] = evaluate(model, processor, videos, labels, batch_size=4, progress=False).scores

    def naive() -> None:
        scores["naive"] = naive_scores(model, processor, videos)

    seconds = time_in_turns({"protocol": ours, "naive_protocol": naive}, num_rounds=num_rounds, num_warmups=0)
    many = draw_lengths(10_000, np.random.default_rng(3))
    distinct = [len(sample_clips(int(n), clip_len=32, frame_interval=2, num_clips=8)[0]) for n in many]
    return seconds, {
        "protocol_cost": 1 / median_ratio(seconds["naive_protocol"], seconds["protocol"]),
        "protocol_max_score_difference": float((scores["ours"] - scores["naive"]).abs().max()),
        "protocol_clip_share": statistics.mean(distinct) / 8,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=24, help="clips of a step (the paper's vision encoder: 24)")
    parser.add_argument("--videos", type=int, default=40, help="videos of the protocol")
    arguments = parser.parse_args()
    gym99 = Labels.read(LABELS)
    with tempfile.TemporaryDirectory() as folder:
        seconds = bench_epochs(Path(folder), gym99, batch_size=arguments.batch_size, num_rounds=arguments.rounds)
        more, figures = bench_protocol(Path(folder), gym99, num_videos=arguments.videos, num_rounds=arguments.rounds)
    seconds |= more
    runs = [{"part": part, "seconds": values} for part, values in seconds.items()]
    write_results("features", figures=epoch_figures(seconds) | figures, runs=runs)


if __name__ == "__main__":
    main()
