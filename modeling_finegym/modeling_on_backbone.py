"""What all models on a backbone share, whether it is one of this project or any of Transformers."""

import torch
from torch import nn
from transformers import AutoModel, PreTrainedModel
from transformers import initialization as init
from transformers.models.bert.modeling_bert import BertLayer, BertSelfAttention

from .configuration_finegym import OnBackboneConfig
from .half_precision import HalfPrecisionMixin, in_float32_if_faster
from .modeling_bn_inception import BNInceptionModel
from .modeling_s3d import S3DModel
from .modeling_slowonly import SlowOnlyModel, check_pixel_values
from .modeling_video_resnet import VideoResNetModel
from .modeling_video_tokens import FeatureStandardization, PositionEmbeddings
from .publishing_finegym import PublishedModelMixin


IGNORED_LABEL = -100  # what losses skip, as torch's cross entropy does

# The backbones whose code is published with the encoders: they freeze themselves and compute their own features.
OWN_BACKBONES = {
    model.config_class.model_type: model for model in (SlowOnlyModel, VideoResNetModel, S3DModel, BNInceptionModel)
}


class FineGymPreTrainedModel(PublishedModelMixin, HalfPrecisionMixin, PreTrainedModel):
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _no_split_modules = ["SlowOnlyResidualBlock", "BertLayer", "QueryDecoderLayer"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_record_outputs = {"hidden_states": BertLayer, "attentions": BertSelfAttention}

    def post_init(self):
        super().post_init()
        self.train(self.training)  # what the configuration freezes goes to eval mode

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, PositionEmbeddings):
            init.normal_(module.weight, std=self.config.position_initializer_range)
        elif isinstance(module, FeatureStandardization):
            init.zeros_(module.mean)
            init.ones_(module.std)
        elif isinstance(module, (nn.Linear, nn.Embedding)):
            init.normal_(module.weight, std=self.config.initializer_range)
            if getattr(module, "bias", None) is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.MultiheadAttention):
            init.normal_(module.in_proj_weight, std=self.config.initializer_range)
            init.zeros_(module.in_proj_bias)


