"""Weights of the other systems of the paper's table 3, in files made here with the names of their projects."""

import itertools
import pickle
import re

import numpy as np
import pytest
import torch
from pretrainedmodels.models.bninception import BNInception
from pytorchvideo.models.resnet import create_resnet
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet50
from torchvision.models.video import s3d
from transformers import AutoModel, AutoModelForVideoClassification

from finegym.hub.convert import convert
from finegym.hub.layouts import MMACTION2, key_map
from modeling_finegym import FineGymVideoProcessor, TrnConfig, TrnForVideoClassification
from tests.modeling.parity import clips, randomize, relative_error


def converted(state: dict[str, torch.Tensor], folder, name: str, **options):
    """Save a state dict as its project does, convert it, and return the model in float64 with its processor."""
    torch.save({"state_dict": state}, folder / name)
    convert(str(folder / name), folder / "ours", **options)
    model = AutoModelForVideoClassification.from_pretrained(folder / "ours").double().eval()
    return model, FineGymVideoProcessor.from_pretrained(folder / "ours")


def test_s3d_of_torchvision(tmp_path):
    torch.manual_seed(0)
    theirs = s3d(num_classes=5)
    randomize(theirs)
    ours, processor = converted(theirs.state_dict(), tmp_path, "s3d-kinetics.pth")
    theirs.double().eval()
    pixel_values = clips(1, 8, 3, 64, 64)
    with torch.no_grad():
        features = theirs.features(pixel_values.transpose(1, 2))
        expected = theirs.classifier(features).mean((2, 3, 4))
        assert relative_error(ours(pixel_values).logits, expected) < 1e-10
    assert (processor.num_frames, processor.image_mean[0], processor.antialias) == (8, 0.43216, False)


