"""What a publication sends: files with known names, and nothing that reveals the author's machine."""

import json

import pytest

from finegym.hub.publish import _chosen_files, hide_local_folders


def test_only_files_of_known_names_are_chosen(tmp_path):
    known = ["config.json", "model.safetensors", "recipe.yaml", "metrics.json"]
    secret = ["model_of_my_thesis.safetensors", "model-private.safetensors", ".env", "notes.txt", "model.bin"]
    for name in known + secret:
        (tmp_path / name).write_text("x")
    assert sorted(path.name for path in _chosen_files(tmp_path)) == sorted(known)
    shards = [f"model-{number:05}-of-00002.safetensors" for number in (1, 2)]
    for name in [*shards, "model-00003-of-00003.safetensors"]:
        (tmp_path / name).write_text("x")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict(zip("ab", shards, strict=True))}))
    assert sorted(path.name for path in _chosen_files(tmp_path)) == sorted([*known, *shards, index.name])
    for name in ("../../.ssh/id_rsa", "notes.txt", "/etc/passwd", ""):
        index.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(ValueError, match="index.json names"):
            _chosen_files(tmp_path)


def test_local_folders_are_hidden_wherever_they_stand(tmp_path):
    home = ["/home/ann/secret/run", "~/secret/run", "~ann/secret/run", "../../ann/secret/run"]
    home += [
        "C:\\Users\\ann\\secret\\run",
        "d:/ann/secret/run",
        "\\\\server\\ann\\secret\\run",
        "/home/ann/secret/run/",
    ]
    content = {"data": {"roots": home, "one": home[0], "deep": [[{"x": home[4]}]]}, "_name_or_path": home[0]}
    kept = {"backbone": "owner/name", "root": "data/gym99", "rate": 0.1, "none": None, "id2label": {"0": "/leap/"}}
    for name in ("config.json", "recipe.yaml"):
        path = tmp_path / name
        path.write_text(json.dumps(content | kept))  # which is also YAML
        hide_local_folders(path)
        text = path.read_text()
        assert "secret" not in text and "ann" not in text and text.count("run") == len(home) + 3
        assert "owner/name" in text and "data/gym99" in text and "/leap/" in text
