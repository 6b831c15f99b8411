"""A small network of another project, under the names of any of them."""

import torch
from pytorchvideo.models.resnet import create_resnet
from torch import nn

from finegym.hub.layouts import key_map


R50 = (3, 4, 6, 3)
STEM_WIDTH = 4


def small_slow_r50() -> nn.Module:
    """Build pytorchvideo's Slow-R50 with a sixteenth of the channels and 9 classes."""
    torch.manual_seed(0)
    network = create_resnet(
        model_depth=50, model_num_class=9, stem_dim_out=STEM_WIDTH, stem_conv_kernel_size=(1, 7, 7), dropout_rate=0
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.5, 1.0)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.num_batches_tracked.fill_(7)
    return network.eval()


def renamed(network: nn.Module, layout) -> dict[str, torch.Tensor]:
    """Return the network's state dict under the names of `layout`."""
    names = key_map(layout, R50) | {
        f"blocks.5.proj.{tensor}": f"{layout.head}.{tensor}" for tensor in ("weight", "bias")
    }
    return {names[name]: tensor for name, tensor in network.state_dict().items()}
