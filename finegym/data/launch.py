"""Which of the processes of a launch this one is."""

import torch
from accelerate import PartialState


def this_process() -> PartialState:
    """Return this process's place among those that `accelerate launch` or torchrun started, the only one if it is
    alone.

    Without a GPU, Accelerate would take every process that torchrun starts for the only one unless it is told to use
    the CPU.
    """
    return PartialState(cpu=not torch.accelerator.is_available())
