"""The features of a frozen backbone, computed once and kept.

In: a backbone and the videos of a data set. Out: shards of (T', D) tensors with checksums. This package never trains
anything, and never returns features of other weights or other files.
"""
