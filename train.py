"""Train one model from one recipe; give the same command again, and a run that was stopped or killed goes on.

One process, with or without a GPU; any field of the recipe can be overridden:
    python train.py --config configuration/synthgym/slowonly.yaml --optimization.epochs 10

Four GPUs of one machine, or two processes on a machine without any:
    accelerate launch --config_file configuration/accelerate/multi_gpu.yaml train.py --config RECIPE
    torchrun --nproc_per_node 2 train.py --config RECIPE

Two machines of four GPUs, on each of them (under Slurm: sbatch configuration/accelerate/slurm.sh RECIPE):
    torchrun --nnodes 2 --nproc_per_node 4 --rdzv_backend c10d --rdzv_endpoint FIRST_MACHINE:29500 \\
        train.py --config RECIPE

Several encoders over one cache of features, and one table of what came out:
    python train.py --config RECIPE --sweep configuration/sweeps/layers_and_seeds.yaml
"""

import logging
import os
import re
import sys
from pathlib import Path

import transformers
from torch.distributed.elastic.multiprocessing.errors import record

from finegym.data.files import write_text
from finegym.evaluation.report import table
from finegym.hub.card import render_card
from finegym.hub.checkpoint import Checkpoint
from finegym.training.loop import train
from finegym.training.sweep import parse_recipes


@record
def main() -> None:
    is_main_process = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(format="%(message)s")
    logging.getLogger("finegym").setLevel(logging.INFO if is_main_process else logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    recipes = parse_recipes(sys.argv[1:])
    for recipe in recipes:
        if train(recipe) is None:
            sys.exit(128 + 15)  # what a process ended by SIGTERM returns
        if is_main_process:
            folder = Path(recipe.output_dir)
            # a name that the Hub would take; push_to_hub.py writes the card anew with the real one
            repository = f"OWNER/{re.sub(r'[^A-Za-z0-9]+', '-', folder.name).strip('-')}"
            try:
                card = f"{render_card(Checkpoint.read(folder), repository)}\n"
            except ValueError as error:  # the checkpoint is good all the same
                logging.getLogger("finegym").warning(f"No card was written. {error}")
                continue
            path = folder / "README.md"
            if not path.exists() or path.read_text(encoding="utf-8") != card:  # a finished run is left alone
                write_text(path, card)
    if is_main_process and len(recipes) > 1:
        sys.stdout.write(table(Path(recipes[0].output_dir).parent) + "\n")


if __name__ == "__main__":
    main()