class OnBackboneModel(FineGymPreTrainedModel):
    """What all models on a backbone share: the backbone, its freezing, its features, and the check of the inputs."""

    def __init__(self, config: OnBackboneConfig):
        super().__init__(config)
        backbone_class = OWN_BACKBONES.get(config.vision_config.model_type)
        self.has_own_backbone = backbone_class is not None
        if self.has_own_backbone:
            config.configure_backbone()  # a field may have been set after the configuration was created
        self.backbone = (backbone_class or AutoModel.from_config)(config.vision_config)
        if not 0 <= config.num_trainable_blocks <= len(self.backbone_blocks):
            raise ValueError(
                f"num_trainable_blocks must lie between 0 and {len(self.backbone_blocks)}, the blocks of this "
                f"{config.vision_config.model_type}, got {config.num_trainable_blocks}."
            )
        timm_model = getattr(self.backbone, "timm_model", None)
        if timm_model is not None:  # whose configuration does not say
            vision_config = config.vision_config
            if config.num_prefix_tokens is None:
                config.num_prefix_tokens = timm_model.num_prefix_tokens
            vision_config.hidden_size = timm_model.num_features
            vision_config.patch_size = list(timm_model.patch_embed.patch_size)

    @property
    def backbone_blocks(self) -> list[nn.Module]:
        """Return the blocks of the backbone in their order: the stem and stages of one of this project, or layers."""
        if self.has_own_backbone:
            return list(self.backbone.blocks)
        lists: dict[str, nn.Module] = {}
        for name, module in self.backbone.named_modules():
            inside = any(name.startswith(f"{outer}.") for outer in (*lists, "predictor", "head", "pooler"))
            is_list = isinstance(module, nn.ModuleList) or name.rpartition(".")[2] == "blocks"  # as timm has it
            if is_list and not inside:
                lists[name] = module
        return [block for module in lists.values() for block in module.children()]

    def train(self, mode: bool = True):
        super().train(mode)
        if self.config.freeze_backbone and not self.has_own_backbone:
            self.backbone.eval().requires_grad_(False)
            blocks = self.backbone_blocks
            for block in blocks[len(blocks) - self.config.num_trainable_blocks :]:
                block.train(mode).requires_grad_(True)
            for name, parameter in self.backbone.named_parameters():
                if "lora_" in name:  # PEFT's, beside the weights that stay as they are
                    parameter.requires_grad_(True)
        return self

    def get_input_embeddings(self):
        return self.backbone.get_input_embeddings()

    def get_video_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """
        Return the backbone's features, averaged over space (paper, section 3.1).

        Args:
            pixel_values (`torch.FloatTensor` of shape `(batch_size, num_frames, num_channels, height, width)`):
                Normalized frames, as the backbone's video processor returns them.

        Returns:
            `torch.FloatTensor` of shape `(batch_size, num_video_tokens, video_feature_size)`.

        Raises:
            `ValueError`: `pixel_values` has another shape, or another number of frames than `config.num_frames`.
        """
        check_pixel_values(pixel_values, getattr(self.config.vision_config, "num_channels", None) or 3)
        if pixel_values.shape[1] != self.config.num_frames:
            raise ValueError(
                f"This model takes clips of {self.config.num_frames} frames, got {pixel_values.shape[1]}: sample that "
                "many (the video processor does), or load the model with another num_frames and train it."
            )
        return in_float32_if_faster(self, self._compute_features, pixel_values)

    def _compute_features(self, pixel_values: torch.Tensor) -> torch.Tensor:
        if self.has_own_backbone:
            return self.backbone.get_video_features(pixel_values)
        return self._compute_patches(pixel_values).mean(2)

    def _compute_patches(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Run a backbone of Transformers: frames (B, T, C, H, W) -> features of patches (B, T', patches, D)."""
        config = self.config
        learns = any(parameter.requires_grad for parameter in self.backbone.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            frames = pixel_values.flatten(0, 1) if config.token_layout == "frame" else pixel_values
            tokens = self._run_backbone(frames)[:, config.num_prefix_tokens :]
            if config.token_layout == "frame":  # (B*T', patches, D)
                return tokens.unflatten(0, (-1, config.num_moments))
            if tokens.shape[1] % config.num_moments:
                raise ValueError(
                    f"{config.vision_config.model_type} gives {tokens.shape[1]} tokens, which {config.num_moments} "
                    "moments cannot share: set num_prefix_tokens and token_layout to the model's own."
                )
            if config.token_layout == "time":  # (B, T'*patches, D)
                return tokens.unflatten(1, (config.num_moments, -1))
            return tokens.unflatten(1, (-1, config.num_moments)).transpose(1, 2)  # (B, patches*T', D)

    def _run_backbone(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the tokens of `last_hidden_state`, or those of `backbone_layers` joined by channel."""
        model_type, layers = self.config.vision_config.model_type, self.config.backbone_layers
        options = {"skip_predictor": True} if model_type == "vjepa2" else {}
        if model_type == "timm_wrapper":
            options["do_pooling"] = False
        if model_type == "siglip2_vision_model":
            frames, options = cut_patches(frames, self.config.vision_config.patch_size)
        if layers is None:
            return self.backbone(frames, return_dict=True, **options).last_hidden_state
        outputs = self.backbone(frames, return_dict=True, output_hidden_states=True, **options)
        num_layers = self.config.vision_config.num_hidden_layers
        numbers = [layer % (num_layers + 1) for layer in layers]
        # the last one is normalized after the layer
        return torch.cat(
            [
                outputs.last_hidden_state if number == num_layers else outputs.hidden_states[number]
                for number in numbers
            ],
            dim=-1,
        )

    def read_features(self, pixel_values: torch.Tensor | None, video_features: torch.Tensor | None) -> torch.Tensor:
        """Return the features (B, T', D) of frames, or those given in their place."""
        if (pixel_values is None) == (video_features is None):
            raise ValueError("Give either pixel_values or video_features.")
        if video_features is None:
            video_features = self.get_video_features(pixel_values)
        expected = (self.config.num_video_tokens, self.config.video_feature_size)
        if video_features.ndim != 3 or tuple(video_features.shape[1:]) != expected:
            raise ValueError(
                f"video_features must have shape (batch_size, {expected[0]}, {expected[1]}), got "
                f"{tuple(video_features.shape)}."
            )
        return video_features


def cut_patches(frames: torch.Tensor, size: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """
    Cut frames (N, C, H, W) into the patches (N, h w, size^2 C) that SigLIP 2's NaFlex models take, row by row, and
    return them with what else these models ask for.
    """
    height, width = (side // size for side in frames.shape[-2:])
    cells = frames[..., : height * size, : width * size].unflatten(3, (width, size)).unflatten(2, (height, size))
    patches = cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
    shapes = torch.tensor([[height, width]] * len(frames), device=frames.device)
    mask = torch.ones(patches.shape[:2], dtype=torch.long, device=frames.device)
    return patches, {"pixel_attention_mask": mask, "spatial_shapes": shapes}
