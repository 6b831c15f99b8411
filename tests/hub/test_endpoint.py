"""What the Hub reads beside the card: the handler of an Inference Endpoint, called as its server calls it, and the
results; and the command line of a job."""

import base64
import functools
import http.server
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from packaging.requirements import Requirement

import finegym
from finegym.commands.finetune import finetune
from finegym.commands.parsing import parse
from finegym.hub import stranger
from finegym.hub.checkpoint import EXAMPLE
from finegym.hub.publish import build_folder, own_logits


README = (Path(__file__).parents[2] / "README.md").read_text()
# The server of an endpoint (huggingface-inference-toolkit) loads handler.py as a file of its own and gives it the
# folder of the repository; bodies of requests and answers are JSON.
SERVER = """
import importlib.util, json, sys
sys.path.insert(0, sys.argv[2])
from stranger import HiddenModules
sys.meta_path.insert(0, HiddenModules("finegym", "modeling_finegym"))
spec = importlib.util.spec_from_file_location("handler.EndpointHandler", sys.argv[1] + "/handler.py")
module = importlib.util.module_from_spec(spec)
sys.modules["handler.EndpointHandler"] = module
spec.loader.exec_module(module)
handler = module.EndpointHandler(sys.argv[1])
for line in sys.stdin:
    try:
        answer = {"answer": handler(json.loads(line))}
    except ValueError as error:
        answer = {"error": str(error)}
    print("ANSWER", json.dumps(answer), flush=True)
"""


@pytest.fixture(scope="module")
def build(finished, tmp_path_factory):
    return build_folder(finished, tmp_path_factory.mktemp("endpoint"), "someone/model")


@pytest.fixture
def address(build):
    """The address of the example, on a server of the loopback interface."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(build.folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{EXAMPLE}"
        server.shutdown()


def ask(folder: Path, requests: list[dict], tmp_path: Path) -> list[dict]:
    # online, for the address of a video; a Hub that does not answer
    place = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"}
    environment = {**os.environ, **place, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-I", "-c", SERVER, str(folder), str(Path(stranger.__file__).parent)]
    body = "".join(f"{json.dumps(request)}\n" for request in requests)
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    result = subprocess.run(command, input=body, check=False, **options)
    assert result.returncode == 0, result.stderr[-3000:]
    return [json.loads(line[7:]) for line in result.stdout.splitlines() if line.startswith("ANSWER ")]


def test_an_endpoint_answers_what_the_evaluation_computes(build, address, tmp_path):
    video = base64.b64encode((build.folder / EXAMPLE).read_bytes()).decode()
    requests = [
        {"inputs": video},
        {"inputs": address, "parameters": {"top_k": 1}},
        {"inputs": [video, address], "parameters": {"top_k": 2, "num_clips": 1}},
        {"inputs": "/etc/hostname"},
        {"inputs": str(build.folder / EXAMPLE)},
        {"parameters": {}},
        {"inputs": video, "parameters": {"num_frames": 7}},
        {"inputs": video, "parameters": {"shell": "ls"}},
        {"inputs": base64.b64encode(b"no video").decode()},
    ]
    answers = ask(build.folder, requests, tmp_path)
    assert len(answers) == len(requests)
    scores = own_logits(build.folder, build.folder / EXAMPLE)[1]
    best = max(scores, key=scores.get)
    assert {entry["label"]: entry["score"] for entry in answers[0]["answer"]} == pytest.approx(scores, abs=1e-6)
    assert [entry["label"] for entry in answers[1]["answer"]] == [best]
    assert [len(answer) for answer in answers[2]["answer"]] == [2, 2]
    assert answers[2]["answer"][0] == answers[2]["answer"][1]
    for answer in answers[3:6]:
        assert "must be an http(s) address or the bytes of a video file in Base64" in answer["error"]
    assert "not num_frames=7" in answers[6]["error"] and "shell" in answers[7]["error"]
    assert "video" in answers[8]["error"]


def test_what_an_endpoint_installs_is_what_the_card_says(build):
    wanted = [Requirement(line) for line in (build.folder / "requirements.txt").read_text().splitlines()]
    install = re.search(r"^pip install (.*)$", (build.folder / "README.md").read_text(), re.MULTILINE)[1]
    assert {str(requirement) for requirement in wanted} == {str(Requirement(part)) for part in shlex.split(install)}


def test_the_results_say_what_the_model_index_says(build):
    (path,) = (build.folder / ".eval_results").iterdir()
    entries = parse_eval_result_entries(yaml.safe_load(path.read_text()))
    index = ModelCard.load(build.folder / "README.md").data.eval_results
    assert [entry.value for entry in entries] == [result.metric_value for result in index]
    assert {entry.dataset_id for entry in entries} == {result.dataset_type for result in index}
    assert [entry.task_id for entry in entries] == ["top1", "mean_class_accuracy"]
    assert all(entry.source_url == "https://huggingface.co/someone/model" for entry in entries)
    assert all("30 of " in entry.notes and "split val" in entry.notes for entry in entries)


def test_the_documented_job_is_one_that_the_hub_client_and_this_project_take(tmp_path):
    text = re.search(r"^hf jobs uv run (?:.*\\\n)*.*$", README, re.MULTILINE)[0].replace("\\\n", " ")
    (tmp_path / "dist").mkdir()
    command = [part.replace("OWNER", "someone") for part in shlex.split(text)]
    start = command.index("finegym")
    program = [str(Path(sys.executable).parent / "hf"), *command[1:4], "--dry-run", "--namespace", "someone"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_TOKEN": "hf_x", "HF_ENDPOINT": "http://127.0.0.1:9"}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 120}
    result = subprocess.run([*program, *command[4:]], check=False, **options)
    assert result.returncode == 0, result.stderr
    shown = dict(line.split(None, 1) for line in result.stdout.splitlines() if re.match("  [a-z]", line))
    assert shown["script"] == "finegym" and shlex.split(shown["args"]) == command[start + 1 :]
    assert shown["with"] == f"/dist/finegym-{finegym.__version__}-py3-none-any.whl"
    assert command[start + 1] == "finetune"
    arguments = parse(finetune, command[start + 2 :], "finegym finetune")
    volumes = [command[place + 1].rpartition(":")[2] for place, part in enumerate(command) if part == "-v"]
    assert volumes == ["/dist", "/runs"] and arguments["output"].is_relative_to("/runs")
