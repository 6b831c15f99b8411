"""Compute factorized 3-D convolutions in two dimensions.

Every kernel is either 1 x k x k, a 2-D convolution over B*T frames, or k x 1 x 1, a 2-D convolution over the (T, H*W)
plane. In channels-last memory both are views of the same tensor, so nothing is copied.

Shapes: B clips, T frames, C channels, H x W pixels.
"""

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


# Inside the network, videos are batches of frames (B*T, C, H, W) in channels-last memory, where all these are views.
# They go through (.., C), which is contiguous: reshaping (.., C, H, W) itself gives a dimension of size 1 a stride
# from which torch no longer recognizes the channels-last format, so that it computes in the slow one.


def unfold_frames(frames: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Frames (B*T, C, H, W) -> videos (B, C, T, H, W)."""
    return frames.unflatten(0, (-1, num_frames)).transpose(1, 2)


def fold_frames(video: torch.Tensor) -> torch.Tensor:
    """Videos (B, C, T, H, W) -> frames (B*T, C, H, W)."""
    return video.permute(0, 2, 3, 4, 1).flatten(0, 1).permute(0, 3, 1, 2)


def frames_to_planes(frames: torch.Tensor, num_frames: int) -> torch.Tensor:
    """Frames (B*T, C, H, W) -> planes of time and space (B, C, T, H*W)."""
    return frames.permute(0, 2, 3, 1).unflatten(0, (-1, num_frames)).flatten(2, 3).permute(0, 3, 1, 2)


def planes_to_frames(planes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Planes (B, C, T, H*W) -> frames (B*T, C, H, W) of the given height and width."""
    return planes.permute(0, 2, 3, 1).flatten(0, 1).unflatten(1, size).permute(0, 3, 1, 2)


class TemporalConvolution(torch.autograd.Function):
    """
    The k x 1 convolution of planes (B, C, T, H*W), whose gradients are matrix products, one step of the kernel at a
    time: on a CPU these are faster than oneDNN's gradients of the whole kernel, and the result is the same.
    """

    @staticmethod
    def forward(ctx, planes: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(planes, weight)
        return F.conv2d(planes, weight, padding=(weight.shape[2] // 2, 0))

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor]:
        planes, weight = (tensor.to(grad.dtype) for tensor in ctx.saved_tensors)  # they differ under autocast
        num_videos, _, num_frames, num_positions = planes.shape
        inputs = planes.permute(0, 2, 3, 1).flatten(1, 2)  # (B, T*H*W, C)
        grad = grad.permute(0, 2, 3, 1).flatten(1, 2)  # (B, T*H*W, out_channels)
        grad_inputs = torch.zeros_like(inputs) if ctx.needs_input_grad[0] else None
        grad_weight = torch.zeros_like(weight)
        for step in range(weight.shape[2]):
            shift = step - weight.shape[2] // 2  # output frame t sees input frame t + shift
            length = (num_frames - abs(shift)) * num_positions
            if length <= 0:
                continue
            seen = slice(max(0, shift) * num_positions, max(0, shift) * num_positions + length)
            seeing = slice(max(0, -shift) * num_positions, max(0, -shift) * num_positions + length)
            grad_weight[:, :, step, 0] = torch.bmm(grad[:, seeing].transpose(1, 2), inputs[:, seen]).sum(0)
            if grad_inputs is not None:
                grad_inputs[:, seen].baddbmm_(grad[:, seeing], weight[:, :, step, 0].expand(num_videos, -1, -1))
        if grad_inputs is not None:
            grad_inputs = grad_inputs.unflatten(1, (num_frames, num_positions)).permute(0, 3, 1, 2)
        return grad_inputs, grad_weight


class FactorizedConv3d(nn.Conv3d):
    """
    A 3-D convolution whose kernel is 1 x k x k or k x 1 x 1, without bias and with "same" padding, computed in two
    dimensions: frames (B*T, C, H, W) of videos of T frames -> (B*T, out_channels, H / stride, W / stride), and T is
    divided by `time_stride`, rounded up.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        time: int = 1,
        space: int = 1,
        stride: int = 1,
        time_stride: int = 1,
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size=(time, space, space),
            stride=(time_stride, stride, stride),
            padding=(time // 2, space // 2, space // 2),
            bias=False,
        )

    def forward(self, frames: torch.Tensor, num_frames: int) -> torch.Tensor:
        return self.convolve(frames, num_frames, self.weight, None)

    def convolve(
        self, frames: torch.Tensor, num_frames: int, weight: torch.Tensor, bias: torch.Tensor | None
    ) -> torch.Tensor:
        """Convolve with other weights of the same shape and a bias of shape `(out_channels,)`."""
        if self.kernel_size[0] == 1:
            return F.conv2d(frames, weight.squeeze(2), bias, self.stride[1:], self.padding[1:])
        planes, weight = frames_to_planes(frames, num_frames), weight.squeeze(4)
        trains = torch.is_grad_enabled() and weight.requires_grad
        if frames.device.type == "cpu" and trains and self.stride[0] == 1:
            planes = TemporalConvolution.apply(planes, weight)
        else:
            planes = F.conv2d(planes, weight, bias, (self.stride[0], 1), (self.padding[0], 0))
        return planes_to_frames(planes, frames.shape[2:])


def convolve_and_normalize(
    frames: torch.Tensor, num_frames: int, conv: nn.Module, norm: nn.BatchNorm2d
) -> torch.Tensor:
    """
    Apply convolution, a [`FactorizedConv3d`] or another layer with its `convolve`, and batch normalization. In eval
    mode without gradients, fold the normalization into the weights: this passes over the weights in place of the
    output, so it is not done where the weights are larger.
    """
    num_positions = frames.shape[0] * frames.shape[2] * frames.shape[3] // conv.stride[1] ** 2
    folds = is_traced() or num_positions > conv.weight[0].numel()
    is_offloaded = norm.weight.is_meta  # the weights are then present only while the modules are called
    if norm.training or torch.is_grad_enabled() or is_offloaded or not folds:
        return norm(conv(frames, num_frames))
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weight = (conv.weight * scale.reshape(-1, *[1] * (conv.weight.ndim - 1))).to(conv.weight.dtype)
    mean = norm.running_mean if conv.bias is None else norm.running_mean - conv.bias
    bias = (norm.bias - mean * scale).to(conv.weight.dtype)
    return conv.convolve(frames, num_frames, weight, bias)


def is_traced() -> bool:
    """Return whether a graph is being recorded, which must not depend on the number of clips."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()
