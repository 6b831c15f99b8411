"""Time `finegym flow` on one core: `python -m benchmarks.flow`.

Measures pairs of frames of 256 x 340 pixels per second of processor time: of each method alone, and of a video file
from decoding to the written flow. The frames are of a moving texture with a foreground that moves otherwise.
"""

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from benchmarks.common import write_results
from finegym.data.index import Video
from finegym.data.video_writing import write_video
from finegym.preparation.flow import FlowSettings, compute_video, flow_function


HEIGHT, WIDTH = 256, 340
NUM_FRAMES, NUM_TVL1_PAIRS = 49, 2
NUM_ROUNDS = 5


def draw_frames() -> np.ndarray:
    """Return frames (T, H, W, 3): a texture that moves by 1.5 pixels a frame, and a disc that moves by 4."""
    noise = np.random.default_rng(0).standard_normal((2, HEIGHT, WIDTH, 3))
    background, foreground = (ndimage.gaussian_filter(layer, (4, 4, 0)) for layer in noise)
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    frames = []
    for step in range(NUM_FRAMES):
        frame = ndimage.shift(background, (0, 1.5 * step, 0), order=1, mode="grid-wrap")
        disc = (rows - 128) ** 2 + (columns - 70 - 4 * step) ** 2 < 50**2
        frame[disc] = np.roll(foreground, 4 * step, axis=1)[disc]
        frames.append(frame)
    stacked = np.stack(frames)
    return (255 * (stacked - stacked.min()) / np.ptp(stacked)).astype(np.uint8)


def main() -> None:
    torch.set_num_threads(1)
    frames = draw_frames()
    grays = np.ascontiguousarray(frames.mean(-1).astype(np.uint8))
    dis, tvl1 = flow_function("dis"), flow_function("tvl1")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.mp4"
        write_video(path, frames, fps=25)
        video = Video("video", path, 0, NUM_FRAMES)

        def write_flow() -> None:
            (Path(folder) / "clips" / "video.mkv").unlink(missing_ok=True)
            assert compute_video(video, Path(folder), FlowSettings()).num_frames == NUM_FRAMES - 1

        variants = {
            "dis": (NUM_FRAMES - 1, lambda: [dis(*pair) for pair in zip(grays, grays[1:])]),
            "tvl1": (NUM_TVL1_PAIRS, lambda: [tvl1(*pair) for pair in zip(grays[:NUM_TVL1_PAIRS], grays[1:])]),
            "file": (NUM_FRAMES - 1, write_flow),
        }
        rates: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(NUM_ROUNDS):
            for name, (num_pairs, run) in variants.items():
                start = time.process_time()  # of one thread: what others do on the machine does not count
                run()
                rates[name].append(num_pairs / (time.process_time() - start))
    figures = {f"{name}.pairs_per_second": statistics.median(values) for name, values in rates.items()}
    write_results("flow", figures=figures, runs=[{"height": HEIGHT, "width": WIDTH, "pairs_per_second": rates}])


if __name__ == "__main__":
    main()
