"""Convert other projects' checkpoints, made here with real names and shapes, to checkpoint folders and back."""

from pathlib import Path

import pytest
import torch
from pytorchvideo.models.resnet import create_resnet
from safetensors.torch import load_file, save_file
from torch import nn
from torchvision.models import resnet50
from transformers import AutoModel, AutoModelForVideoClassification, BertConfig, BertModel

from finegym.data.labels import ActionClass, Labels
from finegym.hub.convert import convert, to_mmaction2
from finegym.hub.layouts import BERT_PREFIXES, LAYOUTS, MMACTION2, OURS, PYSLOWFAST, key_map
from finegym.training.build import load_weights
from modeling_finegym import FineGymVideoProcessor, SlowOnlyConfig, VideoResNetConfig, VideoResNetModel
from tests.hub.foreign import R50, STEM_WIDTH, renamed


@pytest.fixture
def labels(tmp_path) -> Path:
    classes = [ActionClass(id=id, name=name, text=name, attributes=(1,)) for id, name in enumerate(["leap", "turn"])]
    path = tmp_path / "labels.json"
    Labels(name="two", classes=classes, attributes=["", "one turn"]).write(path)
    return path


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


# ------------------------------------------------------------------------------------------------ names


def test_names_of_mmaction2_and_pyslowfast():
    """Check a sample of the names in those projects' checkpoints."""
    mmaction2, pyslowfast = key_map(MMACTION2, R50), key_map(PYSLOWFAST, R50)
    assert len(mmaction2) == len(set(mmaction2.values())) == 318
    for ours, first, second in [
        ("blocks.0.conv.weight", "backbone.conv1.conv.weight", "s1.pathway0_stem.conv.weight"),
        ("blocks.0.norm.running_var", "backbone.conv1.bn.running_var", "s1.pathway0_stem.bn.running_var"),
        (
            "blocks.3.res_blocks.5.branch2.conv_b.weight",
            "backbone.layer3.5.conv2.conv.weight",
            "s4.pathway0_res5.branch2.b.weight",
        ),
        (
            "blocks.4.res_blocks.2.branch2.norm_c.bias",
            "backbone.layer4.2.conv3.bn.bias",
            "s5.pathway0_res2.branch2.c_bn.bias",
        ),
        (
            "blocks.1.res_blocks.0.branch1_conv.weight",
            "backbone.layer1.0.downsample.conv.weight",
            "s2.pathway0_res0.branch1.weight",
        ),
        (
            "blocks.2.res_blocks.0.branch1_norm.num_batches_tracked",
            "backbone.layer2.0.downsample.bn.num_batches_tracked",
            "s3.pathway0_res0.branch1_bn.num_batches_tracked",
        ),
    ]:
        assert (mmaction2[ours], pyslowfast[ours]) == (first, second)


def test_names_of_pytorchvideo_and_torchvision_come_from_their_own_networks(slow_r50):
    ours = [name for name in slow_r50.state_dict() if not name.startswith("blocks.5.")]
    assert sorted(key_map(OURS, R50).values()) == sorted(ours)
    with torch.device("meta"):
        theirs = [name for name in resnet50().state_dict() if not name.startswith("fc.")]
    imagenet = next(layout for layout in LAYOUTS if layout.is_2d)
    assert sorted(key_map(imagenet, R50).values()) == sorted(theirs)


# ------------------------------------------------------------------------------------------------ SlowOnly in


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if not layout.is_2d], ids=lambda layout: layout.name)
@pytest.mark.parametrize("parallel", [False, True], ids=["", "trained on several GPUs"])
def test_slowonly_of_other_projects(tmp_path, slow_r50, layout, parallel):
    state = {("module." if parallel else "") + name: tensor for name, tensor in renamed(slow_r50, layout).items()}
    torch.save({layout.wrapper: state, "meta": {"epoch": 3}}, tmp_path / "theirs_4x16x1.pth")
    text = convert(str(tmp_path / "theirs_4x16x1.pth"), tmp_path / "ours")
    assert "taken     320 tensors" in text
    assert "new         0 tensors" in text

    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "ours").eval()
    slow_r50.blocks[5].pool = nn.AdaptiveAvgPool3d(1)
    pixel_values = noise(2, 4, 3, 40, 40)
    with torch.no_grad():
        expected = slow_r50(pixel_values.transpose(1, 2)).flatten(1)
        torch.testing.assert_close(model(pixel_values).logits, expected, rtol=1e-4, atol=1e-5)
    processor = FineGymVideoProcessor.from_pretrained(tmp_path / "ours")
    if layout is MMACTION2:
        assert tuple(processor.image_mean) == (0.485, 0.456, 0.406)
        assert tuple(processor.image_std) == (0.229, 0.224, 0.225)
    else:
        assert tuple(processor.image_mean) == (0.45, 0.45, 0.45)
        assert tuple(processor.image_std) == (0.225, 0.225, 0.225)
    assert (processor.num_frames, processor.frame_interval) == (4, 16) and not processor.antialias
    assert (model.config.num_frames, model.config.frame_interval) == (4, 16)


