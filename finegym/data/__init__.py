"""From an indexed data set to the clips of a training step.

In: a prepared folder (`index.parquet`, `labels.json`, `coverage.json`, videos). Out: batches of `pixel_values`, in an
order that depends on the seed and the step alone. This package never changes the prepared folder.
"""
