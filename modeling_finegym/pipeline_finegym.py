"""The `video-classification` pipeline under the paper's protocol, which averages the scores of several clips."""

import tempfile
from dataclasses import replace
from pathlib import Path

from torch.utils.data import DataLoader
from transformers import VideoClassificationPipeline
from transformers.pipelines.pt_utils import PipelineDataset, PipelineIterator

from .clip_scoring import VideoClips, VideoScores, score_videos
from .downloading import download
from .video_inputs import is_list_of_images, to_frames


# Seconds of silence after which an address is given up.
DOWNLOAD_TIMEOUT = 10.0


class FineGymPipeline(VideoClassificationPipeline):
    """
    Video classification as the paper evaluates it (section 4.2): several clips are spread over the video, with one
    crop each, and their softmax is averaged. Identical clips are run once and weighted.

    ```python
    classify = pipeline("video-classification", model=checkpoint, trust_remote_code=True)
    classify("vault.mp4")  # [{"score": 0.93, "label": "(VT) ..."}, ...]
    ```

    Args:
        batch_size (`int`, defaults to 8): Clips per forward pass. Clips of different videos share a pass.
    """

    _load_video_processor = True
    _load_image_processor = False

    def __init__(self, *args, batch_size=8, **kwargs):
        # Skip the parent's own __init__, which requires PyAV even for arrays of frames, and compares the model with a
        # list of built-in ones.
        super(VideoClassificationPipeline, self).__init__(*args, batch_size=batch_size, **kwargs)
        if not hasattr(self.video_processor, "load_clips"):
            raise ValueError(
                "FineGymPipeline samples clips with a FineGymVideoProcessor: pass it as `video_processor`."
            )

    def __call__(self, inputs, **kwargs):
        """
        Classify one video or each of several.

        Args:
            inputs: A path, an http(s) address, the bytes of a file, a file open in binary mode, a list of PIL images,
                a uint8 array or tensor of shape `(frames, height, width, 3)` or `(frames, 3, height, width)`; or a
                list, a `Dataset` or a generator of these. The last two give an iterator over the results.
            top_k (`int`, defaults to 5): How many classes to return.
            num_clips (`int`): Clips spread over the video; the default is the processor's, the paper's eight.
            start (`float`), end (`float`): Classify only what a file shows in between, in seconds.
            fps (`float`): Frame rate of an array, in frames per second; files declare theirs.
            return_clip_scores (`bool`, defaults to `False`): Also return the scores of each distinct clip.
            function_to_apply (`str`), num_frames (`int`), frame_sampling_rate (`int`): Arguments of the stock
                pipeline, which may only say what this one does: "softmax", the frames of a clip, the frame interval.
            attributes (`bool`, defaults to `False`): Also return what a model that answers attributes, such as TQN,
                says of each group of them.

        Returns:
            A list of `{"score": float, "label": str}` per video, best first. With `return_clip_scores`, a dictionary
            `{"scores": that list, "clips": [{"weight": float, "scores": such a list}, ...]}` per video; with
            `attributes`, such a dictionary with `"attributes": [{"score": float, "label": str}, ...]`, the likeliest
            attribute of each group, without the groups of which the video has likeliest none.

        Raises:
            `ValueError`: a file, or what an address returns, is not a readable video, or an argument of the stock
                pipeline asks for what this one does not do.
            `ImportError`: a file is given, and PyAV is not installed.
        """
        if isinstance(inputs, (list, tuple)) and not inputs:
            raise ValueError("The list of videos is empty.")
        return super().__call__(to_frames(inputs) if is_list_of_images(inputs) else inputs, **kwargs)

    def _sanitize_parameters(
        self,
        top_k=None,
        num_clips=None,
        start=None,
        end=None,
        fps=None,
        return_clip_scores=None,
        attributes=None,
        function_to_apply=None,
        num_frames=None,
        frame_sampling_rate=None,
    ):
        self._check_stock_arguments(function_to_apply, num_frames, frame_sampling_rate)
        if attributes and not getattr(self.model.config, "num_attribute_groups", 0):
            raise ValueError(f"A {self.model.config.model_type} answers no attributes: leave out `attributes`.")
        preprocess = {"num_clips": num_clips, "start": start, "end": end, "fps": fps}
        postprocess = {"top_k": top_k, "return_clip_scores": return_clip_scores, "attributes": attributes}
        given = [
            {name: value for name, value in group.items() if value is not None} for group in (preprocess, postprocess)
        ]
        for name in ("num_clips", "top_k"):
            if {**given[0], **given[1]}.get(name, 1) < 1:
                raise ValueError(f"`{name}` must be at least 1.")
        return given[0], {}, given[1]

    def _check_stock_arguments(self, function_to_apply, num_frames, frame_sampling_rate):
        """Refuse what the stock pipeline can do and this one does not, by a sentence that says what does it here."""
        processor = self.video_processor
        if function_to_apply not in (None, "softmax"):
            raise ValueError(
                f"A score is the mean of the clips' softmax, so function_to_apply={function_to_apply!r} is not "
                "possible: leave it out, or call the model itself, `model(**processor(video)).logits`."
            )
        if num_frames is not None and num_frames != processor.num_frames:
            raise ValueError(
                f"This model takes clips of {processor.num_frames} frames, not num_frames={num_frames}: leave it out. "
                "How many clips are scored is `num_clips`."
            )
        if frame_sampling_rate is not None and frame_sampling_rate != processor.frame_interval:
            raise ValueError(
                f"This model was trained on every frame in {processor.frame_interval} of a video, not on "
                f"frame_sampling_rate={frame_sampling_rate}: leave it out, or set `frame_interval` of the pipeline's "
                "`video_processor`. A part of a video is `start` and `end`."
            )

    def preprocess(self, video, num_clips=None, start=None, end=None, fps=None) -> VideoClips:
        options = {"num_clips": num_clips, "start": start, "end": end, "fps": fps}
        if isinstance(video, str) and video.startswith(("http://", "https://")):
            clips = self._download_clips(video, **options)
        else:
            clips = self.video_processor.load_clips(video, **options)
        return replace(clips, pixel_values=clips.pixel_values.to(self.dtype))

    def _download_clips(self, address, **kwargs) -> VideoClips:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "video"
            download(address, file, max_silence=DOWNLOAD_TIMEOUT)
            try:
                return self.video_processor.load_clips(file, **kwargs)
            except ValueError as error:
                raise ValueError(str(error).replace(str(file), address)) from error

    def save_pretrained(self, save_directory, **kwargs):
        """Save model, code and video processor, so that `pipeline(model=save_directory)` loads this pipeline."""
        super().save_pretrained(save_directory, **kwargs)
        self.video_processor.save_pretrained(save_directory, **kwargs)

    def run_single(self, inputs, preprocess_params, forward_params, postprocess_params):
        return next(
            self.get_iterator([inputs], 0, self._batch_size, preprocess_params, forward_params, postprocess_params)
        )

    def get_iterator(self, inputs, num_workers, batch_size, preprocess_params, forward_params, postprocess_params):
        """Load videos one by one in `num_workers` processes and score their clips `batch_size` at a time."""
        dataset_class = PipelineDataset if hasattr(inputs, "__len__") else PipelineIterator
        videos = DataLoader(
            dataset_class(inputs, self.preprocess, preprocess_params),
            batch_size=None,
            num_workers=num_workers,
            collate_fn=_unchanged,
        )
        for scores in score_videos(self.model, videos, batch_size=batch_size):
            yield self.postprocess(scores, **postprocess_params)

    def postprocess(self, model_outputs: VideoScores, top_k=5, return_clip_scores=False, attributes=False):
        def best(scores):
            values, labels = scores.topk(min(top_k, len(scores)))
            names = self.model.config.id2label
            return [{"score": s, "label": names[label]} for s, label in zip(values.tolist(), labels.tolist())]

        if not return_clip_scores and not attributes:
            return best(model_outputs.scores)
        result = {"scores": best(model_outputs.scores)}
        if return_clip_scores:
            clips = zip(model_outputs.weights.tolist(), model_outputs.clip_scores)
            result["clips"] = [{"weight": weight, "scores": best(scores)} for weight, scores in clips]
        if attributes:
            values, ids = model_outputs.attribute_scores.max(dim=-1)
            names = self.model.config.attribute_names
            found = zip(values.tolist(), ids.tolist())
            result["attributes"] = [{"score": score, "label": names[id]} for score, id in found if id > 0]
        return result


def _unchanged(video):
    return video


__all__ = ["FineGymPipeline"]