@pytest.mark.parametrize("head", [pytest.param("last_linear", marks=pytest.mark.slow), "fc"])
def test_bn_inception_of_cadene_and_yjxiong(head, tmp_path):
    torch.manual_seed(0)
    theirs = BNInception(num_classes=7)
    randomize(theirs)
    state = {name.replace("last_linear", head): tensor for name, tensor in theirs.state_dict().items()}
    if head == "fc":  # early files, whose normalizations are rows and have no counters
        state = {
            name: tensor[None] if "_bn" in name else tensor
            for name, tensor in state.items()
            if "num_batches" not in name
        }
    torch.save(state, tmp_path / "bn_inception.pth")
    assert "7 classes of images" in convert(str(tmp_path / "bn_inception.pth"), tmp_path / "ours")
    ours = AutoModel.from_pretrained(tmp_path / "ours").double().eval()
    processor = FineGymVideoProcessor.from_pretrained(tmp_path / "ours")
    assert (processor.sampling, processor.num_frames) == ("segments", 3)
    frames = torch.randint(256, (3, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    processor.do_resize = processor.do_center_crop = False
    pixel_values = processor(frames.numpy(), return_tensors="pt", do_sample_frames=False).pixel_values.double()
    caffe = frames.flip(-1).permute(0, 3, 1, 2).double() - torch.tensor([104.0, 117.0, 128.0])[:, None, None]
    with torch.no_grad():
        expected = theirs.double().eval().features(caffe)
        assert relative_error(ours(pixel_values).last_hidden_state[0].transpose(0, 1), expected) < 1e-5


def relations(num_scales: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    state = {}
    for scale in range(num_scales):
        sizes = {"1": (16, (num_scales + 1 - scale) * 16), "3": (5, 16)}
        for layer, size in sizes.items():
            state[f"module.consensus.fc_fusion_scales.{scale}.{layer}.weight"] = torch.randn(size, generator=generator)
            state[f"module.consensus.fc_fusion_scales.{scale}.{layer}.bias"] = torch.randn(
                size[0], generator=generator
            )
    return state


@pytest.mark.parametrize("system", [pytest.param("TSN", marks=pytest.mark.slow), "TRN"])
def test_repositories_of_tsn_and_trn(system, tmp_path):
    torch.manual_seed(0)
    theirs = BNInception()
    randomize(theirs)
    state = {f"module.base_model.{k}": v for k, v in theirs.state_dict().items() if not k.startswith("last_linear")}
    head = nn.Linear(1024, 5 if system == "TSN" else 16)
    state |= {f"module.new_fc.{name}": tensor for name, tensor in head.state_dict().items()}
    if system == "TRN":
        state |= relations(3)
    ours, processor = converted(state, tmp_path, "TRN_BNInception_segment4_best.pth.tar")
    assert processor.num_frames == (4 if system == "TRN" else 3) and processor.sampling == "segments"
    pixel_values = clips(1, processor.num_frames, 3, 64, 64)
    theirs.double().eval(), head.double()
    with torch.no_grad():
        frames = head(theirs.features(pixel_values[0].flip(1)).mean((2, 3)))[None]
        if system == "TSN":
            expected = frames.mean(1)
        else:
            model = TrnForVideoClassification(TrnConfig(num_frames=4, hidden_size=16, num_labels=5)).double().eval()
            names = {"1": "hidden", "3": "classifier"}
            for name, tensor in relations(3).items():
                _, _, _, scale, layer, kind = name.split(".")
                getattr(getattr(model.relations[int(scale)], names[layer]), kind).copy_(tensor)
            expected = sum(scale(frames) for scale in model.relations)
        assert relative_error(ours(pixel_values).logits, expected) < 1e-10


def renamed_resnet(layout: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """Return torchvision's ResNet and its tensors under the names of a project of videos."""
    torch.manual_seed(0)
    network = resnet50(num_classes=5)
    randomize(network)
    state = {}
    for name, tensor in network.state_dict().items():
        if layout == "TSM":
            name = re.sub(r"(layer\d\.\d\.conv1)\.", r"\1.net.", name).replace("fc.", "new_fc.")
            name = f"module.{name}" if name.startswith("new_fc") else f"module.base_model.{name}"
        else:
            name = re.sub(r"(layer\d\.\d\.)(conv|bn)(\d)\.", lambda m: f"{m[1]}conv{m[3]}.{m[2]}.", name)
            name = re.sub(r"^(conv1|bn1)\.", lambda m: f"conv1.{m[1].rstrip('1')}.", name)
            name = name.replace("downsample.0", "downsample.conv").replace("downsample.1", "downsample.bn")
            if layout == "mmaction2 TSM":
                name = re.sub(r"(layer\d\.\d\.conv1\.conv)\.", r"\1.net.", name)
            name = name.replace("fc.", "cls_head.fc_cls.") if name.startswith("fc") else f"backbone.{name}"
        state[name] = tensor
    return network, state


@pytest.mark.parametrize(
    ("layout", "file"),
    [
        ("TSM", "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment3_e50.pth"),
        pytest.param("mmaction2 TSM", "tsm_r50_1x1x3_50e_kinetics400_rgb.pth", marks=pytest.mark.slow),
        pytest.param("mmaction2 TSN", "tsn_r50_1x1x3_100e_kinetics400_rgb.pth", marks=pytest.mark.slow),
    ],
)
def test_tsm_and_tsn_on_a_resnet(layout, file, tmp_path):
    network, state = renamed_resnet(layout)
    ours, processor = converted(state, tmp_path, file)
    assert (processor.num_frames, processor.sampling) == (3, "segments")
    network.double().eval()
    if "TSM" in layout:  # by hand: before conv1, an eighth from the next frame and an eighth from the one before
        for name, module in network.named_modules():
            if re.fullmatch(r"layer\d\.\d\.conv1", name):
                module.register_forward_pre_hook(lambda module, inputs: shift_by_hand(inputs[0]))
    pixel_values = clips(1, 3, 3, 64, 64)
    with torch.no_grad():
        assert relative_error(ours(pixel_values).logits[0], network(pixel_values[0]).mean(0)) < 1e-10
    assert ours.config.system == ("TSM" if "TSM" in layout else "TSN (ResNet)")


def shift_by_hand(frames: torch.Tensor) -> torch.Tensor:
    width, shifted = frames.shape[1] // 8, frames.clone()
    for frame in range(3):
        shifted[frame, :width] = frames[frame + 1, :width] if frame < 2 else 0
        shifted[frame, width : 2 * width] = frames[frame - 1, width : 2 * width] if frame else 0
    return shifted


KERNELS = ((3, 3, 3), (3, 1, 3, 1), (3, 1, 3, 1, 3, 1), (1, 3, 1))


def pytorchvideo_i3d(**changes) -> nn.Module:
    torch.manual_seed(0)
    settings = {
        "model_depth": 50,
        "model_num_class": 5,
        "stem_dim_out": 8,
        "stem_conv_kernel_size": (5, 7, 7),
        "stage_conv_a_kernel_size": [[(size, 1, 1) for size in stage] for stage in KERNELS],
        "stage1_pool": nn.MaxPool3d,
        "stage1_pool_kernel_size": (2, 1, 1),
        "head_pool_kernel_size": (4, 2, 2),
        "dropout_rate": 0,
    }
    network = create_resnet(**settings | changes)
    randomize(network)
    return network


def test_i3d_of_pytorchvideo(tmp_path):
    theirs = pytorchvideo_i3d()
    ours, processor = converted(theirs.state_dict(), tmp_path, "I3D_8x8_R50.pyth")
    assert ours.config.system == "I3D" and (processor.num_frames, processor.frame_interval) == (8, 8)
    assert ours.config.temporal_kernel_sizes == [list(stage) for stage in KERNELS]
    pixel_values = clips(1, 8, 3, 64, 64)
    with torch.no_grad():
        expected = theirs.double().eval()(pixel_values.transpose(1, 2))
        assert relative_error(ours(pixel_values).logits, expected.reshape(1, 5)) < 1e-10


class MmcvNonLocal(nn.Module):
    """The embedded Gaussian block of mmcv's `NonLocal3d` with mmaction2's settings: products are not scaled, and keys
    and values are halved after their convolutions."""

    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.theta, self.phi, self.g = (nn.Conv3d(channels, half, 1) for _ in range(3))
        self.conv_out = nn.Conv3d(half, channels, 1, bias=False)
        self.bn = nn.BatchNorm3d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pool = nn.MaxPool3d((1, 2, 2), (1, 2, 2))
        query = self.theta(x).flatten(2).transpose(1, 2)
        key, value = (pool(conv(x)).flatten(2) for conv in (self.phi, self.g))
        attended = (query @ key).softmax(-1) @ value.transpose(1, 2)
        return x + self.bn(self.conv_out(attended.transpose(1, 2).unflatten(2, x.shape[2:])))


def mmaction2_i3d(network: nn.Module, non_local: dict[tuple[int, int], MmcvNonLocal]) -> dict[str, torch.Tensor]:
    """Return the tensors of pytorchvideo's network under mmaction2's names, with those of non-local blocks."""
    names = key_map(MMACTION2, (3, 4, 6, 3))
    names |= {f"blocks.5.proj.{kind}": f"{MMACTION2.head}.{kind}" for kind in ("weight", "bias")}
    state = {}
    for name, tensor in network.state_dict().items():
        parts = name.split(".")
        if int(parts[1]) > 2:
            parts[1] = str(int(parts[1]) - 1)
        state[names[".".join(parts)]] = tensor
    paths = {"theta": "theta.conv", "phi": "phi.0.conv", "g": "g.0.conv", "conv_out": "conv_out.conv"}
    for (stage, place), block in non_local.items():
        for name, tensor in block.state_dict().items():
            layer, kind = name.split(".")
            path = paths.get(layer, "conv_out.bn")
            state[f"backbone.layer{stage}.{place}.non_local_block.{path}.{kind}"] = tensor
    return state


@pytest.mark.parametrize("system", ["I3D", "NL-I3D"])
def test_i3d_of_mmaction2(system, tmp_path):
    """Its stem and its first pool keep every second frame each: of 16 frames two remain after the second pool."""
    strides = {"stem_conv_stride": (2, 2, 2), "stem_pool_stride": (2, 2, 2), "head_pool_kernel_size": (2, 2, 2)}
    theirs = pytorchvideo_i3d(**strides)
    non_local = {}
    if system == "NL-I3D":
        non_local = {(stage, place): MmcvNonLocal(32 * 2**stage // 2) for stage, place in ((2, 1), (2, 3), (3, 5))}
        for block in non_local.values():
            randomize(block)
            nn.init.normal_(block.theta.weight, std=0.3)
    state = mmaction2_i3d(theirs, non_local)
    for (stage, place), block in non_local.items():
        blocks = theirs.blocks[stage + 1].res_blocks
        blocks[place] = nn.Sequential(blocks[place], block)
    name = "i3d_imagenet-pretrained-r50-nl-embedded-gaussian_8xb8-16x2x1-100e.pth"
    ours, processor = converted(state, tmp_path, name)
    assert ours.config.system == system and (processor.num_frames, processor.frame_interval) == (16, 2)
    assert ours.config.num_video_tokens == 2
    theirs.double().eval()
    for num_frames in (16, 13):  # of 13, strides leave seven, four and two
        pixel_values = clips(1, num_frames, 3, 64, 64)
        with torch.no_grad():
            expected = theirs(pixel_values.transpose(1, 2)).reshape(1, 5)
            assert relative_error(ours(pixel_values).logits, expected) < 1e-10
            assert relative_error(ours(pixel_values.flip(1)).logits, expected) > 1e-3


def test_mmaction2_networks_that_are_not_built_here_are_named(tmp_path):
    state = mmaction2_i3d(pytorchvideo_i3d(), {(2, 1): MmcvNonLocal(64)})
    torch.save(state, tmp_path / "i3d_nl-dot-product_32x2x1.pth")
    with pytest.raises(ValueError, match="dot-product_32x2x1.pth: of mmaction2's non-local blocks only those"):
        convert(str(tmp_path / "i3d_nl-dot-product_32x2x1.pth"), tmp_path / "other")
    gaussian = {name: tensor for name, tensor in state.items() if "theta" not in name and "phi" not in name}
    torch.save(gaussian, tmp_path / "i3d_nl-gaussian_32x2x1.pth")
    with pytest.raises(ValueError, match="only those of the embedded Gaussian"):
        convert(str(tmp_path / "i3d_nl-gaussian_32x2x1.pth"), tmp_path / "other")


def test_trn_of_mmaction2(tmp_path):
    """Its classifier is the projection to 16 channels here, and the relations are below it."""
    network, state = renamed_resnet("mmaction2 TSN")
    state = {name: tensor for name, tensor in state.items() if "fc_cls" not in name}
    head = nn.Linear(2048, 16)
    state |= {f"cls_head.fc_cls.{kind}": tensor for kind, tensor in head.state_dict().items()}
    state |= {name.replace("module.", "cls_head."): tensor for name, tensor in relations(3).items()}
    ours, processor = converted(state, tmp_path, "trn_r50_1x1x8_50e_sthv1_rgb.pth")
    assert ours.config.model_type == "trn" and ours.config.vision_config.model_type == "video_resnet"
    assert (processor.num_frames, processor.sampling, ours.num_labels) == (4, "segments", 5)
    network.fc = nn.Identity()
    network.double().eval(), head.double()
    pixel_values = clips(1, 4, 3, 64, 64)
    with torch.no_grad():
        frames = head(network(pixel_values[0]))[None]
        expected = 0
        for scale in range(3):
            weights = {n.split(".", 4)[4]: t.double() for n, t in relations(3).items() if f"scales.{scale}." in n}
            places = list(itertools.combinations(range(4), 4 - scale))
            share = min(3, len(places)) / len(places)
            for chosen in places:
                hidden = F.relu(F.linear(F.relu(frames[:, chosen].flatten(1)), weights["1.weight"], weights["1.bias"]))
                expected = expected + share * F.linear(hidden, weights["3.weight"], weights["3.bias"])
        assert relative_error(ours(pixel_values).logits, expected) < 1e-10


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_caffe2_files_are_refused_by_name(suffix, tmp_path):
    """As video-nonlocal-net writes them: a pickle of a mapping from the names of layers to arrays."""
    path = tmp_path / f"I3D_NLN_8x8_R50{suffix}"
    blobs = {"conv1_w": np.zeros((8, 3, 5, 7, 7)), "res_conv1_bn_s": np.ones(8)}
    for protocol in (0, 2):
        path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=protocol))
        with pytest.raises(ValueError, match=f"I3D_NLN_8x8_R50{suffix} is a pickle of Caffe2.*convert i3d_r50"):
            convert(str(path), tmp_path / "ours")


def test_what_is_missing_or_has_no_place_is_named(tmp_path):
    state = BNInception(num_classes=7).state_dict()
    torch.save({**state, "extra.weight": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(ValueError, match="more.pth: 'extra.weight' has no place in a BN-Inception"):
        convert(str(tmp_path / "more.pth"), tmp_path / "ours")
    del state["inception_5b_pool_proj.bias"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(ValueError, match="less.pth: 'inception_5b_pool_proj.bias' is missing"):
        convert(str(tmp_path / "less.pth"), tmp_path / "ours")
    assert not (tmp_path / "ours").exists()
