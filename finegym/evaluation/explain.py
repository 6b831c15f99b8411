"""Why a checkpoint classifies a video as it does: one clip, one class, and optionally one class against another.

In: a video file and a checkpoint. Out: an `Explanation`; `explanation_figure` draws it, `to_dict` makes JSON of it.
"""

from dataclasses import dataclass, replace
from typing import Any

import torch
from transformers import AutoModelForVideoClassification, PreTrainedModel

from finegym.data.checkpoints import load_labels, load_model, load_video_processor
from finegym.data.labels import Labels
from modeling_finegym import (
    MtnForVideoClassification,
    SlowOnlyForVideoClassification,
    TqnForVideoClassification,
    TrnForVideoClassification,
)
from modeling_finegym.modeling_finegym import FineGymForVideoClassification
from modeling_finegym.video_decoding import open_video

from .attribution import (
    Attribution,
    Target,
    attribute_encoder,
    attribute_network,
    frames_of_moments,
    strongest_attributes,
)
from .attribution_peers import (
    answered_attributes,
    attribute_pathways,
    attribute_queries,
    attribute_relations,
)
from .clips import Clip, load_clip
from .predict import check_device
from .trust import Trust, trust_in


# Besides the attributes of the class and of its contrast, the strongest others have a row of their own.
NUM_OTHERS = 3


@dataclass(frozen=True)
class Explanation:
    """One clip, the model's answer, and what it rests on.

    Attributes:
        video: The name of the video.
        clip: What the model sees.
        names: The names of the classes.
        scores: The probabilities (classes,) of this clip.
        target: The class that is explained, and the one that it is compared with.
        own, of_contrast: The attribute texts of the two classes, empty if they have none.
        attribute_names: The vocabulary of an attribute model.
        attribution: The numbers, the most trusted method first.
        trust: How far they can be trusted.
    """

    video: str
    clip: Clip
    names: list[str]
    scores: torch.Tensor
    target: Target
    own: list[str]
    of_contrast: list[str]
    attribute_names: list[str]
    attribution: Attribution
    trust: Trust

    @property
    def num_moments(self) -> int:
        return next(iter(self.attribution.over_time.values())).shape[1]

    @property
    def moment_times(self) -> list[float]:
        """The time of the first frame of each moment, in seconds."""
        return [self.clip.times[frames[0]] for frames in self.moment_frames]

    @property
    def moment_frames(self) -> list[list[int]]:
        """The frames of the clip that belong to each moment."""
        return frames_of_moments(len(self.clip.times), self.num_moments)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the frames, for JSON."""
        label, contrast, attribution = self.target.label, self.target.contrast, self.attribution
        best = self.scores.argsort(descending=True).tolist()[:5]
        summed, expected = attribution.completeness or (None, None)
        return {
            "video": self.video,
            "class": self.names[label],
            "contrast": None if contrast is None else self.names[contrast],
            "scores": [{"label": self.names[index], "score": self.scores[index].item()} for index in best],
            "frame_times": self.clip.times,
            "moment_times": self.moment_times,
            "attributes_of_class": self.own,
            "attributes_of_contrast": self.of_contrast,
            "trusted_method": self.trust.method,
            "trust": self.trust.sentence,
            "over_time": {
                method: dict(zip(attribution.rows, values.tolist(), strict=True))
                for method, values in attribution.over_time.items()
            },
            "over_attributes": {
                method: dict(zip(self.attribute_names, values.tolist(), strict=True))
                for method, values in attribution.over_attributes.items()
            },
            "over_space": None if attribution.over_space is None else attribution.over_space.tolist(),
            "integrated_gradients_sum": summed,
            "difference_of_logits": expected,
        }


def explain(
    video: str,
    *,
    model: str,
    revision: str | None = None,
    contrast: str | None = None,
    start: float | None = None,
    end: float | None = None,
    device: str | None = None,
) -> Explanation:
    """Explain the class that a checkpoint gives to the clip in the middle of a video.

    Args:
        video: The file.
        model: A checkpoint folder or Hub id.
        revision: The commit, tag or branch of a Hub id.
        contrast: The class, by name or id, against which the answer is explained.
        start, end: The seconds between which the action is shown.
        device: The device; by default the CPU.

    Raises:
        FileNotFoundError, ValueError: If the file or the model cannot be read, or there is no such class.
    """
    check_device(device)
    classifier = load_model(model, AutoModelForVideoClassification, revision=revision).to(device or "cpu")
    check_explainable(classifier, model)
    names = [classifier.config.id2label[label] for label in range(classifier.config.num_labels)]
    against = None if contrast is None else find_class(contrast, names)
    with open_video(video) as file:
        clip = load_clip(load_video_processor(model, revision=revision), file, start, end)
    labels = load_labels(model, revision=revision)
    return explain_clip(classifier, clip, names=names, video=video, labels=labels, contrast=against)


def check_explainable(model: PreTrainedModel, name: str) -> None:
    """Refuse a model that the methods do not fit.

    Raises:
        ValueError: If it is one; the message says which models they fit.
    """
    if not isinstance(model, (FineGymForVideoClassification, SlowOnlyForVideoClassification)):
        raise ValueError(
            f"{name} is a {model.config.model_type}; explanations are for the models of this project: its CNNs, the "
            "vision encoder, the cross encoder, TRN, TQN and MTN."
        )


def find_class(text: str, names: list[str]) -> int:
    """Return the id of a class that is given by its id, its name, or a part that no other name has.

    Raises:
        ValueError: If there is none or there are several; the message names them.
    """
    if text in names:
        return names.index(text)
    if text.isdecimal() and int(text) < len(names):
        return int(text)
    found = [name for name in names if text.lower() in name.lower()]
    if len(found) != 1:
        what = "No class" if not found else f"{len(found)} classes"
        raise ValueError(
            f"{what} of this model matches {text!r}: {'; '.join((found or names)[:5])}; give one name or id."
        )
    return names.index(found[0])


def explain_clip(
    model: PreTrainedModel,
    clip: Clip,
    *,
    names: list[str],
    video: str = "",
    labels: Labels | None = None,
    label: int | None = None,
    contrast: int | None = None,
) -> Explanation:
    """Explain the answer for one clip.

    Args:
        model: The classifier, in eval mode.
        clip: The clip.
        names: The names of the classes.
        video: What the clip is called.
        labels: The classes with their attributes, if they are known.
        label: The class to explain; by default the predicted one.
        contrast: The class to compare with.

    Raises:
        ValueError: If the contrast is the class itself.
    """
    pixel_values = clip.pixel_values.to(model.device)
    with torch.no_grad():
        inputs = read_inputs(model, pixel_values)
        scores = model(**inputs).logits[0].float().softmax(-1).cpu()
    target = Target(scores.argmax().item() if label is None else label, contrast)
    if target.label == contrast:
        raise ValueError(f"The answer is {names[contrast]!r} itself: give another class as the contrast.")
    own, of_contrast = (_attributes_of(labels, index) for index in (target.label, contrast))
    vocabulary = list(getattr(model.config, "attribute_names", None) or [])
    rows = [vocabulary.index(text) for text in dict.fromkeys(own + of_contrast) if text in vocabulary]
    attribution = attribute_clip(model, inputs, target, rows, NUM_OTHERS).cpu()
    trust = trust_in(model.config.model_type)
    methods = trust.order(list(attribution.over_time))
    attribution = replace(attribution, over_time={method: attribution.over_time[method] for method in methods})
    return Explanation(
        video=video,
        clip=clip,
        names=names,
        scores=scores,
        target=target,
        own=own,
        of_contrast=of_contrast,
        attribute_names=vocabulary,
        attribution=attribution,
        trust=trust,
    )


def read_inputs(model: PreTrainedModel, pixel_values: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what is explained: frames, or features where every moment has its own."""
    if isinstance(model, (SlowOnlyForVideoClassification, MtnForVideoClassification)):
        return {"pixel_values": pixel_values}
    inputs = {"video_features": model.get_video_features(pixel_values)}
    if isinstance(model, TqnForVideoClassification):
        inputs["padding"] = model.base_model.find_padding(pixel_values)
    return inputs


