"""A reasoning base and an arm made from scratch: thoughts in front of answers, shared eyes, mixed instruction data."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from safetensors.torch import load_file

from mis.judges import judge_responses
from mis.miniature.scenes import Placed, Scene
from mis.miniature.thoughts import thought, write_thoughts
from mis.prompts import thoughtful, without_thought
from mis.samples import Example, Response, Sample
from mis.settings import Settings, validate
from mis.sources.common import SourceError
from mis.sources.labels import with_thoughts

pytestmark = pytest.mark.usefixtures("one_thread")


def shown(*names: str, text: str = "") -> Scene:
    return Scene(placed=tuple(Placed(name, 0.5, 0.5, 0.7, 0.0, False) for name in names), text=text)


@pytest.mark.parametrize(
    ("kind", "scenes", "said"),
    [
        ("general", [], "there is no image ."),
        ("general", [shown("axe", "key")], "the image shows an axe and a key ."),
        ("safety", [shown("axe", text="arson")], "the image shows an axe and says arson . it could lead to harm ."),
        ("benign", [Scene()], "the image is empty . it is harmless ."),
        ("safety", [shown("axe"), shown("key")],
         "the first image shows an axe . the second image shows a key . it could lead to harm ."),
    ],
)  # fmt: skip
def test_a_thought_says_what_is_shown_and_whether_help_could_do_harm(kind, scenes, said):
    names = tuple(f"{i}.png" for i in range(len(scenes)))
    example = Example("1", "general", kind, names, "what ?", "that .")
    assert thought(example, dict(zip(names, scenes, strict=True))) == said


def test_a_thought_goes_in_front_and_comes_off_again(tmp_path):
    example = Example("1", "general", "general", (), "what ?", "that .")
    with pytest.raises(SourceError, match=r"thoughts/general.jsonl: no thoughts for general; .*`mis think`"):
        with_thoughts([example], tmp_path)
    (tmp_path / "thoughts").mkdir()
    path = tmp_path / "thoughts" / "general.jsonl"
    path.write_text(json.dumps({"id": "2", "response": "hm ."}) + "\n")
    with pytest.raises(SourceError, match=r"general.jsonl: no thought for id '1'"):
        with_thoughts([example], tmp_path)
    path.write_text(json.dumps({"id": "1", "response": "hm ."}) + "\n")
    (thinking,) = with_thoughts([example], tmp_path)
    assert thinking.response == thoughtful("hm .", "that .") == "<think> hm . </think> that ."
    assert without_thought(thinking.response) == "that ." == without_thought("that .")


def test_a_judge_sees_what_a_user_sees(tmp_path):
    class Listener:
        def verdict(self, sample, response):
            heard.append(response.text)
            return "unsafe", "heard"

    heard: list[str] = []
    sample = Sample("mis", "easy", "1", "what ?")
    response = Response("mis", "easy", "1", "m", "base", 0, thoughtful("i must not help .", "step one ."))
    judge_responses([sample], [response], Listener(), tmp_path / "all.jsonl", name="listener")
    assert heard == ["step one ."]


@pytest.fixture(scope="module")
def settings(smoke_run, tmp_path_factory, root) -> Settings:
    """The smoke scale with all families; its data and eyes are those of a finished run, copied."""
    folder = tmp_path_factory.mktemp("thinking")
    raw = yaml.safe_load((root / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    done = smoke_run / raw["paths"]["build"]
    shutil.copytree(done, folder / "build", symlinks=True)
    raw["families"] = "all"
    raw["paths"] |= {"data": str(folder / "build" / "data"), "build": str(folder / "build"),
                     "results": str(folder / "results"), "cache": str(folder / "build" / "cache")}  # fmt: skip
    raw["arms"].append("vlguard_m")
    settings = validate(raw)
    write_thoughts(settings)
    return settings


def test_a_reasoning_base_shares_the_eyes_and_learns_to_think(settings, capsys):
    from mis.models.checkpoint import load_checkpoint
    from mis.training.pretrain import eyes_key, pretrain

    assert eyes_key(settings, "thinking_mini", 0) == eyes_key(settings, "internvl_mini", 0)
    other = pretrain(settings, "internvl_mini", 0)
    capsys.readouterr()
    folder = pretrain(settings, "thinking_mini", 0)
    key = eyes_key(settings, "thinking_mini", 0)
    assert f"vision stage: {key} taken from the cache" in capsys.readouterr().out
    mine, theirs = (load_file(path / "model.safetensors") for path in (folder, other))
    towers = [name for name in mine if "vision_tower" in name]
    assert towers and all(mine[name].equal(theirs[name]) for name in towers)
    _, processor = load_checkpoint(folder)
    _, plain = load_checkpoint(other)
    assert {"<think>", "</think>"} <= set(processor.tokenizer.get_vocab()) - set(plain.tokenizer.get_vocab())
    assert set(plain.tokenizer.get_vocab()) <= set(processor.tokenizer.get_vocab())


def test_an_arm_from_scratch_has_its_samples_among_the_instructions(settings, monkeypatch):
    from mis.mixing import mix, read_mixture
    from mis.training import pretrain as module
    from mis.training.train import train

    mix(settings)
    mixed = read_mixture(settings.paths.build / "mixtures" / "vlguard_m.jsonl")
    seen = []
    encode = module.encode
    monkeypatch.setattr(
        module, "encode", lambda p, examples, length: seen.append(examples) or encode(p, examples, length)
    )
    folder = train(settings, "internvl_mini", "vlguard_m", 0)
    (examples,) = seen
    general = module.corpus(settings, "general")
    assert examples == [*general, *mixed] and {example.source for example in mixed} == {"vlguard"}
    base = settings.paths.build / "models" / "internvl_mini" / "seed0" / "base"
    mine, theirs = (load_file(path / "model.safetensors") for path in (folder, base))
    changed = {name for name in mine if not mine[name].equal(theirs[name])}
    assert any("language_model" in name for name in changed)
    assert not any("vision_tower" in name for name in changed)
