"""Base models from the hub or a folder: `mis model fetch`, the lock, and checkpoints with Python code of their own."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from conftest import ROOT
from hub_server import HubServer, commit_of
from PIL import Image
from safetensors.torch import save_file
from test_conversion import FIXTURES, add_tokenizer, grow
from typer.testing import CliRunner

from mis import layout
from mis.cli import app
from mis.errors import MisError
from mis.models.checkpoint import load_checkpoint
from mis.models.remote_code import RemoteCodeModel
from mis.samples import Sample
from mis.settings import ConfigurationError, Hub, Model, validate
from mis.taking import take

pytestmark = pytest.mark.usefixtures("one_thread")
NAME = "OpenGVLab/InternVL2_5-tiny"


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> dict[str, bytes]:
    """The files of a released checkpoint, with some that nobody needs."""
    folder = tmp_path_factory.mktemp("released") / "checkpoint"
    shutil.copytree(FIXTURES / "internlm2", folder)
    (folder / "expected.safetensors").unlink()
    add_tokenizer(folder)
    grow(folder, 440 + 9)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files | {"examples/image.jpg": b"x", "pytorch_model.bin": b"x", "runs/config.json": b"{}"}


@pytest.fixture
def settings(mini, tmp_path):
    source = Hub(hub=NAME, layout="internvl_chat")
    models = {"real": Model(family="internvl", source=source, arms=["base", "mirage"])}
    cache = mini.paths.model_copy(update={"cache": tmp_path / "cache"})
    return mini.model_copy(update={"models": models, "paths": cache})


@pytest.fixture
def hub(released, monkeypatch):
    with HubServer({NAME: released}, large=("model.safetensors",)) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("mis.data.remote.time.sleep", lambda _: None)
        yield server


def test_a_released_checkpoint_is_fetched_pinned_and_converted(settings, hub, released, tmp_path, capsys):
    lock = tmp_path / "models.lock.json"
    base = take(settings, "real", lock)
    commit = commit_of(released)
    assert base == layout.checkpoint(settings, "real", 3, "base")
    assert json.loads((base / "origin.json").read_text()) == {"hub": NAME, "commit": commit}
    entry = json.loads(lock.read_text())[NAME]
    assert entry["commit"] == commit and "model.safetensors" in entry["files"]
    assert "newly pinned" in capsys.readouterr().err
    fetched = {path for _, path, _ in hub.served}
    assert not fetched & {"pytorch_model.bin", "examples/image.jpg", "runs/config.json"}
    model, processor = load_checkpoint(base)
    assert model.config.image_token_id == processor.image_token_id
    assert (base / "original" / "tokenizer.model").read_bytes() == released["tokenizer.model"]

    hub.served.clear()
    hub.push(NAME, released | {"config.json": b"{}"})  # a newer commit: the lock's is taken, and nothing loaded again
    first = {path.name: path.read_bytes() for path in base.iterdir() if path.is_file()}
    again = take(settings, "real", lock)
    assert {path.name: path.read_bytes() for path in again.iterdir() if path.is_file()} == first
    assert not [path for method, path, size in hub.served if method == "GET" and size]


def test_what_is_not_as_pinned_is_loaded_again_or_refused(settings, hub, tmp_path):
    lock = tmp_path / "models.lock.json"
    take(settings, "real", lock)
    (kept,) = (settings.paths.cache / "hub").rglob("model.safetensors")
    kept.write_bytes(b"spoilt")
    take(settings, "real", lock)
    assert kept.stat().st_size > 1000
    entries = json.loads(lock.read_text())
    entries[NAME]["files"]["model.safetensors"]["sha256"] = "0" * 64
    lock.write_text(json.dumps(entries))
    with pytest.raises(MisError, match="model.safetensors: has another checksum than .*models.lock.json says"):
        take(settings, "real", lock)


def test_a_download_that_breaks_goes_on(settings, hub, tmp_path):
    hub.faults["model.safetensors"] = ["drop", "503"]
    take(settings, "real", tmp_path / "lock.json")
    assert load_checkpoint(layout.checkpoint(settings, "real", 0, "base"))


def test_a_repository_without_safetensors_is_refused(settings, tmp_path, monkeypatch):
    with HubServer({NAME: {"config.json": b"{}", "pytorch_model.bin": b"x"}}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        with pytest.raises(MisError, match="no weights in safetensors"):
            take(settings, "real", tmp_path / "lock.json")


def test_what_is_made_here_is_not_fetched(mini, tmp_path):
    with pytest.raises(MisError, match="made here .`mis pretrain`."):
        take(mini, "internvl_mini", tmp_path / "lock.json")
    from mis.training.pretrain import pretrain

    taken = mini.model_copy(update={"models": {"real": Model(family="llava", source=str(tmp_path / "nowhere"))}})
    with pytest.raises(MisError, match="nowhere is not a folder"):
        take(taken, "real", tmp_path / "lock.json")
    with pytest.raises(MisError, match="`mis model fetch real` takes it"):
        pretrain(taken, "real", 0)


def test_the_command(released, tmp_path, monkeypatch):
    folder = tmp_path / "checkpoint"
    for name, content in released.items():
        if "/" not in name:
            folder.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
    raw = yaml.safe_load((ROOT / "config" / "mini.yaml").read_text())
    raw["models"] = {"real": {"family": "internvl", "source": str(folder), "arms": ["base"]}}
    raw["paths"] |= {"build": str(tmp_path / "build")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(raw))
    done = CliRunner().invoke(app, ["model", "fetch", "real", "--config", str(tmp_path / "config.yaml")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "build" / "models" / "real" / "base" / "config.json").is_file()


def test_the_seeds_of_a_model_share_its_base_in_the_workflow(tmp_path, snakemake):
    """One fetch; each seed's arms start from it, and the answers of `base` are its own."""
    raw = yaml.safe_load((ROOT / "config" / "mini.yaml").read_text())
    raw["models"] = {"real": {"family": "llava", "source": "/data/llava", "arms": ["base", "mirage"]}}
    raw["seeds"] = [0, 1]
    raw["evaluation"]["latency"] = None
    (tmp_path / "scale.yaml").write_text(yaml.safe_dump(raw))
    done = snakemake(tmp_path, "score", "--dry-run", "--configfile", str(tmp_path / "scale.yaml"))
    assert done.code == 0, done.text
    counts = dict(re.findall(r"^(\w+) +(\d+)$", done.text, re.MULTILINE))
    expected = {"fetch_base": "1", "train_arm": "2", "respond": "4", "cache_features": "2"}
    assert {name: counts.get(name) for name in expected} == expected
    assert "pretrain_base" not in counts and "measure_skills" not in counts