def attribute_clip(
    model: PreTrainedModel, inputs: dict[str, torch.Tensor], target: Target, rows: list[int], num_others: int = 0
) -> Attribution:
    """Explain a clip by the methods that fit the model.

    Args:
        model: The classifier, in eval mode.
        inputs: What `read_inputs` returned for the clip.
        target: What is explained.
        rows: The attributes that have rows of their own, where the model knows attributes.
        num_others: How many others have one: those that matter most, or that TQN finds.
    """
    if isinstance(model, SlowOnlyForVideoClassification):
        return attribute_network(model, **inputs, target=target)
    if isinstance(model, MtnForVideoClassification):
        return attribute_pathways(model, **inputs, target=target)
    if isinstance(model, TrnForVideoClassification):
        return attribute_relations(model, **inputs, target=target)
    if isinstance(model, TqnForVideoClassification):
        rows = [row for row in rows if row]
        others = [found for found in answered_attributes(model, **inputs) if found not in rows]
        return attribute_queries(model, **inputs, target=target, attributes=rows + others[:num_others])
    if getattr(model.config, "attribute_names", None):
        rows = rows + strongest_attributes(model, inputs["video_features"], target, num_others, rows)
        return attribute_encoder(model, **inputs, target=target, attributes=rows)
    return attribute_encoder(model, **inputs, target=target)


def _attributes_of(labels: Labels | None, label: int | None) -> list[str]:
    if labels is None or label is None or not labels.attributes:
        return []
    return [labels.attributes[attribute] for attribute in labels.classes[label].attributes]