def test_a_file_that_does_not_tell_its_clips_is_asked_for_them(tmp_path, slow_r50):
    torch.save({"state_dict": renamed(slow_r50, MMACTION2)}, tmp_path / "best.pth")
    source = str(tmp_path / "best.pth")
    with pytest.raises(ValueError, match="best.pth does not say.*--num_frames and --frame_interval"):
        convert(source, tmp_path / "ours", num_frames=4)
    assert not (tmp_path / "ours").exists()
    convert(source, tmp_path / "ours", num_frames=8, frame_interval=4)
    processor = FineGymVideoProcessor.from_pretrained(tmp_path / "ours")
    assert (processor.num_frames, processor.frame_interval, processor.antialias) == (8, 4, False)
    (tmp_path / "best.pth").rename(tmp_path / "slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb.pth")  # mmaction2 1.x
    convert(str(next(tmp_path.glob("*.pth"))), tmp_path / "named")
    assert SlowOnlyConfig.from_pretrained(tmp_path / "named").frame_interval == 8


def test_full_size_shapes_are_those_of_the_released_checkpoints(tmp_path):
    """mmaction2's metafile counts 32,454,096 parameters for the 400-way SlowOnly-R50."""
    with torch.device("meta"):
        network = create_resnet(model_depth=50, model_num_class=400, stem_conv_kernel_size=(1, 7, 7))
    state = {
        name: torch.zeros(tensor.shape, dtype=tensor.dtype) for name, tensor in renamed(network, MMACTION2).items()
    }
    torch.save({"state_dict": state}, tmp_path / "theirs_4x16x1.pth")
    convert(str(tmp_path / "theirs_4x16x1.pth"), tmp_path / "ours", num_frames=32, frame_interval=2)
    config = SlowOnlyConfig.from_pretrained(tmp_path / "ours")
    assert (config.hidden_sizes, config.num_frames, config.frame_interval) == ([256, 512, 1024, 2048], 32, 2)
    sizes = [
        tensor.numel()
        for name, tensor in load_file(tmp_path / "ours" / "model.safetensors").items()
        if "running" not in name
    ]
    assert sum(sizes) - 53 == 32_454_096  # one batch counter per normalization


def test_round_trip_to_mmaction2_is_exact_to_the_bit(tmp_path, slow_r50):
    state = renamed(slow_r50, MMACTION2)
    torch.save({"state_dict": state}, tmp_path / "theirs_4x16x1.pth")
    convert(str(tmp_path / "theirs_4x16x1.pth"), tmp_path / "ours")
    to_mmaction2(str(tmp_path / "ours"), tmp_path / "back.pth")
    back = torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]
    assert back.keys() == state.keys()
    for name, tensor in state.items():
        assert back[name].dtype == tensor.dtype and torch.equal(back[name], tensor), name


def test_a_classifier_with_more_rows_than_labels_is_cut_or_dropped_but_never_by_itself(tmp_path, slow_r50, labels):
    torch.save({"state_dict": renamed(slow_r50, MMACTION2)}, tmp_path / "theirs_4x16x1.pth")
    source = str(tmp_path / "theirs_4x16x1.pth")
    with pytest.raises(ValueError, match="9 rows, the labels are 2.*head=drop.*head=cut"):
        convert(source, tmp_path / "neither", labels=labels)
    assert not (tmp_path / "neither").exists()

    assert "rows 0 to 1 of 9" in convert(source, tmp_path / "cut", labels=labels, head="cut")
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "cut")
    assert model.config.id2label == {0: "leap", 1: "turn"}
    assert torch.equal(model.classifier.weight, slow_r50.blocks[5].proj.weight[:2])

    text = convert(source, tmp_path / "drop", labels=labels, head="drop")
    assert "dropped     2 tensors" in text and "for the 2 labels" in text
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "drop")
    assert model.classifier.weight.shape == (2, 32 * STEM_WIDTH)


