"""TSN, TSM, I3D and NL-I3D against pytorchvideo, which convolves in three dimensions; TSM as a sparse 3 x 1 x 1
convolution, so that an oracle determines the direction of the shift."""

import pytest
import torch
from pytorchvideo.layers.nonlocal_net import create_nonlocal
from pytorchvideo.models.resnet import create_resnet
from torch import nn

from modeling_finegym import VideoResNetConfig, VideoResNetForVideoClassification, VideoResNetModel
from tests.modeling.parity import check_saving_and_checkpointing, clips, randomize, relative_error


I3D_KERNELS = [[3, 3, 3], [3, 1, 3, 1], [3, 1, 3, 1, 3, 1], [1, 3, 1]]
I3D = {"stem_temporal_kernel_size": 5, "temporal_kernel_sizes": I3D_KERNELS, "temporal_pool_size": 2, "num_frames": 8}
NON_LOCAL = [[], [1, 3], [1, 3, 5], []]
PEERS = {
    "TSN": {},
    "TSM": {"temporal_shift_divisor": 8},
    "I3D": I3D,
    "NL-I3D": I3D | {"non_local_blocks": NON_LOCAL},
}
SMALL = {"stem_width": 16, "hidden_sizes": (64, 128, 256, 512)}


def oracle(peer: str, **sizes) -> nn.Module:
    """Build pytorchvideo's network of the same name, without a head, with no statistic at its initial value."""
    torch.manual_seed(0)
    kernels = {"TSN": ((1, 1, 1),) * 4, "TSM": ((3, 1, 1),) * 4}.get(
        peer, [[(size, 1, 1) for size in stage] for stage in I3D_KERNELS]
    )
    time = 5 if "I3D" in peer else 1
    pool = {"stage1_pool": nn.MaxPool3d, "stage1_pool_kernel_size": (2, 1, 1)} if "I3D" in peer else {}
    network = create_resnet(
        model_depth=50,
        stem_conv_kernel_size=(time, 7, 7),
        stage_conv_a_kernel_size=kernels,
        head=None,
        **pool,
        **sizes,
    )
    if peer == "NL-I3D":
        for stage, places in ((3, NON_LOCAL[1]), (4, NON_LOCAL[2])):
            blocks = network.blocks[stage].res_blocks
            for place in places:
                channels = blocks[place].branch2.conv_c.out_channels
                non_local = create_nonlocal(
                    dim_in=channels, dim_inner=channels // 2, pool_size=(1, 2, 2), instantiation="softmax"
                )
                blocks[place] = nn.Sequential(blocks[place], non_local)
    randomize(network)
    return network


def renamed(state: dict[str, torch.Tensor], peer: str) -> dict[str, torch.Tensor]:
    """Map their names to ours: the pool is not a block of its own, and non-local blocks are beside the bottlenecks."""
    ours = {}
    for name, tensor in state.items():
        parts = name.split(".")
        if "I3D" in peer and int(parts[1]) > 2:
            parts[1] = str(int(parts[1]) - 1)
        if len(parts) > 4 and parts[2] == "res_blocks" and parts[4] == "1":
            parts = [*parts[:2], "non_local_blocks", parts[3], *parts[5:]]
        elif len(parts) > 4 and parts[2] == "res_blocks" and parts[4] == "0":
            del parts[4]
        ours[".".join(parts)] = tensor
    return ours


def shifted_weight(weight: torch.Tensor) -> torch.Tensor:
    """Turn a 1 x 1 x 1 kernel after TSM's shift into a 3 x 1 x 1 kernel: the first eighth looks at the future."""
    width = weight.shape[1] // 8
    wide = torch.zeros(*weight.shape[:2], 3, 1, 1, dtype=weight.dtype)
    wide[:, :width, 2] = weight[:, :width, 0]
    wide[:, width : 2 * width, 0] = weight[:, width : 2 * width, 0]
    wide[:, 2 * width :, 1] = weight[:, 2 * width :, 0]
    return wide


def pair(peer: str) -> tuple[nn.Module, VideoResNetModel]:
    theirs = oracle(peer, stem_dim_out=16).double()
    ours = VideoResNetModel(VideoResNetConfig(**SMALL, **PEERS[peer])).double()
    state = renamed(theirs.state_dict(), peer)
    if peer == "TSM":
        for name in [name for name in state if "conv_a" in name]:
            state[name] = state[name][:, :, 1:2].clone()
    ours.load_state_dict(state)
    if peer == "TSM":
        kernels = {name: shifted_weight(tensor) for name, tensor in state.items() if "conv_a" in name}
        theirs.load_state_dict(theirs.state_dict() | kernels)
    return theirs, ours


