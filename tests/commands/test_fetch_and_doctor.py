import functools
import http.server
import json
import threading
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import AutoModel

from finegym.commands.line import main
from finegym.preparation.fetch import KNOWN_SHA256, fetch_annotations
from modeling_finegym import FineGymVideoProcessor
from modeling_finegym.configuration_token_layouts import TOKEN_LAYOUTS
from tests.foreign import write_foreign
from tests.real_lists import REAL_LISTS, REASON
from tests.small import small_model


CLIP = ("0LtLS9wROrk", "E_002407_002435", "A_0003_0005")
JSON = {
    CLIP[0]: {
        CLIP[1]: {
            "event": 4,
            "timestamps": [[2407.32, 2435.28]],
            "segments": {CLIP[2]: {"timestamps": [[3.45, 5.64]]}},
        }
    }
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Serve a copy of FineGym's files and our own JSON files on this machine, and permit access to the server."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    if REAL_LISTS is None:
        pytest.skip(REASON)
    folder = tmp_path / "site"
    folder.mkdir()
    for name in KNOWN_SHA256:
        (folder / name).write_bytes((REAL_LISTS / name).read_bytes())
    for version in ("v1.0", "v1.1"):
        (folder / f"finegym_annotation_info_{version}.json").write_text(json.dumps(JSON))
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def test_files_are_fetched_and_checked(tmp_path, site):
    folder, url = site
    report = fetch_annotations(tmp_path / "here", url)
    assert all((tmp_path / "here" / path.name).read_bytes() == path.read_bytes() for path in folder.iterdir())
    assert "gym99_val_element.txt: downloaded, checksum right" in report
    assert "finegym_annotation_info_v1.0.json: downloaded; no checksum is known for it" in report
    assert "1 videos, 1 events, 1 sub-actions; it has the times of 1 of the" in report
    assert "gym99_val_element.txt: there already, checksum right" in fetch_annotations(tmp_path / "here", url)


def test_a_wrong_file_is_refused_and_not_kept(tmp_path, site):
    folder, url = site
    (folder / "gym99_val_element.txt").write_text("0LtLS9wROrk_E_002407_002435_A_0003_0005 78\n")
    with pytest.raises(ValueError, match="gym99_val_element.txt is not the file that FineGym published"):
        fetch_annotations(tmp_path / "here", url)
    assert not (tmp_path / "here" / "gym99_val_element.txt").exists()


def test_a_json_file_of_something_else_is_refused(tmp_path, site):
    folder, url = site
    (folder / "finegym_annotation_info_v1.1.json").write_text("{}")
    with pytest.raises(ValueError, match=r"v1\.1\.json knows none of the 38,980 sub-actions"):
        fetch_annotations(tmp_path / "here", url)


def test_without_network_the_addresses_are_given(tmp_path):
    with pytest.raises(
        ConnectionError, match=r"12 files could not be downloaded(.|\n)*http://127\.0\.0\.1:9/gym99_val_element\.txt"
    ):
        fetch_annotations(tmp_path, "http://127.0.0.1:9/")
    with pytest.raises(ValueError, match="https://"):
        fetch_annotations(tmp_path, "file:///etc/")


RECIPE = """
name: test
output_dir: {folder}/out
model: {{architecture: video_text, backbone: {backbone}}}
data: {{root: {root}{data}}}
"""


@pytest.fixture
def examined(tmp_path, capsys):
    """`examined(root, backbone)` returns the exit status of `finegym doctor` and its output, line by line."""

    def examine(root: Path, backbone: str, data: str = "") -> tuple[int, list[str]]:
        recipe = tmp_path / "recipe.yaml"
        recipe.write_text(RECIPE.format(folder=tmp_path, root=root, backbone=backbone, data=data))
        status = main(["doctor", "--recipe", str(recipe), "--annotations", str(tmp_path / "annotations")])
        return status, capsys.readouterr().out.splitlines()

    return examine


def cure_of(lines: list[str], what: str) -> str:
    """Return the command after the only line about `what` that reports a problem."""
    [place] = [place for place, line in enumerate(lines) if line.startswith("--") and what in line]
    return lines[place + 1].removeprefix("      -> ")


def test_the_doctor_names_a_cure_for_everything_missing(examined, tmp_path):
    status, lines = examined(tmp_path / "gym99", f"{tmp_path}/backbone")
    assert status == 1 and lines[-1].endswith("to fix.")
    wanting = [number for number, line in enumerate(lines) if line.startswith("--")]
    assert wanting and all(lines[number + 1].startswith("      -> ") for number in wanting)
    assert any("libx264" in line for line in lines)
    assert cure_of(lines, "FineGym's lists") == f"finegym fetch --folder {tmp_path}/annotations"
    assert cure_of(lines, "index.parquet") == f"finegym prepare VIDEOS {tmp_path}/gym99 --dataset gym99"
    assert cure_of(lines, "model.backbone") == f"finegym convert WEIGHTS {tmp_path}/backbone"
    lines = examined(tmp_path / "gym99_flow", f"{tmp_path}/backbone", ", flow_len: 5")[1]
    flow = f"finegym flow {tmp_path}/gym99 --output {tmp_path}/gym99_flow"
    assert cure_of(lines, "index.parquet") == flow
    lines = examined(tmp_path / "ssv2", f"{tmp_path}/backbone")[1]
    assert cure_of(lines, "index.parquet") == f"finegym import FOLDER_OF_ITS_FILES {tmp_path}/ssv2 --format ssv2"


def test_the_doctor_prepares_no_folder_of_own_videos(examined, tmp_path):
    """Training imports it by itself; a missing one must be imported, not prepared like FineGym's."""
    own = tmp_path / "my_clips"
    assert cure_of(examined(own, "someone/backbone")[1], "index.parquet") == f"finegym import YOUR_VIDEOS {own}"
    (own / "cartwheel").mkdir(parents=True)
    lines = examined(own, "someone/backbone")[1]
    assert f"ok  {own}: your own videos, which training imports first" in lines
    assert not any("finegym prepare" in line and "my_clips" in line for line in lines)


def test_the_doctor_tells_a_folder_from_a_name_on_the_hub(examined, tmp_path):
    lines = examined(tmp_path / "gym99", "someone/backbone")[1]
    assert cure_of(lines, "model.backbone") == "hf download someone/backbone"
    lines = examined(tmp_path / "gym99", "checkpoints/resnet50")[1]
    assert cure_of(lines, "model.backbone") == "finegym convert WEIGHTS checkpoints/resnet50"
    trained = RECIPE.format(folder="outputs", root="x", backbone="y", data="").replace(
        "outputs/out", "outputs/slowonly"
    )
    (tmp_path / "slowonly.yaml").write_text(trained)
    lines = examined(tmp_path / "gym99", "outputs/slowonly")[1]
    assert cure_of(lines, "model.backbone") == f"finegym train --config {tmp_path}/slowonly.yaml"


def test_the_doctor_is_content_where_nothing_is_missing(tmp_path, site, capsys):
    fetch_annotations(tmp_path / "here", site[1])
    assert main(["doctor", "--annotations", str(tmp_path / "here")]) == 0
    assert capsys.readouterr().out.endswith("\nNothing is missing.\n")


def test_the_doctor_refuses_what_is_no_recipe(tmp_path, capsys):
    (tmp_path / "list.yaml").write_text("- 1\n")
    assert main(["doctor", "--recipe", str(tmp_path / "list.yaml")]) != 0
    assert "list.yaml is not a recipe" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("model_type", "gives", "sizes"),
    [
        ("videomae", "4 frames of 32 x 32 gives 32 tokens: 2 moments x 16 places x 16 channels", (0.1, 0.2, 1.0, 1.0)),
        (
            "dinov3_vit",
            "8 frames of 32 x 32 gives 128 tokens: 8 moments x 16 places x 16 channels, 5 left out before them",
            (0.2, 1.0, 4.0, 4.0),
        ),
    ],
)
def test_the_doctor_says_what_a_backbone_gives(model_type, gives, sizes, tmp_path, capsys):
    folder = write_foreign(tmp_path / model_type, model_type)
    assert main(["doctor", "--backbone", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    weights = sum(parameter.numel() for parameter in AutoModel.from_pretrained(folder).parameters())
    assert lines[0] == f"ok  {folder}: {model_type}, {weights:,} weights"
    assert lines[1] == f"ok  a clip of {gives}"
    assert lines[2].startswith("ok  order of the tokens: one frame changed moves its moment, ")
    assert ("moment, nothing else; one corner its place, any other at most 1/" in lines[2]) == ("dino" in model_type)
    names = ("spatial_grid_size 1", "spatial_grid_size 2", "spatial_grid_size 4", "all")
    listed = ", ".join(f"{size} KiB with {name}" for name, size in zip(names, sizes, strict=True))
    assert lines[3] == f"ok  its cached features in float16: {listed}"
    assert lines[-1] == "Nothing is missing."


def test_the_doctor_takes_a_length_for_image_models_and_names_encoders(tmp_path, capsys):
    folder = str(write_foreign(tmp_path / "timm_wrapper", "timm_wrapper"))
    assert main(["doctor", "--backbone", folder, "--clip_len", "4"]) == 0
    said = capsys.readouterr().out
    assert "a clip of 4 frames of 32 x 32 gives 64 tokens: 4 moments x 16 places x 16 channels, 1 left out" in said
    frames = {"size": {"shortest_edge": 100}, "crop_size": {"height": 96, "width": 96}, "num_frames": 8}
    for family in ("slowonly", "vision"):
        small_model(family).save_pretrained(tmp_path / family)
        FineGymVideoProcessor(**frames).save_pretrained(tmp_path / family)
    assert main(["doctor", "--backbone", str(tmp_path / "slowonly")]) == 0
    said = capsys.readouterr().out
    assert "gives 72 tokens: 8 moments x 9 places x 64 channels" in said and "spatial_grid_size 4" not in said
    assert main(["doctor", "--backbone", str(tmp_path / "vision")]) != 0
    assert "is an encoder, whose own spatial_grid_size is 1" in capsys.readouterr().err


def test_the_doctor_finds_tokens_in_another_order(tmp_path, capsys, monkeypatch):
    folder = write_foreign(tmp_path / "vit", "vit")
    monkeypatch.setitem(TOKEN_LAYOUTS, "vit", TOKEN_LAYOUTS["vit"]._replace(num_prefix_tokens=0))
    assert main(["doctor", "--backbone", str(folder)]) != 0
    assert "vit gives 17 tokens for a frame of 32 x 32, which make no rows" in capsys.readouterr().err