def test_inflated_imagenet_resnet_sees_a_still_video_as_the_image(tmp_path):
    torch.manual_seed(1)
    image_network = resnet50(num_classes=10).eval()
    torch.save(image_network.state_dict(), tmp_path / "resnet50.pth")
    text = convert(str(tmp_path / "resnet50.pth"), tmp_path / "ours")
    assert "repeated over 3 steps" in text and "10 classes of images" in text
    model = AutoModel.from_pretrained(tmp_path / "ours").eval().double()  # rounding then depends on no kernel
    assert not hasattr(model, "classifier") and model.config.temporal_kernel_sizes == [1, 1, 3, 3]
    image_network, image = image_network.double(), noise(1, 3, 32, 32).double()
    with torch.no_grad():
        expected = nn.Sequential(*list(image_network.children())[:-2])(image)
        # nine bottlenecks look one frame to either side, so that the middle of 19 frames does not see the padding
        features = model(image[:, None].expand(-1, 19, -1, -1, -1)).last_hidden_state[:, :, 9]
    torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)


def test_a_video_resnet_takes_an_imagenet_resnet_as_it_is_and_inflates_it_only_where_its_kernels_are_longer(tmp_path):
    torch.manual_seed(1)
    image_network = resnet50(num_classes=10).eval()
    torch.save(image_network.state_dict(), tmp_path / "resnet50.pth")
    convert(str(tmp_path / "resnet50.pth"), tmp_path / "ours", architecture="video_resnet")
    model = AutoModel.from_pretrained(tmp_path / "ours").eval().double()
    assert model.config.temporal_kernel_sizes == [1, 1, 1, 1] and model.config.system == "TSN (ResNet)"
    frames = noise(3, 3, 32, 32).double()
    features = nn.Sequential(*list(image_network.double().children())[:-2])
    with torch.no_grad():
        expected = features(frames)
        torch.testing.assert_close(
            model(frames[None]).last_hidden_state[0].transpose(0, 1), expected, rtol=1e-3, atol=1e-4
        )

    config = {"stem_temporal_kernel_size": 5, "temporal_kernel_sizes": [[3, 1, 3], [1] * 4, [1] * 6, 3]}
    inflated = VideoResNetModel(VideoResNetConfig(**config, non_local_blocks=[[], [1], [], []])).eval().double()
    load_weights(inflated, model.state_dict(), source="ours")
    with torch.no_grad():  # in the middle of 17 frames the padding is not seen
        still = inflated(frames[:1, None].expand(-1, 17, -1, -1, -1)).last_hidden_state[:, :, 8]
    torch.testing.assert_close(still, expected[:1], rtol=1e-3, atol=1e-4)
    with pytest.raises(
        ValueError, match=r"ours does not fit model.config: blocks.4.res_blocks.0.branch1_conv.weight is"
    ):
        load_weights(
            VideoResNetModel(VideoResNetConfig(hidden_sizes=(256, 512, 1024, 64))), model.state_dict(), source="ours"
        )
    with pytest.raises(ValueError, match="holds a ResNet, and architecture vision is an encoder"):
        convert(str(tmp_path / "resnet50.pth"), tmp_path / "other", architecture="vision")


def test_old_torchvision_files_have_no_batch_counters(tmp_path, slow_r50):
    state = {name: tensor for name, tensor in renamed(slow_r50, MMACTION2).items() if "num_batches" not in name}
    torch.save(state, tmp_path / "theirs_4x16x1.pth", _use_new_zipfile_serialization=False)
    text = convert(str(tmp_path / "theirs_4x16x1.pth"), tmp_path / "ours")
    assert "new        53 tensors" in text


