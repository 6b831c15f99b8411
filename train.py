"""Train one model from one recipe.

    python train.py --config configuration/synthgym/slowonly.yaml                          one process
    python train.py --config configuration/gym99/slowonly.yaml --optimisation.epochs 10    any field can be overridden
    accelerate launch --config_file configuration/accelerate/multi_gpu.yaml train.py --config
    configuration/gym99/slowonly.yaml torchrun --nproc_per_node 2 train.py --config
    configuration/synthgym/slowonly.yaml     two processes, also without a GPU

A run that was stopped or killed goes on when the same command is given again.
"""

import logging
import os
import sys

import transformers
from torch.distributed.elastic.multiprocessing.errors import record

from finegym.training.loop import train
from finegym.training.recipe import parse_recipe


@record
def main() -> None:
    logging.basicConfig(format="%(message)s")
    logging.getLogger("finegym").setLevel(logging.INFO if os.environ.get("RANK", "0") == "0" else logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    if train(parse_recipe()) is None:
        sys.exit(128 + 15)  # what a process ended by SIGTERM returns


if __name__ == "__main__":
    main()
