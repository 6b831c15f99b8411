"""A whole classifier as an ONNX or OpenVINO graph, against the model it was made from."""

import copy
import importlib
import json

import numpy as np
import pytest
import torch

from finegym.data.index import write_index
from finegym.data.video_writing import write_video
from modeling_finegym import FineGymVideoProcessor, SlowOnlyConfig, SlowOnlyForVideoClassification


onnxruntime = pytest.importorskip("onnxruntime", reason="needs the `export` extra")
openvino = pytest.importorskip("openvino", reason="needs the `export` extra")
pytest.importorskip("nncf", reason="needs the `export` extra")
export_module = importlib.import_module("finegym.hub.export")
export, write_onnx = export_module.export, export_module.write_onnx

SIZE = 32
ENCODERS = ("vision", "video_text")  # slow: the exporter takes long


def small_slowonly() -> SlowOnlyForVideoClassification:
    torch.manual_seed(0)
    sizes = {
        "stem_width": 8,
        "hidden_sizes": (16, 32, 32, 64),
        "depths": (1,) * 4,
        "num_frames": 8,
        "image_size": SIZE,
    }
    return SlowOnlyForVideoClassification(SlowOnlyConfig(**sizes, num_labels=3)).eval()


def save(model, folder):
    model.save_pretrained(folder)
    size = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    FineGymVideoProcessor(num_frames=model.config.num_frames, **size).save_pretrained(folder)


def clips(batch_size: int, num_frames: int) -> np.ndarray:
    return np.random.default_rng(batch_size).standard_normal((batch_size, num_frames, 3, SIZE, SIZE), dtype=np.float32)


def logits_of(model, pixel_values: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return model(torch.from_numpy(pixel_values)).logits.numpy()


@pytest.mark.parametrize(
    "model", ["slowonly", *(pytest.param(f, marks=pytest.mark.slow) for f in ENCODERS)], indirect=True
)
def test_onnx_gives_the_logits_of_the_checkpoint_at_any_batch_size(tmp_path, model):
    save(model, tmp_path / "checkpoint")
    text = export(str(tmp_path / "checkpoint"), tmp_path / "model.onnx", to="onnx")
    assert "ONNX Runtime: largest difference" in text and "times as fast" in text
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    labels = json.loads(session.get_modelmeta().custom_metadata_map["labels"])
    assert labels == list(model.config.id2label.values())
    for batch_size in (1, 2, 5):
        pixel_values = clips(batch_size, model.config.num_frames)
        logits = session.run(["logits"], {"pixel_values": pixel_values})[0]
        np.testing.assert_allclose(logits, logits_of(model, pixel_values), rtol=1e-4, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "model.onnx"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Six real videos: three classes that differ in brightness, in both splits."""
    root = tmp_path_factory.mktemp("dataset")
    rows = []
    for index in range(6):
        frames = np.random.default_rng(index).integers(0, 80, (12, 40, 48, 3)) + 60 * (index % 3)
        write_video(root / f"{index}.mp4", frames.astype(np.uint8), fps=25)
        for split in ("train", "val"):
            row = {
                "id": f"{split}{index}",
                "file": f"{index}.mp4",
                "split": split,
                "label": index % 3,
                "num_frames": 12,
            }
            rows.append(row)
    write_index(root, rows)
    return root


@pytest.mark.slow
def test_openvino_in_single_precision_and_in_8_bits(tmp_path, dataset):
    model = small_slowonly()
    save(model, tmp_path / "checkpoint")
    export(str(tmp_path / "checkpoint"), tmp_path / "model.xml", to="openvino")
    text = export(str(tmp_path / "checkpoint"), tmp_path / "int8.xml", to="openvino", calibration=dataset)
    assert "int8, calibrated on 6 training videos" in text and "top-1" in text and "mean class accuracy" in text

    core = openvino.Core()
    core.set_property("CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    single, integers = (core.read_model(tmp_path / name) for name in ("model.xml", "int8.xml"))
    for graph in (single, integers):
        assert json.loads(graph.get_rt_info(["model_info", "labels"]).astype(str)) == list(
            model.config.id2label.values()
        )
    operations = [operation.get_type_name() for operation in integers.get_ops()]
    assert operations.count("FakeQuantize") > 5 and "FakeQuantize" not in [
        op.get_type_name() for op in single.get_ops()
    ]
    compiled, compiled_integers = core.compile_model(single, "CPU"), core.compile_model(integers, "CPU")
    for batch_size in (1, 4):
        pixel_values = clips(batch_size, model.config.num_frames)
        expected = logits_of(model, pixel_values)
        np.testing.assert_allclose(compiled(pixel_values)[0], expected, rtol=1e-4, atol=1e-5)
        assert compiled_integers(pixel_values)[0].shape == expected.shape
    # where it was calibrated, 8 bits remain close, although coarse for so few channels
    processor = FineGymVideoProcessor.from_pretrained(tmp_path / "checkpoint")
    seen = processor.load_clips(dataset / "0.mp4", num_clips=1).pixel_values.numpy()
    expected = logits_of(model, seen)
    assert np.abs(compiled_integers(seen)[0] - expected).max() < 0.5 * np.abs(expected).max()


@pytest.mark.slow
def test_a_graph_that_computes_something_else_is_not_written(tmp_path, monkeypatch):
    save(small_slowonly(), tmp_path / "checkpoint")

    def write_another_model(model, *arguments):
        other = copy.deepcopy(model)
        with torch.no_grad():
            other.classifier.bias += 0.01
        write_onnx(other, *arguments)

    monkeypatch.setattr("finegym.hub.export.write_onnx", write_another_model)
    with pytest.raises(ValueError, match="ONNX Runtime differs from torch by .* nothing is written"):
        export(str(tmp_path / "checkpoint"), tmp_path / "model.onnx", to="onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_wrong_endings_and_calibration_of_onnx(tmp_path):
    with pytest.raises(ValueError, match="must end in .xml"):
        export(str(tmp_path), tmp_path / "model.onnx", to="openvino")
    with pytest.raises(ValueError, match="for OpenVINO"):
        export(str(tmp_path), tmp_path / "model.onnx", to="onnx", calibration=tmp_path)
