"""Diving48 and Something-Something V2, in the forms in which their authors distribute them, with small real videos."""

import csv
import gzip
import io
import json
import os
import shutil
import tarfile
import zipfile
from fractions import Fraction

import av
import numpy as np
import pytest
from footage import encode, numbers_of, picture

from finegym.commands.line import main
from finegym.data.index import read_coverage, read_index
from finegym.data.labels import Labels
from finegym.paths import CONFIGURATION
from finegym.preparation.cutting import Encoding
from finegym.preparation.own_data import import_videos
from finegym.training.loop import train
from finegym.training.recipe_parsing import parse_recipe
from modeling_finegym.video_decoding import open_video
from tests.training.test_finetune import save_backbone


# The first four of the official vocabulary, and one that shares nothing but its take-off.
VOCABULARY = [
    ["Back", "15som", "05Twis", "FREE"],
    ["Back", "15som", "15Twis", "FREE"],
    ["Back", "15som", "25Twis", "FREE"],
    ["Back", "15som", "NoTwis", "PIKE"],
    ["Forward", "25som", "NoTwis", "TUCK"],
]
DIVES = {  # vid_name -> class, split; the names of the official lists
    "-mmq0PT-u8k_00155": (0, "train"),
    "2x00lRzlTVQ_00000": (3, "train"),
    "_8Vy3dlHg2w_00001": (4, "train"),
    "8mxU5T1aA6Q_00017": (1, "val"),
}
TEMPLATES = ["Holding something next to something", "Pushing something from left to right", "Approaching something"]
THINGS = {  # id -> class, split
    "78687": (0, "train"),
    "42326": (2, "train"),
    "100904": (1, "val"),
    "1420": (1, "test"),
}


def number_of(name: str) -> int:
    return 100 * [*DIVES, *THINGS].index(name)


def film(path, name, length=12):
    encode(path, [picture(number_of(name) + number) for number in range(length)], np.arange(length) / 25)


