"""`finegym convert`."""

from pathlib import Path
from typing import Literal

from finegym.architectures import ArchitectureName
from finegym.data.arguments import Count
from finegym.paths import shipped


def convert(
    source: str,
    output: Path,
    *,
    labels: Path | None = None,
    head: Literal["keep", "cut", "drop"] | None = None,
    num_frames: Count | None = None,
    frame_interval: Count | None = None,
    architecture: ArchitectureName = "slowonly",
    backbone: Path | None = None,
    num_hidden_layers: Count | None = None,
    sha256: str | None = None,
) -> str:
    """Turn the weights of another project into a checkpoint folder.

    It reads mmaction2, pytorchvideo, PySlowFast, ImageNet ResNets of torchvision and timm, torchvision's S3D,
    BN-Inception, the repositories of TSN, TRN and TSM, UniVL and BERT, and tells them apart by the names of their
    tensors. It prints which tensors were taken, dropped and newly made.

    Args:
        source: A file, an https address, a Hub repository, or one of slow_r50, slowonly_gym99, resnet50, i3d_r50
            and s3d.
        output: The checkpoint folder to write.
        labels: The label file that names the classes.
        head: What to do with a classifier whose rows are not the labels. cut keeps the first rows, drop makes a new
            one.
        num_frames: The number of frames of a clip. Names such as slowonly_r50_4x16x1.pth tell it.
        frame_interval: The distance between two frames of a clip, in frames of the video. The same names tell it.
        architecture: What to build. From a ResNet of images: slowonly, in which its kernels are repeated over time, or
            video_resnet, which keeps them. From BERT layers: the encoder vision or video_text.
        backbone: The SlowOnly checkpoint folder to build an encoder on.
        num_hidden_layers: The number of BERT layers to take, from the first. By default, all are taken.
        sha256: The digits that the file's SHA-256 must begin with.

    Examples:
        finegym convert resnet50 checkpoints/resnet50 --labels configuration/gym99/labels.json
        finegym convert slowonly.pth checkpoints/slowonly
    """
    labels = None if labels is None else shipped(labels)
    from finegym.hub.convert import convert

    return convert(
        source,
        output,
        labels=labels,
        head=head,
        num_frames=num_frames,
        frame_interval=frame_interval,
        architecture=architecture,
        backbone=backbone,
        num_hidden_layers=num_hidden_layers,
        sha256=sha256,
    )
