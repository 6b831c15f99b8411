import functools
import http.server
import json
import threading
from pathlib import Path

import pytest
from huggingface_hub import constants

from finegym.commands.doctor import doctor
from finegym.preparation.fetch import KNOWN_SHA256, fetch_annotations


REAL_LISTS = Path(__file__).parents[3] / "shared" / "finegym"
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
    """A web server on this machine with a copy of FineGym's files and JSON files of our own, and leave to reach it."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    if not REAL_LISTS.is_dir():
        pytest.skip(f"FineGym's lists are not in {REAL_LISTS}")
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


def test_the_doctor_names_a_cure_for_everything_missing(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"model: {{architecture: video_text, backbone: {tmp_path}/backbone}}\ndata: {{root: {tmp_path}/gym99}}\n"
    )
    lines = doctor(recipe, tmp_path / "annotations").splitlines()
    wanting = [number for number, line in enumerate(lines) if line.startswith("--")]
    assert wanting and all(lines[number + 1].lstrip().startswith("->") for number in wanting)
    text = "\n".join(lines)
    assert f"finegym fetch --folder {tmp_path}/annotations" in text
    assert f"finegym prepare VIDEOS {tmp_path}/gym99 --dataset gym99" in text
    assert f"model.backbone {tmp_path}/backbone: not here" in text
    assert "libx264" in text and text.endswith("to mend.")


def test_the_doctor_refuses_what_is_no_recipe(tmp_path):
    with pytest.raises(FileNotFoundError, match="no recipe"):
        doctor(tmp_path / "nothing.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match="list.yaml is not a recipe"):
        doctor(tmp_path / "list.yaml")
