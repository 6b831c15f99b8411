"""Train one model from one recipe. The same command resumes a run that was stopped or killed.

One process, with or without a GPU. Any field of the recipe can be overridden:
    python train.py --config configuration/synthgym/slowonly.yaml --optimization.epochs 10

Four GPUs on one machine, or two processes on a machine without a GPU:
    accelerate launch --config_file configuration/accelerate/multi_gpu.yaml train.py --config RECIPE
    torchrun --nproc_per_node 2 train.py --config RECIPE

Two machines with four GPUs each; run this on both (under Slurm: sbatch configuration/accelerate/slurm.sh RECIPE):
    torchrun --nnodes 2 --nproc_per_node 4 --rdzv_backend c10d --rdzv_endpoint FIRST_MACHINE:29500 \\
        train.py --config RECIPE

Several encoders on one feature cache, and one table of the results:
    python train.py --config RECIPE --sweep configuration/sweeps/layers_and_seeds.yaml

`finegym train` is the same command, in `finegym/commands/train.py`.
"""

import sys

from finegym.commands.line import main


if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], prog="train.py"))
