"""The published data sets whose own files `finegym import` reads; `published_sets.py` has a reader for each."""

from typing import Literal


FormatName = Literal["diving48", "ssv2"]
