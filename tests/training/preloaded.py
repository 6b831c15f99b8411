"""What the server imports from which tests fork processes."""

import docstring_parser
import matplotlib.pyplot
import pyarrow.dataset
import sklearn.linear_model
import sklearn.metrics
import torch._dynamo
import torch.nn.parallel
from transformers import conversion_mapping

import finegym.commands.line
import finegym.evaluation.apart
import finegym.evaluation.controls
import finegym.evaluation.table
import finegym.hub.card
import finegym.training.finetune
import finegym.training.loop


__all__ = ["docstring_parser", "finegym", "matplotlib", "pyarrow", "sklearn", "torch"]

conversion_mapping.get_checkpoint_conversion_mapping("any")  # builds the table that loading the first model needs