def test_half_precision_becomes_single(tmp_path, slow_r50):
    state = {name: t.half() if t.is_floating_point() else t for name, t in renamed(slow_r50, PYSLOWFAST).items()}
    save_file(state, tmp_path / "theirs_8x8.safetensors")
    convert(str(tmp_path / "theirs_8x8.safetensors"), tmp_path / "ours")
    assert {t.dtype for t in load_file(tmp_path / "ours" / "model.safetensors").values()} == {
        torch.float32,
        torch.int64,
    }


# ------------------------------------------------------------------------------------------------ encoders in


def bert(num_layers: int) -> BertModel:
    torch.manual_seed(2)
    return BertModel(
        BertConfig(
            hidden_size=64,
            num_hidden_layers=num_layers,
            num_attention_heads=1,
            intermediate_size=80,
            vocab_size=11,
            max_position_embeddings=9,
            attn_implementation="eager",
        )
    ).eval()


@pytest.fixture
def backbone(tmp_path, slow_r50) -> Path:
    torch.save({"model_state": slow_r50.state_dict()}, tmp_path / "SLOW_8x8_R50.pyth")
    convert(str(tmp_path / "SLOW_8x8_R50.pyth"), tmp_path / "backbone")
    return tmp_path / "backbone"


@pytest.mark.parametrize("architecture, prefix, num_layers", [("vision", "bert.", 3), ("video_text", "cross.", 2)])
def test_bert_layers_into_an_encoder(tmp_path, backbone, labels, architecture, prefix, num_layers):
    theirs = bert(num_layers + 1)
    # old files, UniVL's among them, call LayerNorm's parameters gamma and beta
    state = {
        prefix
        + name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in theirs.state_dict().items()
    }
    torch.save(state, tmp_path / "bert.bin")
    text = convert(
        str(tmp_path / "bert.bin"), tmp_path / "ours", architecture=architecture, backbone=backbone, labels=labels
    )
    assert "deeper than this encoder" in text and "to be trained" in text
    model = AutoModelForVideoClassification.from_pretrained(tmp_path / "ours", attn_implementation="eager").eval()
    assert model.config.num_hidden_layers == num_layers and model.config.id2label == {0: "leap", 1: "turn"}
    tokens = noise(2, 5, 64)
    with torch.no_grad():
        expected = tokens
        for layer in theirs.encoder.layer[:num_layers]:
            expected = layer(expected)
            expected = expected[0] if isinstance(expected, tuple) else expected
        torch.testing.assert_close(model.base_model.encoder(tokens).last_hidden_state, expected, rtol=1e-5, atol=1e-5)
    original = AutoModel.from_pretrained(backbone)
    for name, tensor in original.state_dict().items():
        assert torch.equal(model.base_model.backbone.state_dict()[name], tensor), name


def test_univl_gives_each_encoder_its_own_layers(tmp_path, backbone, labels):
    state = {}
    for part in ("bert", "visual", "cross", "decoder"):
        network = bert(3)
        with torch.no_grad():
            network.encoder.layer[0].intermediate.dense.bias.fill_(len(part))
        state |= {f"{part}.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save(state, tmp_path / "univl.bin")
    for architecture, part in (("vision", "visual"), ("video_text", "cross")):
        assert BERT_PREFIXES[architecture][0].startswith(part)
        output = tmp_path / architecture
        convert(str(tmp_path / "univl.bin"), output, architecture=architecture, backbone=backbone, labels=labels)
        encoder = AutoModel.from_pretrained(output).encoder
        assert (encoder.layer[0].intermediate.dense.bias == len(part)).all()


def test_bert_layers_need_a_backbone_and_enough_layers(tmp_path, backbone, labels):
    torch.save(bert(1).state_dict(), tmp_path / "bert.bin")
    with pytest.raises(ValueError, match="architecture: vision or video_text"):
        convert(str(tmp_path / "bert.bin"), tmp_path / "ours")
    with pytest.raises(ValueError, match=r"encoder\.layer\.1\.attention\.self\.query\.weight' is missing"):
        convert(str(tmp_path / "bert.bin"), tmp_path / "ours", architecture="vision", backbone=backbone, labels=labels)
    convert(
        str(tmp_path / "bert.bin"),
        tmp_path / "ours",
        architecture="vision",
        backbone=backbone,
        labels=labels,
        num_hidden_layers=1,
    )
