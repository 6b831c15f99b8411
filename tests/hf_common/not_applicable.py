"""Transformers' common tests that would skip themselves on any machine, by prefixes of their names, and why."""

FOR_ALL = {
    "no text is read or generated, so nothing embeds, resizes or caches tokens": (
        "test_resize_",
        "test_inputs_embeds",
        "test_model_get_set_embeddings",
        "test_causal_lm_loss_",
        "test_encoder_decoder_loss_",
        "test_bc_cache_name_forward",
        "test_sliding_window_mask",
    ),
    # In Transformers a method of this name is the vision tower of a generating model and returns a ModelOutput. Here
    # it returns the tensor that a forward takes in place of frames, and tests/modeling checks that.
    "get_video_features returns a tensor": (
        "test_get_video_features_output_",
        "test_get_video_features_hidden_states",
        "test_get_video_features_attentions",
    ),
    "there are no rotary positions": ("test_model_rope_", "test_vision_axial_rope"),
    "there are no experts": (
        "test_moe_models_",
        "test_output_router_logits_",
        "test_eager_matches_batched_and_grouped_inference_",
    ),
    "there is no plan of tensor parallelism": ("test_tp_plan_", "test_tied_head_has_a_tp_plan_entry"),
    "weights are saved under their own names": (
        "test_can_load_from_already_mapped_keys",
        "test_reverse_loading_mapping",
    ),
    "these are not several models that read text and images": (
        "test_attn_implementation_composite_models",
        "test_sdpa_can_dispatch_composite_models",
        "test_can_set_attention_dynamically_composite_model",
    ),
    "Transformers runs it for a list of its own models": ("test_can_init_all_missing_weights",),
    "the encoders return attentions by hooks, which SDPA has not": (
        "test_eager_matches_sdpa_inference_24_fp32_pad_left_output_attentions",
    ),
    "it is for processors of another kind": (
        "test_video_processor_preprocess_arguments",
        "test_override_instance_attributes_does_not_affect_other_instances",
    ),
}
FOR_BACKBONES = {
    "it has no attention whose kernel is chosen by name": (
        "test_attention_outputs",
        "test_multimodal_outputs_are_returned",
        "test_eager_matches_sdpa_inference_",
        "test_sdpa_can_dispatch_",
        "test_capture_outputs_decorator",
        "test_can_capture_specific_layers_hidden_states",
        "test_internal_model_config_and_subconfig_are_same",
    ),
}
FOR_TRN = {"its classifier is several layers": ("test_can_load_ignoring_mismatched_shapes",)}
LISTS = {
    **dict.fromkeys(
        (
            "SlowOnlyModelTest",
            "VideoResNetModelTest",
            "S3DModelTest",
            "BNInceptionModelTest",
            "TqnModelTest",
            "MtnModelTest",
        ),
        [FOR_ALL, FOR_BACKBONES],
    ),
    "TrnModelTest": [FOR_ALL, FOR_BACKBONES, FOR_TRN],
}


def why_not(class_name: str, name: str) -> str | None:
    """Return the reason why a test cannot apply, or None if it may."""
    reasons = (
        reason
        for reasons in LISTS.get(class_name, [FOR_ALL])
        for reason, beginnings in reasons.items()
        if name.startswith(beginnings)
    )
    return next(reasons, None)
