"""Train with Transformers' Trainer on this project's clips:

    python examples/transformers_trainer.py --root data/synthgym --checkpoint outputs/synthgym/slowonly \\
        --output_dir outputs/trainer
"""

import functools
from dataclasses import dataclass

from transformers import AutoModelForVideoClassification, HfArgumentParser, Trainer, TrainingArguments

from finegym.data.dataset import ClipDataset, collate
from finegym.data.index import read_index
from finegym.data.transforms import augment
from modeling_finegym import FineGymVideoProcessor


@dataclass
class Paths:
    root: str  # a prepared folder
    checkpoint: str  # the model to start from


def main() -> None:
    paths, arguments = HfArgumentParser((Paths, TrainingArguments)).parse_args_into_dataclasses()
    model = AutoModelForVideoClassification.from_pretrained(paths.checkpoint)
    processor = FineGymVideoProcessor.from_pretrained(paths.checkpoint)
    size = {"short_side": processor.size["shortest_edge"], "crop_size": processor.crop_size["height"]}
    transform = functools.partial(augment, **size, mean=processor.image_mean, std=processor.image_std)
    clip = {"clip_len": processor.num_frames, "frame_interval": processor.frame_interval}
    dataset = ClipDataset(read_index(paths.root, "train"), seed=arguments.seed, transform=transform, **clip)
    trainer = Trainer(model=model, args=arguments, train_dataset=dataset, data_collator=collate)
    trainer.train()
    trainer.save_model()
    processor.save_pretrained(arguments.output_dir)


if __name__ == "__main__":
    main()
