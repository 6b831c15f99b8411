"""The workbench around `modeling_finegym`: data, training, evaluation and publishing of fine-grained action models."""

__version__ = "0.1.0"