def film_webm(path, name, length=12):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx-vp9", rate=12, options={"crf": "10", "b": "0"})
        stream.time_base = Fraction(1, 12)
        first = picture(number_of(name))
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        for number in range(length):
            frame = av.VideoFrame.from_ndarray(picture(number_of(name) + number), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_dives(folder):
    """Write the annotation files as they are distributed, and the videos as a compressed archive."""
    folder.mkdir()
    (folder / "Diving48_vocab.json").write_text(json.dumps(VOCABULARY, indent=2))
    for split, file in (("train", "train"), ("val", "test")):
        rows = [
            {"vid_name": name, "label": label, "start_frame": 0, "end_frame": 12}
            for name, (label, of) in DIVES.items()
            if of == split
        ]
        (folder / f"Diving48_V2_{file}.json").write_text(json.dumps(rows, indent=2))
    for name in DIVES:
        film(folder / "films" / f"{name}.mp4", name)
    with tarfile.open(folder / "Diving48_rgb.tar.gz", "w:gz") as archive:
        for name in DIVES:
            archive.add(folder / "films" / f"{name}.mp4", f"rgb/{name}.mp4")
            (folder / "films" / f"{name}.mp4").unlink()
    return folder


def write_things(folder, prefix=""):
    """Write the annotation files as they are distributed, and the videos as the parts of one compressed archive."""
    (folder / "labels").mkdir(parents=True)

    def write(name, content):
        (folder / "labels" / f"{prefix}{name}").write_text(json.dumps(content))

    write("labels.json", {text: str(number) for number, text in enumerate(TEMPLATES)})
    for split, file in (("train", "train.json"), ("val", "validation.json")):
        rows = []
        for name, (label, of) in THINGS.items():
            template = TEMPLATES[label].replace("something", "[something]")
            row = {"id": name, "label": template.lower(), "template": template, "placeholders": ["a cup"]}
            rows += [row] if of == split else []
        write(file, rows)
    tested = {name: label for name, (label, split) in THINGS.items() if split == "test"}
    write("test.json", [{"id": name} for name in tested])
    with open(folder / "labels" / f"{prefix}test-answers.csv", "w", newline="") as file:
        csv.writer(file, delimiter=";").writerows([name, TEMPLATES[label]] for name, label in tested.items())
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in THINGS:
            film_webm(folder / "films" / f"{name}.webm", name)
            archive.add(folder / "films" / f"{name}.webm", f"20bn-something-something-v2/{name}.webm")
            (folder / "films" / f"{name}.webm").unlink()
    content = packed.getvalue()
    third = len(content) // 3
    for number, part in enumerate((content[:third], content[third : 2 * third], content[2 * third :])):
        (folder / f"20bn-something-something-v2-{number:02d}").write_bytes(part)
    return folder


def run(source, root, format, **changes):
    return import_videos(
        str(source), root, **{"encoding": Encoding(64), "num_workers": 0, "format": format, **changes}
    )


def videos_of(root, splits=("train", "val")):
    return {video.id: (video, split) for split in splits for video in read_index(root, split)}


def check_content(root, expected, splits):
    videos = videos_of(root, splits)
    assert {name: (video.label, split) for name, (video, split) in videos.items()} == expected
    for name, (video, _) in videos.items():
        with open_video(video.path) as file:
            assert numbers_of(file.frames([0, 11])) == [number_of(name), number_of(name) + 11]


def test_diving48_from_its_archive(tmp_path):
    folder = write_dives(tmp_path / "Diving48")
    report = run(folder, tmp_path / "root", "diving48", license="unknown")
    check_content(tmp_path / "root", DIVES, ("train", "val"))
    labels = Labels.read(tmp_path / "root" / "labels.json")
    assert labels.names == [" ".join(texts) for texts in VOCABULARY]
    # every class has one attribute of each of the four groups: the columns of the vocabulary
    assert [[labels.attributes[attribute] for attribute in row] for row in labels.class_attributes] == VOCABULARY
    assert labels.attribute_group_sizes == tuple(len({*column}) for column in zip(*VOCABULARY))
    assert len(labels.attributes) == 1 + 2 + 2 + 4 + 3
    assert read_coverage(tmp_path / "root", "val").annotation_version == "V2"
    assert "test list" in report and not any(tmp_path.glob("root/.unpacked*"))
    assert "compressed archive" not in (tmp_path / "root" / "coverage.json").read_text()


def test_diving48_unpacked_with_videos_missing_and_others_besides(tmp_path):
    folder = write_dives(tmp_path / "Diving48")
    with tarfile.open(folder / "Diving48_rgb.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    (folder / "Diving48_rgb.tar.gz").unlink()
    (folder / "rgb" / "8mxU5T1aA6Q_00017.mp4").rename(folder / "rgb" / "unlisted.mp4")
    with pytest.raises(ValueError, match="LOST 1 of 4 videos"):
        run(folder, tmp_path / "root", "diving48")
    report = run(folder, tmp_path / "root", "diving48", max_lost_share=0.25)
    assert "1 videos are in no list" in report
    assert read_coverage(tmp_path / "root", "val").missing == {"8mxU5T1aA6Q_00017": "video absent: 8mxU5T1aA6Q_00017"}


def test_a_finished_import_is_recognized_without_its_archive_being_read(tmp_path):
    folder, root = write_dives(tmp_path / "Diving48"), tmp_path / "root"
    report = run(folder, root, "diving48")
    archive = folder / "Diving48_rgb.tar.gz"
    content, stamp = archive.read_bytes(), archive.stat()
    archive.write_bytes(content[:10] + bytes(len(content) - 10))
    os.utime(archive, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert run(folder, root, "diving48") == report, "it would not unpack"
    with pytest.raises(ValueError, match="cannot be unpacked"):  # other videos are asked for
        run(folder, root, "diving48", encoding=Encoding(32))
    archive.write_bytes(content)
    os.utime(archive, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    (root / "clips" / "2x00lRzlTVQ_00000.mp4").unlink()
    assert run(folder, root, "diving48") == report
    check_content(root, DIVES, ("train", "val"))
    assert not any(root.glob(".unpacked*"))


def test_zip_files_around_the_authors_files_are_named(tmp_path):
    folder = write_things(tmp_path / "SSv2")
    shutil.make_archive(str(folder / "20bn-something-something-download-package-labels"), "zip", folder / "labels")
    shutil.move(folder / "labels", tmp_path / "labels")
    with pytest.raises(
        FileNotFoundError, match="no labels.json in .*package-labels.zip is a zip file.*unzip it first"
    ):
        run(folder, tmp_path / "root", "ssv2")
    for part in folder.glob("20bn-something-something-v2-??"):
        with zipfile.ZipFile(part.with_suffix(".zip"), "w") as archive:
            archive.write(part, part.name)
        part.unlink()
    with pytest.raises(ValueError, match="none of which .*20bn-something-something.*zip is a zip file"):
        run(folder, tmp_path / "root", "ssv2", annotations=tmp_path / "labels")


@pytest.mark.parametrize("prefix", ["", "something-something-v2-"])
def test_something_something_from_the_parts_of_its_archive(tmp_path, prefix):
    folder = write_things(tmp_path / "SSv2", prefix)
    run(folder, tmp_path / "root", "ssv2")
    check_content(tmp_path / "root", THINGS, ("train", "val", "test"))
    labels = Labels.read(tmp_path / "root" / "labels.json")
    assert labels.names == TEMPLATES and not labels.attributes
    (folder / "labels" / f"{prefix}test-answers.csv").unlink()
    report = run(folder, tmp_path / "root", "ssv2")
    assert "without test-answers.csv" in report and "1 videos are in no list" in report


def test_the_command_takes_annotations_from_elsewhere(tmp_path, capsys):
    folder = write_dives(tmp_path / "Diving48")
    lists = tmp_path / "lists"
    lists.mkdir()
    for path in folder.glob("*.json"):
        path.rename(lists / path.name)
    arguments = ["import", str(folder), str(tmp_path / "root"), "--format", "diving48", "--num_workers", "0"]
    assert main(arguments) == 1
    assert f"There is no Diving48_vocab.json in {folder}" in capsys.readouterr().err
    assert main([*arguments, "--annotations", str(lists)]) == 0
    assert main([*arguments, "--attributes", "names"]) == 2
    assert "leave out --attributes" in capsys.readouterr().err


def change_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("Diving48_vocab.json", lambda rows: rows[1].pop(), r"class 1: .* is not take-off, somersaults, twists"),
        ("Diving48_V2_train.json", lambda rows: rows[1].update(label=9), "row 1: label 9 is not one of the 5"),
        ("Diving48_V2_train.json", lambda rows: rows[0].update(label="0"), "row 0: label"),
        ("Diving48_V2_train.json", lambda rows: rows[0].pop("vid_name"), "row 0: vid_name is None"),
        ("Diving48_V2_test.json", lambda rows: rows[0].update(vid_name="../x"), "row 0: vid_name is .*not the name"),
        ("Diving48_V2_test.json", lambda rows: rows.append(dict(rows[0])), "listed in val and in val"),
        ("Diving48_V2_test.json", lambda rows: rows.clear(), "must be a list of rows"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_list_is_named_by_file_and_row(tmp_path, file, change, message):
    folder = write_dives(tmp_path / "Diving48")
    change_json(folder / file, change)
    with pytest.raises(ValueError, match=message) as error:
        run(folder, tmp_path / "root", "diving48")
    assert str(folder) in str(error.value) and not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("labels.json", lambda classes: classes.update(Approaching="7"), "does not number its 4 classes"),
        ("train.json", lambda rows: rows[0].update(template="Eating [something]"), "row 0: 'Eating something' is not"),
        ("train.json", lambda rows: rows[0].update(template=None), "row 0: None is not a class"),
    ],
)
def test_a_wrong_list_of_something_something_too(tmp_path, file, change, message):
    folder = write_things(tmp_path / "SSv2")
    change_json(folder / "labels" / file, change)
    with pytest.raises(ValueError, match=message):
        run(folder, tmp_path / "root", "ssv2")


def test_an_archive_that_is_cut_off_or_no_archive_is_named(tmp_path):
    folder = write_things(tmp_path / "SSv2")
    (folder / "20bn-something-something-v2-02").unlink()
    with pytest.raises(ValueError, match=r"v2-00 and the 1 parts after it cannot be unpacked .*incomplete"):
        run(folder, tmp_path / "root", "ssv2")
    assert not list((tmp_path / "root").glob("*.tar"))
    (folder / "20bn-something-something-v2-01").unlink()
    (folder / "20bn-something-something-v2-00").write_bytes(gzip.compress(bytes(2**25)))
    with pytest.raises(ValueError, match="more than 20 times its size"):
        run(folder, tmp_path / "root", "ssv2")
    (folder / "20bn-something-something-v2-00").write_bytes(b"PK and so on")
    with pytest.raises(ValueError, match="holds 0 videos, none of which the lists of root name"):
        run(folder, tmp_path / "root", "ssv2")


@pytest.mark.parametrize("name", ["diving48/vision_encoder", "diving48/video_text", "ssv2/vision_encoder"])
def test_the_recipes_name_the_folders_that_the_import_writes(name):
    recipe = parse_recipe(["--config", str(CONFIGURATION / f"{name}.yaml")])
    assert recipe.data.root == f"data/{name.split('/')[0]}" and recipe.output_dir == f"outputs/{name}"
    assert recipe.features.mode == "cached" and (recipe.data.flip == 0) == name.startswith("ssv2")


def test_the_cross_encoder_reads_the_attributes_of_diving48(tmp_path):
    run(write_dives(tmp_path / "Diving48"), tmp_path / "root", "diving48", license="unknown")
    backbone = save_backbone(tmp_path, "vjepa2")
    options = {
        "model.backbone": backbone,
        "data.root": tmp_path / "root",
        "output_dir": tmp_path / "run",
        "data.clip_len": 8,
        "data.frame_interval": 1,
        "data.short_side": 36,
        "data.crop_size": 32,
        "data.num_workers": 0,
        "optimization.epochs": 2,
        "optimization.batch_size": 3,
        "optimization.micro_batch_size": 3,
        "logging.pictures": "false",
        "logging.trackers": "[]",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    metrics = train(parse_recipe(["--config", str(CONFIGURATION / "diving48" / "video_text.yaml"), *arguments]))
    assert (metrics["num_evaluated"], metrics["annotation_version"]) == (1, "V2")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["attribute_names"][1:] == [text for column in zip(*VOCABULARY) for text in dict.fromkeys(column)]
