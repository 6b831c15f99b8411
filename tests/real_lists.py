"""FineGym's own lists of classes and splits, which this project may not pass on: `finegym fetch` downloads them."""

from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]
FOLDERS = [ROOT / "data" / "finegym", ROOT.parent / "shared" / "finegym"]
REAL_LISTS = next((folder for folder in FOLDERS if (folder / "gym99_val_element.txt").is_file()), None)
REASON = "FineGym's lists are not in data/finegym: `finegym fetch --folder data/finegym` downloads them"
needs_real_lists = pytest.mark.skipif(REAL_LISTS is None, reason=REASON)
