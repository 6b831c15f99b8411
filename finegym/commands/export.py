"""`finegym export`."""

from pathlib import Path

from finegym.data.arguments import UsageError
from finegym.paths import require_path_or_hub_id


def export(checkpoint: str, output: Path, *, calibration: Path | None = None) -> str:
    """Write a checkpoint as ONNX, as OpenVINO or for mmaction2.

    The suffix of the file tells the format: .onnx, .xml (OpenVINO, which puts the weights into a .bin beside it) or
    .pth (mmaction2, SlowOnly only). A graph is compared with the checkpoint before it is written, and its speed is
    measured. ONNX and OpenVINO need the `export` extra: pip install 'finegym[export]'.

    Args:
        checkpoint: The checkpoint folder or Hub id.
        output: The file to write.
        calibration: For OpenVINO, a prepared data set. With it, weights and activations become 8-bit integers, and
            what that costs is measured on its validation split.

    Examples:
        finegym export outputs/synthgym/slowonly slowonly.onnx
        finegym export outputs/synthgym/slowonly slowonly.xml --calibration data/synthgym
    """
    formats = {".onnx": "onnx", ".xml": "openvino", ".pth": "mmaction2"}
    if output.suffix not in formats:
        raise UsageError(f"{output} must end in {', '.join(formats)}, which tells the format.")
    if calibration is not None and output.suffix != ".xml":
        raise UsageError("--calibration makes 8-bit integers, which are for OpenVINO: write to a file ending in .xml.")
    require_path_or_hub_id(checkpoint, "checkpoint folder")
    if output.suffix == ".pth":
        from finegym.hub.convert import to_mmaction2

        return to_mmaction2(checkpoint, output)
    from finegym.hub.export import export

    return export(checkpoint, output, to=formats[output.suffix], calibration=calibration)