# --- Python code of a checkpoint's own --------------------------------------------------------------------------------

CODE = """
from pathlib import Path
from transformers import PretrainedConfig, PreTrainedModel
import torch

class TinyConfig(PretrainedConfig):
    model_type = "tiny_chat"

class Tiny(PreTrainedModel):
    config_class = TinyConfig
    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Parameter(torch.zeros(2))
        self.post_init()
    def chat(self, image, msgs, tokenizer, sampling, max_new_tokens):
        (turn,) = msgs
        *pictures, question = turn["content"]
        assert image is None and not sampling
        return f"{len(pictures)} pictures, {pictures[0].size if pictures else None}: {question} ({max_new_tokens})"
"""


@pytest.fixture
def own_code(tmp_path) -> Path:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    folder = tmp_path / "own_code"
    folder.mkdir()
    (folder / "modeling_tiny.py").write_text(CODE)
    config = {
        "model_type": "tiny_chat",
        "architectures": ["Tiny"],
        "auto_map": {"AutoConfig": "modeling_tiny.TinyConfig", "AutoModel": "modeling_tiny.Tiny"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file({"weight": torch.ones(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    backend = Tokenizer(models.WordLevel({"<unk>": 0, "a": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>").save_pretrained(folder)
    return folder


def own(mini, revision: str | None):
    source = Hub(hub="openbmb/MiniCPM-V-2_6", revision=revision, remote_code=True)
    return mini.model_copy(update={"models": {"own": Model(family="remote", source=source, arms=["base"])}})


def test_nobody_has_read_it_so_it_is_not_run(mini, own_code, tmp_path):
    with pytest.raises(MisError, match="only at a commit whose code somebody has read: .*MiniCPM-V-2_6, then set"):
        take(own(mini, None), "own", tmp_path / "lock.json")
    with pytest.raises(MisError, match="runs only with `remote_code` and `revision`"):
        RemoteCodeModel(own_code, own(mini, None), "own")
    with pytest.raises(MisError, match="tiny_chat is none of transformers' own networks.*not run here"):
        load_checkpoint(own_code)


def test_what_somebody_has_read_answers(mini, own_code, tmp_path, monkeypatch):
    files = {path.name: path.read_bytes() for path in own_code.iterdir()}
    with HubServer({"openbmb/MiniCPM-V-2_6": files}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        read = own(mini, commit_of(files))
        base = take(read, "own", tmp_path / "lock.json")
    Image.new("RGB", (30, 20)).save(tmp_path / "a.png")
    model = RemoteCodeModel(base, read, "own")
    samples = [
        Sample("mis", "easy", "1", "what is this ?", (tmp_path / "a.png",) * 2),
        Sample("mis", "easy", "2", "why ?"),
    ]
    one, two = model.answer(samples)
    assert (one.text, one.finish_reason) == ("2 pictures, (30, 20): what is this ? (64)", "stop")
    assert two.text == "0 pictures, None: why ? (64)"


@pytest.mark.parametrize(
    "model, message",
    [
        ({"family": "internvl", "source": {"hub": "a/b", "remote_code": True}}, "belong together"),
        ({"family": "remote", "source": {"hub": "a/b"}}, "belong together"),
        ({"family": "remote", "source": {"hub": "a/b", "remote_code": True, "revision": "main"}}, "40 hex digits"),
        ({"family": "llava", "source": {"hub": "a/b", "layout": "internvl_chat"}}, "belongs to the family internvl"),
        ({"family": "llava", "source": {"hub": "no-owner"}}, "hub"),
        ({"family": "llava", "source": "x", "cutting": {"max_tiles": 4}}, "does not cut pictures so"),
    ],
)
def test_settings_that_cannot_be(model, message):
    raw = yaml.safe_load((ROOT / "config" / "mini.yaml").read_text())
    raw["models"] = {"real": {**model, "arms": ["base"]}}
    with pytest.raises(ConfigurationError, match=message):
        validate(raw)
