"""Load a checkpoint folder offline, as a user without this project would. Run as a file, in a fresh process:

    python -I stranger.py FOLDER VIDEO RESULT.json

It writes what it saw: the classes that were loaded, the logits of the video's clips, and the pipeline's answer.
"""

import importlib.abc
import json
import sys


class HiddenModules(importlib.abc.MetaPathFinder):
    """Make packages unimportable, wherever they are installed."""

    def __init__(self, *names: str):
        self.names = names

    def find_spec(self, fullname, path=None, target=None):
        if fullname.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {fullname!r} (hidden)", name=fullname)


def look_at(folder: str, video: str) -> dict:
    """Do everything that the card promises, with the Auto classes and `trust_remote_code=True`."""
    import torch
    from transformers import AutoConfig, AutoModel, AutoModelForVideoClassification, AutoVideoProcessor, pipeline

    config = AutoConfig.from_pretrained(folder, trust_remote_code=True)
    base = AutoModel.from_pretrained(folder, trust_remote_code=True)
    model, loading = AutoModelForVideoClassification.from_pretrained(
        folder, trust_remote_code=True, output_loading_info=True
    )
    processor = AutoVideoProcessor.from_pretrained(folder, trust_remote_code=True)
    classify = pipeline("video-classification", model=folder, trust_remote_code=True, device="cpu")
    clips = processor.load_clips(video)
    with torch.no_grad():
        logits = model.eval()(pixel_values=clips.pixel_values).logits
    loaded = {"config": config, "base": base, "model": model, "processor": processor, "pipeline": classify}
    return {
        "classes": {name: type(value).__name__ for name, value in loaded.items()},
        "modules": sorted({type(value).__module__.partition(".")[0] for value in loaded.values()}),
        "loading": {name: sorted(map(str, keys)) for name, keys in loading.items() if keys},
        "logits": logits.tolist(),
        "scores": {answer["label"]: answer["score"] for answer in classify(video, top_k=config.num_labels)},
    }


if __name__ == "__main__":
    sys.meta_path.insert(0, HiddenModules("finegym", "modeling_finegym"))
    seen = look_at(*sys.argv[1:3])
    with open(sys.argv[3], "w", encoding="utf-8") as result:
        json.dump(seen, result)
