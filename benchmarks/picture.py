"""Draw the README's picture: videos of SynthGym's validation split, their class and a checkpoint's answer.

python -m benchmarks.picture --model outputs/synthgym/video_text --root data/synthgym
"""

import argparse
import textwrap
from pathlib import Path

from finegym.data.files import replacing
from finegym.data.index import read_index
from finegym.data.labels import Labels
from finegym.evaluation.predict import predict
from finegym.synthgym.scene import contact_sheet
from modeling_finegym.video_decoding import open_video


# one row per kind of movement; the first validation video of each class, whatever the answer
CLASSES = (0, 1, 6, 8, 13, 15, 19, 24, 26)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="outputs/synthgym/video_text")
    parser.add_argument("--root", type=Path, default=Path("data/synthgym"))
    parser.add_argument("--output", type=Path, default=Path("docs/synthgym.png"))
    arguments = parser.parse_args()
    names = Labels.read(arguments.root / "labels.json").names
    videos = read_index(arguments.root, "val")
    chosen = [next(video for video in videos if video.label == label) for label in CLASSES]
    rows = []
    for video, answer in zip(chosen, predict([str(video.path) for video in chosen], model=arguments.model)):
        best = answer["scores"][0]
        verdict = "right" if best["label"] == names[video.label] else f"says: {best['label']}"
        title = f"{names[video.label]}\n{verdict} ({best['score']:.0%})"
        with open_video(video.path) as file:
            frames = file.frames(list(range(file.num_frames))).numpy()
        rows.append(("\n".join(line for part in title.splitlines() for line in textwrap.wrap(part, 30)), frames))
    arguments.output.parent.mkdir(exist_ok=True)
    with replacing(arguments.output) as temporary:
        contact_sheet(rows, num_columns=9, label_width=190).quantize(128).save(temporary, format="PNG")


if __name__ == "__main__":
    main()
