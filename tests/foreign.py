"""Small backbones of every type of Transformers whose tokens are known, with random weights."""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModel, BitImageProcessor, VideoMAEImageProcessor, VJEPA2VideoProcessor

from modeling_finegym import FineGymVisionConfig, FineGymVisionModel


NUM_FRAMES, SIZE, PATCH_SIZE = 4, 32, 8
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": SIZE}
IMAGE = {**SIZES, "patch_size": PATCH_SIZE}
PREDICTOR = {"pred_hidden_size": 16, "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1}
# model_type -> what shapes it
BACKBONES = {
    "videomae": {**IMAGE, "num_frames": NUM_FRAMES, "tubelet_size": 2, "intermediate_size": 32},
    "vjepa2": {**IMAGE, "crop_size": SIZE, "frames_per_clip": NUM_FRAMES, "mlp_ratio": 2, **PREDICTOR},
    "videoprism_vision_model": {
        "hidden_size": 16,
        "num_attention_heads": 2,
        "image_size": SIZE,
        "num_frames": NUM_FRAMES,
        "tubelet_size": [1, PATCH_SIZE, PATCH_SIZE],
        "num_spatial_layers": 2,
        "num_temporal_layers": 1,
        "intermediate_size": 32,
    },
    "vivit": {
        **SIZES,
        "num_frames": NUM_FRAMES,
        "tubelet_size": [2, PATCH_SIZE, PATCH_SIZE],
        "intermediate_size": 32,
    },
    "timesformer": {**IMAGE, "num_frames": NUM_FRAMES, "intermediate_size": 32},
    "vit": {**IMAGE, "intermediate_size": 32},
    "dinov2": {**IMAGE, "mlp_ratio": 2},
    "dinov2_with_registers": {**IMAGE, "mlp_ratio": 2, "num_register_tokens": 2},
    "dinov3_vit": {**IMAGE, "intermediate_size": 32, "num_register_tokens": 4},
    "clip_vision_model": {**IMAGE, "intermediate_size": 32},
    "siglip_vision_model": {**IMAGE, "intermediate_size": 32},
    "siglip2_vision_model": {**IMAGE, "intermediate_size": 32, "num_patches": 16},
    "ijepa": {**IMAGE, "intermediate_size": 32},
    "timm_wrapper": {
        "architecture": "vit_tiny_patch16_224",
        "model_args": {"img_size": SIZE, "patch_size": PATCH_SIZE, "embed_dim": 16, "depth": 3, "num_heads": 2},
    },
}
# model_type -> the moments of a clip, and the tokens before the patches, as their papers and cards say
NUM_MOMENTS = {"videomae": 2, "vjepa2": 2, "vivit": 2}
NUM_PREFIX_TOKENS = {
    **dict.fromkeys(("vivit", "timesformer", "vit", "dinov2", "clip_vision_model", "timm_wrapper"), 1),
    "dinov2_with_registers": 3,
    "dinov3_vit": 5,
}
WITHOUT_LAYERS = ("timm_wrapper", "videoprism_vision_model")


def foreign_config(model_type: str):
    return AutoConfig.for_model(model_type, **BACKBONES[model_type])


def on_foreign(model_type: str, **changes) -> FineGymVisionModel:
    """Build an encoder of random weights on a backbone of random weights, in eval mode."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 1}
    fields = {"num_frames": NUM_FRAMES, "image_size": SIZE, **sizes, **changes}
    model = FineGymVisionModel(FineGymVisionConfig(vision_config=foreign_config(model_type), **fields)).eval()
    spread_positions(model.backbone)
    return model


def spread_positions(backbone: torch.nn.Module) -> None:
    """Give zero positions random values, as training would: without them patches of equal content are equal."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in backbone.named_parameters():
        if "position" in name and not parameter.any():
            parameter.data.normal_(std=0.02, generator=generator)


def write_foreign(folder: Path, model_type: str) -> Path:
    """Write a checkpoint folder as its users have it."""
    torch.manual_seed(0)
    model = AutoModel.from_config(foreign_config(model_type))
    model.save_pretrained(folder)
    crop = {"size": {"shortest_edge": 36}, "crop_size": {"height": SIZE, "width": SIZE}}
    if model_type == "timesformer":
        crop |= {"image_mean": [0.45] * 3, "image_std": [0.225] * 3}
    processors = {"vjepa2": VJEPA2VideoProcessor, "dinov2": BitImageProcessor}
    processors.get(model_type, VideoMAEImageProcessor)(**crop).save_pretrained(folder)
    return folder
