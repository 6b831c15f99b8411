"""Time the networks of table 3 against other implementations of the same mathematics, for `benchmarks.table3`.

Each is compared at its own protocol's clip of 224 x 224 pixels, in eager fp32, with equal weights: the ResNets with
pytorchvideo, which convolves in three dimensions, and the 2-D ones also with torchvision's on single frames, shifted
as mmaction2 does for TSM; BN-Inception with Cadene's; S3D and TQN with torchvision's S3D and torch's decoder; MTN with
three of pytorchvideo's networks. All of them take turns.
"""

import os
import re
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pretrainedmodels.models.bninception import BNInception
from pytorchvideo.models.resnet import create_resnet
from torch import nn
from torchvision.models import resnet50
from torchvision.models.video import s3d

from benchmarks.common import median_ratio, time_in_turns
from finegym.data.labels import Labels
from modeling_finegym import (
    BNInceptionConfig,
    BNInceptionModel,
    MtnConfig,
    MtnModel,
    S3DConfig,
    S3DModel,
    SlowOnlyConfig,
    TqnConfig,
    TqnForVideoClassification,
    VideoResNetConfig,
    VideoResNetModel,
)
from tests.modeling.parity import randomize, relative_error
from tests.modeling.test_tqn_parity import torch_decoder
from tests.modeling.test_video_resnet_parity import PEERS, oracle, renamed, shifted_weight


ROOT = Path(__file__).resolve().parent.parent
SIDE = 224
# ours -> torchvision's name of the same layer within a bottleneck
LAYERS = {
    "branch1_conv": "downsample.0",
    "branch1_norm": "downsample.1",
    "branch2.conv_a": "conv1",
    "branch2.norm_a": "bn1",
    "branch2.conv_b": "conv2",
    "branch2.norm_b": "bn2",
    "branch2.conv_c": "conv3",
    "branch2.norm_c": "bn3",
}


@dataclass
class Peer:
    """One network.

    Attributes:
        num_frames: The frames of its clip.
        ours: Our network, clip (1, T, 3, H, W) -> output.
        others: Implementation -> the same.
    """

    num_frames: int
    ours: Callable[[torch.Tensor], torch.Tensor]
    others: dict[str, Callable[[torch.Tensor], torch.Tensor]]


def build_peers() -> dict[str, Peer]:
    """Return all networks, with random weights that the implementations of one share."""
    peers = {name: _resnet(name, 8 if "I3D" in name else 3) for name in PEERS}
    return peers | {"BN-Inception": _bn_inception(), "S3D": _s3d(), "TQN": _tqn(), "MTN": _mtn()}


def _resnet(name: str, num_frames: int) -> Peer:
    theirs, ours = oracle(name), VideoResNetModel(VideoResNetConfig(**PEERS[name]))
    for key, weight in theirs.named_parameters():
        if "theta" in key:  # over so many channels, random attention is so sharp that rounding decides it
            weight.data *= 0.01
    state = renamed(theirs.state_dict(), name)
    if name == "TSM":
        state |= {key: state[key][:, :, 1:2].clone() for key in state if "conv_a" in key}
        kernels = {key: shifted_weight(state[key]) for key in state if "conv_a" in key}
        theirs.load_state_dict(theirs.state_dict() | kernels)
    ours.load_state_dict(state)
    ours.eval(), theirs.eval()
    others: dict[str, Callable[[torch.Tensor], torch.Tensor]]
    others = {"pytorchvideo": lambda clip: theirs(clip.transpose(1, 2))}
    if "I3D" not in name:
        others["torchvision"] = _of_frames(_torchvision_resnet(ours.state_dict(), shifted=name == "TSM"))
    return Peer(num_frames, lambda clip: ours(clip).last_hidden_state, others)


def _torchvision_resnet(state: dict[str, torch.Tensor], *, shifted: bool) -> nn.Module:
    renamed_state = {}
    for key, tensor in state.items():
        name = key.replace("blocks.0.conv", "conv1").replace("blocks.0.norm", "bn1")
        if match := re.fullmatch(r"blocks\.(\d)\.res_blocks\.(\d)\.(.*)\.(\w+)", key):
            name = f"layer{match[1]}.{match[2]}.{LAYERS[match[3]]}.{match[4]}"
        renamed_state[name] = tensor.squeeze(2) if tensor.ndim == 5 else tensor
    network = resnet50()
    network.avgpool = network.fc = nn.Identity()
    network.load_state_dict(renamed_state)
    if shifted:
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            for block in stage:
                block.conv1 = nn.Sequential(Shift(), block.conv1)
    return network.eval()  # it ends in a flattening, which `_of_frames` takes back


