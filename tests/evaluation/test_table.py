"""`finegym table`: what is marked, the intervals, the order, and the three kinds of files."""

import csv
import io
import json
import shutil
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from markdown_it import MarkdownIt
from scipy.stats import bootstrap

from finegym.commands.line import main
from finegym.evaluation.table import compare_checkpoints, render_csv, render_latex, render_markdown, table_rows


def checkpoint(folder, num_right, num_videos=200, **changes):
    """Write what an evaluation leaves of a model that gets the first videos of two equal classes right."""
    folder.mkdir(parents=True)
    labels = np.arange(num_videos) % 2
    right = np.arange(num_videos) < num_right
    scores = np.where((labels == 1) == right, 0.75, 0.25)
    scores = np.stack([1 - scores, scores], 1)
    accuracy = 100 * num_right / num_videos
    metrics = {"top1": accuracy, "mean_class_accuracy": accuracy, "num_parameters": 10 + num_right}
    metrics |= {"num_evaluated": num_videos, "num_expected": num_videos, "dataset": "toy", "split": "val", **changes}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    columns = {"id": [f"{number}" for number in range(num_videos)], "label": labels, "scores": scores.tolist()}
    pq.write_table(pa.table(columns), folder / "scores.parquet")
    return folder


@pytest.fixture
def runs(tmp_path):
    checkpoint(tmp_path / "good_a&b", 160, train_seconds=5)
    checkpoint(tmp_path / "=poor|*x*", 100)
    checkpoint(tmp_path / "other", 20, dataset="elsewhere")
    return tmp_path


def test_intervals_are_those_of_scipys_bootstrap(runs):
    row = next(row for row in table_rows(runs) if row.model == "good_a&b")
    right = (np.arange(200) < 160) * 100.0
    expected = bootstrap((right,), np.mean, method="percentile", n_resamples=9999, rng=0).confidence_interval
    assert (row.top1.low, row.top1.high) == pytest.approx(tuple(expected), abs=0.6)
    assert f"({row.top1.low:.1f} to {row.top1.high:.1f})" in compare_checkpoints(runs)


def test_the_best_on_the_same_videos_is_marked(runs):
    lines = {line.split()[0]: line for line in compare_checkpoints(runs).splitlines()[2:]}
    assert lines["good_a&b"].count("*") == 2
    assert " * " not in lines["=poor|*x*"] and "* 80.00 %" in lines["good_a&b"]
    assert "*" not in lines["other"], "alone on its data set it is not the best of anything"


def test_every_column_sorts(runs):
    order = {
        "model": ["=poor|*x*", "good_a&b", "other"],
        "top1": ["other", "=poor|*x*", "good_a&b"],
        "num_parameters": ["other", "=poor|*x*", "good_a&b"],
        "train_seconds": ["good_a&b", "=poor|*x*", "other"],
    }
    for column, names in order.items():
        assert [row.model for row in table_rows(runs, sort=column)] == names
    assert [row.model for row in table_rows(runs, sort="top1", descending=True)] == order["top1"][::-1]
    assert [row.model for row in table_rows(runs, sort="train_seconds", descending=True)][0] == "good_a&b"


def test_markdown_shows_names_literally(runs):
    page = MarkdownIt("commonmark").enable("table").render(render_markdown(table_rows(runs)))
    assert page.count("<tr>") == 4 and page.count("<strong>80.00 %") == 2
    assert "<td>=poor|*x*</td>" in page and "good_a&amp;b" in page


def test_csv_has_plain_numbers_and_no_formula(runs):
    rows = {row["model"]: row for row in csv.DictReader(io.StringIO(render_csv(table_rows(runs))))}
    assert set(rows) == {"'=poor|*x*", "good_a&b", "other"}
    good = rows["good_a&b"]
    assert float(good["top1_low"]) < float(good["top1"]) == 80 < float(good["top1_high"])
    assert (good["train_seconds"], good["dataset"], good["fold"], good["top1_std"]) == ("5", "toy", "", "")


def test_latex_is_escaped_and_balanced(runs, tmp_path):
    text = render_latex(table_rows(runs))
    assert r"good\_a\&b & \textbf{80.00 \% (" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(body) == 4 and all(line.replace(r"\&", "").count("&") == 5 for line in body)
    if shutil.which("pdflatex"):
        document = rf"\documentclass{{article}}\usepackage{{booktabs}}\begin{{document}}{text}\end{{document}}"
        (tmp_path / "table.tex").write_text(document)
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
        assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0


def test_the_command_writes_a_file_and_refuses_what_it_cannot(runs, capsys):
    output = runs / "results.csv"
    assert main(["table", str(runs), "--sort", "top1", "--output", str(output)]) == 0
    assert "bootstrap interval" in capsys.readouterr().out and output.read_text().startswith("model,top1,")
    assert main(["table", str(runs), "--output", "table.docx"]) == 2
    assert "--output must end in .md, .csv, .tex, not table.docx." in capsys.readouterr().err
    metrics = json.loads((runs / "other" / "metrics.json").read_text())
    (runs / "other" / "metrics.json").write_text(json.dumps(metrics | {"top1": 11.0}))
    with pytest.raises(ValueError, match=r"other/scores.parquet and metrics.json are of different evaluations"):
        compare_checkpoints(runs)
    (runs / "other" / "scores.parquet").write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"other/scores.parquet holds no scores"):
        compare_checkpoints(runs)


def test_metrics_of_no_checkpoint_are_left_out_and_named(runs, capsys):
    (runs / "control").mkdir()
    (runs / "control" / "metrics.json").write_text('{"top1": 75.6, "mean_class_accuracy": 75.6, "num_parameters": 14}')
    assert main(["table", str(runs)]) == 0
    said = capsys.readouterr().out
    assert "good_a&b" in said and "75.60" not in said
    assert f"{runs / 'control'}: left out, its metrics.json names no data set and is of no checkpoint." in said
    assert said.count("left out") == 1
    assert main(["table", str(runs / "control")]) == 1
    assert "no checkpoint beside it to evaluate again: leave the folder out" in capsys.readouterr().err
    (runs / "control" / "config.json").write_text("{}")  # a checkpoint's damaged metrics are nothing to pass over
    assert main(["table", str(runs)]) == 1
    assert "`finegym evaluate` writes it again" in capsys.readouterr().err