@pytest.mark.parametrize("peer", PEERS)
def test_outputs(peer):
    theirs, ours = pair(peer)
    theirs.eval(), ours.eval()
    for shape in [(2, 4, 3, 64, 64), (1, 5, 3, 45, 70)]:
        pixel_values = clips(*shape)
        with torch.no_grad():
            expected = theirs(pixel_values.transpose(1, 2))
            output = ours(pixel_values)
            assert output.last_hidden_state.shape == expected.shape
            assert relative_error(output.last_hidden_state, expected) < 1e-10
            features = ours.get_video_features(pixel_values)
            assert relative_error(features, expected.mean((3, 4)).transpose(1, 2)) < 1e-10
            if peer != "TSN":  # the order of the frames matters
                reversed_features = ours.get_video_features(pixel_values.flip(1)).flip(1)
                assert relative_error(reversed_features, features) > 1e-3
        assert relative_error(ours(pixel_values).last_hidden_state, expected) < 1e-10  # with gradients, unfolded


@pytest.mark.parametrize("peer", PEERS)
def test_gradients_and_running_statistics_of_a_training_step(peer):
    theirs, ours = pair(peer)
    theirs.train(), ours.train()
    pixel_values = clips(2, 4, 3, 48, 48)
    expected, output = theirs(pixel_values.transpose(1, 2)), ours(pixel_values).last_hidden_state
    assert relative_error(output, expected) < 1e-10
    (expected**2).sum().backward()
    (output**2).sum().backward()
    gradients = renamed({name: parameter.grad for name, parameter in theirs.named_parameters()}, peer)
    largest = max(gradient.abs().max() for gradient in gradients.values())
    for name, parameter in ours.named_parameters():
        expected = gradients[name]
        if peer == "TSM" and "conv_a" in name:  # the entries of the sparse kernel that are not always zero
            width = expected.shape[1] // 8
            taken = [expected[:, :width, 2:], expected[:, width : 2 * width, :1], expected[:, 2 * width :, 1:2]]
            expected = torch.cat(taken, dim=1)
        assert (parameter.grad - expected).abs().max() < 1e-9 * largest, name
    statistics = renamed(dict(theirs.named_buffers()), peer)
    for name, buffer in ours.named_buffers():
        torch.testing.assert_close(buffer, statistics[name], rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize(
    ("peer", "num_parameters"), [("TSN", 23_710_883), ("TSM", 23_710_883), ("I3D", 27_426_723), ("NL-I3D", 34_785_187)]
)
def test_parameter_counts(peer, num_parameters):
    with torch.device("meta"):
        model = VideoResNetForVideoClassification(VideoResNetConfig(**PEERS[peer], num_labels=99))
    assert sum(parameter.numel() for parameter in model.parameters()) == num_parameters


def test_a_new_non_local_block_changes_nothing():
    torch.manual_seed(0)
    model = VideoResNetModel(VideoResNetConfig(**SMALL, **PEERS["NL-I3D"])).eval()
    plain = VideoResNetModel(VideoResNetConfig(**SMALL, **I3D)).eval()
    plain.load_state_dict({name: t for name, t in model.state_dict().items() if "non_local" not in name})
    pixel_values = clips(1, 4, 3, 48, 48).float()
    with torch.no_grad():
        torch.testing.assert_close(model(pixel_values).pooler_output, plain(pixel_values).pooler_output)


@pytest.mark.parametrize("peer", PEERS)
def test_saved_with_its_code_and_checkpointed(peer, tmp_path):
    torch.manual_seed(0)
    config = VideoResNetConfig(**SMALL, **PEERS[peer], num_labels=5, classifier_dropout=0)
    model = VideoResNetForVideoClassification(config)
    loaded = check_saving_and_checkpointing(model, clips(1, 4, 3, 40, 40).float(), tmp_path)
    assert loaded.config.to_dict()["temporal_kernel_sizes"] == [
        list(size) if isinstance(size, list) else size for size in config.temporal_kernel_sizes
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temporal_kernel_sizes": [[3, 3], 1, 1, 1]}, "stage 0 must be one number or 3"),
        ({"temporal_kernel_sizes": [1, 1, 1, 2]}, "odd"),
        ({"stem_temporal_kernel_size": 4}, "odd"),
        ({"temporal_pool_size": 4}, "between 1 and num_frames 3"),
        ({"temporal_shift_divisor": 1}, "between 2 and stem_width"),
        ({"non_local_blocks": [[], [4], [], []]}, "bottlenecks of each of 4 stages"),
    ],
)
def test_settings_that_no_network_has_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        VideoResNetConfig(**changes)