class Shift(nn.Module):
    """TSM's shift of the frames of one clip, (T, C, H, W), as mmaction2 writes it: parts that are put together."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        width = frames.shape[1] // 8
        to_past, to_future, still = frames[:, :width], frames[:, width : 2 * width], frames[:, 2 * width :]
        zeros = torch.zeros_like(to_past[:1])
        return torch.cat([torch.cat([to_past[1:], zeros]), torch.cat([zeros, to_future[:-1]]), still], dim=1)


def _of_frames(network: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function of a clip that computes each frame alone: (1, T, 3, H, W) -> (1, C, T, h, w)."""

    def compute(clip: torch.Tensor) -> torch.Tensor:
        side = -(-SIDE // 32)
        return network(clip[0]).view(clip.shape[1], -1, side, side).transpose(0, 1)[None]

    return compute


def _bn_inception() -> Peer:
    theirs, ours = BNInception(num_classes=1), BNInceptionModel(BNInceptionConfig()).eval()
    randomize(theirs)
    del theirs.last_linear
    _copy(theirs, ours)
    theirs.eval().forward = theirs.features
    return Peer(3, lambda clip: ours(clip).last_hidden_state, {"Cadene's": _of_frames(theirs)})


def _torchvision_s3d() -> nn.Module:
    network = s3d(num_classes=1).features
    randomize(network)
    return network.eval()


def _s3d() -> Peer:
    theirs, ours = _torchvision_s3d(), S3DModel(S3DConfig()).eval()
    _copy(theirs, ours)
    others = {"torchvision": lambda clip: theirs(clip.transpose(1, 2))}
    return Peer(16, lambda clip: ours(clip).last_hidden_state, others)


def _tqn() -> Peer:
    labels = Labels.read(ROOT / "configuration" / "gym99" / "labels.json")
    groups = {"attribute_names": labels.attributes, "attribute_group_sizes": [len(labels.attributes) - 1]}
    model = TqnForVideoClassification(TqnConfig(num_frames=64, num_labels=len(labels.classes), **groups)).eval()
    theirs, ours, decoder = _torchvision_s3d(), model.tqn, torch_decoder(model).float()
    _copy(theirs, ours.backbone)

    def compute(clip: torch.Tensor) -> torch.Tensor:
        blocks = clip[0].unflatten(0, (-1, 8)).transpose(1, 2)
        return decoder(ours.query_embed.weight[None], theirs(blocks).mean((2, 3, 4))[None])

    return Peer(64, lambda clip: ours(clip).last_hidden_state, {"torchvision and torch": compute})


def _mtn() -> Peer:
    kernels = ((1, 1, 1), (1, 1, 1), (3, 1, 1), (3, 1, 1))
    build = {"model_depth": 50, "stem_conv_kernel_size": (1, 7, 7), "stage_conv_a_kernel_size": kernels, "head": None}
    theirs = [create_resnet(**build).eval() for _ in range(3)]
    intervals = [8, 4, 1]
    ours = MtnModel(MtnConfig(vision_config=SlowOnlyConfig(), num_frames=32, pathway_intervals=intervals)).eval()
    for network, pathway in zip(theirs, ours.backbone, strict=True):
        randomize(network)
        pathway.load_state_dict(network.state_dict())

    def compute(clip: torch.Tensor) -> torch.Tensor:
        seen = zip(theirs, intervals, strict=True)
        return torch.stack([network(clip[:, ::step].transpose(1, 2)).mean((2, 3, 4)) for network, step in seen], 1)

    return Peer(32, ours.get_video_features, {"pytorchvideo": compute})


def _copy(theirs: nn.Module, ours: nn.Module) -> None:
    """Copy weights between networks that list their layers in the same order."""
    ours.load_state_dict(dict(zip(ours.state_dict(), theirs.state_dict().values(), strict=True)))


@torch.no_grad()
def measure_forwards(num_rounds: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return for each network the time of ours in ratio to the fastest other one, and the largest relative error."""
    figures, rows, generator = {}, [], torch.Generator().manual_seed(0)
    for name, peer in build_peers().items():
        clip = torch.randn(1, peer.num_frames, 3, SIDE, SIDE, generator=generator)
        output = peer.ours(clip)
        errors = {other: relative_error(output, compute(clip)) for other, compute in peer.others.items()}
        runs = {other: partial(compute, clip) for other, compute in {"ours": peer.ours, **peer.others}.items()}
        seconds = time_in_turns(runs, num_rounds=num_rounds)
        fastest = min(peer.others, key=lambda other: statistics.median(seconds[other]))
        figures[f"{name}.forward_ratio"] = median_ratio(seconds["ours"], seconds[fastest])
        figures[f"{name}.forward_error"] = max(errors.values())
        rows.append({"network": name, "num_frames": peer.num_frames, "seconds": seconds, "errors": errors})
    return {"slowest_forward_ratio": max(figures[f"{row['network']}.forward_ratio"] for row in rows)} | figures, rows


# Times a step whenever a line with its name comes in: the forward without gradients, or a training step.
SERVER = """
import sys, time, torch
from modeling_finegym import (FineGymVideoTextConfig, FineGymVideoTextForVideoClassification, FineGymVisionConfig,
                              FineGymVisionForVideoClassification, SlowOnlyConfig, SlowOnlyForVideoClassification)
torch.manual_seed(0)
backbone, clip, labels = SlowOnlyConfig(num_labels=99), torch.randn(1, 8, 3, 224, 224), torch.arange(4)
attributes = {"attribute_names": ["", *(f"attribute {number}" for number in range(65))]}
vision = FineGymVisionForVideoClassification(FineGymVisionConfig(vision_config=backbone, num_frames=8, num_labels=99))
text = FineGymVideoTextForVideoClassification(
    FineGymVideoTextConfig(vision_config=backbone, num_frames=8, num_labels=99, **attributes))
features = torch.randn(4, 8, 2048)
models = {"slowonly": (SlowOnlyForVideoClassification(backbone), {"pixel_values": clip}),
          "vision_encoder": (vision, {"video_features": features}), "video_text": (text, {"video_features": features})}
def run(name, step):
    model, inputs = models[name]
    if step == "forward":
        with torch.no_grad():
            return model.eval()(**inputs)
    model.zero_grad()
    model.train()(**inputs, labels=labels[:len(next(iter(inputs.values())))]).loss.backward()
print("ready", flush=True)
for line in sys.stdin:
    start = time.perf_counter()
    run(*line.split())
    print(time.perf_counter() - start, flush=True)
"""
STEPS = [
    f"{model} {step}" for model in ("slowonly", "vision_encoder", "video_text") for step in ("forward", "training")
]


def measure_before_and_after(before: Path, num_rounds: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the time of SlowOnly and of both encoders in ratio to an earlier checkout's, which takes turns."""
    servers, rows = {}, []
    for name, checkout in (("before", before), ("after", ROOT)):
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        command = [sys.executable, "-W", "ignore", "-c", SERVER]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        servers[name] = subprocess.Popen(command, cwd=checkout, env=environment, **pipes)
        servers[name].stdout.readline()
    for number in range(num_rounds + 1):
        for step in STEPS:
            seconds = {}
            for name in sorted(servers, reverse=number % 2 == 0):
                servers[name].stdin.write(f"{step}\n")
                servers[name].stdin.flush()
                seconds[name] = float(servers[name].stdout.readline())
            if number:  # the first warms up
                rows.append({"step": step, "round": number, "seconds": seconds})
    for server in servers.values():
        server.stdin.close()
        server.wait()
    figures = {}
    for step in STEPS:
        ratios = [row["seconds"]["before"] / row["seconds"]["after"] for row in rows if row["step"] == step]
        figures[f"{step.replace(' ', '_')}_ratio_before_after"] = statistics.median(ratios)
    return {"slowonly_ratio_before_after": figures["slowonly_forward_ratio_before_after"]} | figures, rows
