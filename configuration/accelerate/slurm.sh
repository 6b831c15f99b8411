#!/bin/sh
# sbatch configuration/accelerate/slurm.sh configuration/gym99/slowonly.yaml [--optimization.epochs 10 ...]
#
# Slurm signals every process 120 seconds before it takes the machines away. The run then saves its state, and the
# requeued job resumes from it, even on a different number of machines.
#SBATCH --job-name=finegym
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
set -eu

recipe=$1
shift
first_machine=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)

srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$SLURM_NNODES" \
    --nproc_per_node "$SLURM_GPUS_ON_NODE" \
    --rdzv_id "$SLURM_JOB_ID" \
    --rdzv_backend c10d \
    --rdzv_endpoint "$first_machine:29500" \
    train.py --config "$recipe" "$@"
