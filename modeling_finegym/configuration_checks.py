"""The version of these files, and what every configuration is checked for."""

import transformers


__version__ = "0.1.0"
MINIMUM_TRANSFORMERS = (5, 15)

if tuple(int(part) for part in transformers.__version__.split(".")[:2]) < MINIMUM_TRANSFORMERS:
    raise ImportError(
        f"modeling_finegym {__version__} needs transformers >= {'.'.join(map(str, MINIMUM_TRANSFORMERS))}, found "
        f"{transformers.__version__}. Run `pip install -U 'transformers>=5.15,<6'`."
    )

# after the check: an old transformers has no PreTrainedConfig, and its error would say only that
from transformers import PreTrainedConfig  # noqa: E402


# Far beyond any network of this kind, and small enough that a config from a stranger cannot fill memory or hang.
LARGEST = {
    "num_channels": 1024,
    "num_frames": 4096,
    "frame_interval": 1024,
    "image_size": 4096,
    "stem_width": 2**14,
    "hidden_sizes": 2**16,
    "depths": 128,
    "temporal_kernel_sizes": 63,
    "hidden_size": 2**14,
    "num_hidden_layers": 256,
    "num_attention_heads": 1024,
    "intermediate_size": 2**17,
}
MAX_STAGES = 16
MAX_LABELS = 100_000


def check_sizes(config: PreTrainedConfig, num_labels: int | None) -> None:
    """
    Refuse sizes that no network of this kind has.

    Raises:
        `ValueError`: a size is out of range; the message names the field.
    """
    for name, largest in LARGEST.items():
        value = getattr(config, name, None)
        # features of other backbones are read by an encoder without layers
        smallest = 0 if name == "num_hidden_layers" else 1
        sizes = value if isinstance(value, (list, tuple)) else (1,) if value is None else (value,)
        if len(sizes) <= MAX_STAGES:  # a stage may have one size for each of its blocks
            sizes = [
                size for one in sizes for size in (one[: largest + 1] if isinstance(one, (list, tuple)) else [one])
            ]
        if (isinstance(value, (list, tuple)) and len(value) > MAX_STAGES) or not all(
            smallest <= size <= largest for size in sizes
        ):
            raise ValueError(f"{name} must lie between {smallest} and {largest}, got {value}.")
    if num_labels is not None and not 0 <= num_labels <= MAX_LABELS:
        raise ValueError(f"num_labels must lie between 0 and {MAX_LABELS}, got {num_labels}.")


def check_labels(config: PreTrainedConfig) -> None:
    """
    Refuse class names that do not name every class.

    Raises:
        `ValueError`: a class has no name, or a name no class; the message says what is expected.
    """
    names = config.id2label
    if len(names) > MAX_LABELS or set(names) != set(range(len(names))):
        raise ValueError(f"id2label must name the classes from 0 on, at most {MAX_LABELS}; got {len(names)} names.")
    if not all(isinstance(name, str) for name in names.values()):
        raise ValueError("id2label must map to strings.")
