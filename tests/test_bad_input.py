"""What goes wrong around a run: damaged files, a full disk, kill -9 at any step.

Each ends with one message that names the file and the remedy (exit code 2), leaves what was published as it was, and
the next run completes with the bytes of an undisturbed one. What the library does about its own files is tested in
test_store, test_sources, test_responding and test_construction, killed training in test_training; here are commands.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from isolated import Command, Ended, mis

MODEL = "internvl_mini"
WHERE = ("--model", MODEL, "--seed", 0)
RESPOND = ("respond", "all", "--arm", "mirage", *WHERE)
TRAIN = ("train", "mirage", *WHERE)
JUDGE = ("judge", *WHERE)
DATA, BUILD, RESULTS = Path("build/smoke/data"), Path("build/smoke"), Path("results/smoke")
CHECKPOINT = BUILD / "models" / MODEL / "seed0" / "mirage"
BASE = CHECKPOINT.with_name("base")
RESPONSES = RESULTS / "responses" / MODEL / "seed0" / "mirage" / "all.jsonl"
VERDICTS = RESULTS / "verdicts" / MODEL / "seed0" / "mirage" / "all.jsonl"
SCORES = RESULTS / "scores.csv"
TABLE = RESULTS / "tables" / "table4.md"
MIXTURE = BUILD / "mixtures" / "mirage.jsonl"


def copy_of(smoke_run: Path, folder: Path) -> Path:
    for part in ("build", "results"):
        shutil.copytree(smoke_run / part, folder / part)
    return folder


@pytest.fixture
def run(smoke_run, tmp_path) -> Path:
    """A copy of a finished run of the smoke scale."""
    return copy_of(smoke_run, tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the hidden temporary one that a killed writer of a single file may leave (`store.replacing`)."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix != ".tmp")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def published(run: Path) -> dict[str, bytes]:
    """What a step hands on: mixtures, checkpoints, answers (not their journals, which hold times), verdicts, scores."""
    places = (BUILD / "mixtures", BUILD / "models", RESULTS)
    files = {str(place / name): data for place in places for name, data in contents(run / place).items()}
    return {name: data for name, data in files.items() if "journal" not in name and "benchmarks/" not in name}


@pytest.fixture(scope="module")
def expected(smoke_run) -> dict[str, bytes]:
    """What an undisturbed run publishes."""
    return published(smoke_run)


def told(ended: Ended) -> str:
    """The one message of a command that failed as it should."""
    assert ended.code == 2, ended.text
    assert "Traceback" not in ended.text
    assert f"\n{ended.text}".count("\nmis: ") == 1
    return ended.message


# --- Configurations ---------------------------------------------------------------------------------------------------


def change(path: str, value) -> Callable[[dict], None]:
    def edit(raw: dict) -> None:
        *parents, last = path.split(".")
        for name in parents:
            raw = raw[name]
        raw[last] = value

    return edit


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("world.image_sise", 48, "world.image_sise: unknown key; remove it, or see config/schema.json"),
        ("world.image_size", 0, "world.image_size: Input should be greater than 0"),
        ("seeds", [], "seeds: List should have at least 1 item"),
        ("arms", ["base", "mirrage"], "arms: unknown arm 'mirrage'; known: base, textual_sft,"),
        ("training.arms.mirage.learning_rate", -1, "training.arms.mirage.learning_rate: Input should be greater than"),
        ("training.arms.mirage.epochs", "two", "training.arms.mirage.epochs: Input should be a valid number"),
        ("training.warmup_ratio", 1.5, "training.warmup_ratio: Input should be less than or equal to 1"),
        ("evaluation.suites", {"all": ["mis/medium"]}, "evaluation.suites.all: unknown benchmark 'mis/medium'; known:"),
        ("evaluation.suites", {"a": ["siuo"], "b": ["siuo"]}, "evaluation.suites.b: 'siuo' is already in suite 'a'"),
        ("models.internvl_mini.pretraining", None, "give `pretraining` exactly where `source: pretrain` stands"),
        ("judge.kind", "gpt", "judge.kind: Input should be 'oracle' or 'models'"),
        ("paths", None, "paths: Input should be a valid dictionary"),
    ],
)  # fmt: skip
def test_an_impossible_value_is_named_and_nothing_is_begun(tmp_path, root, path, value, words):
    raw = yaml.safe_load((root / "config" / "smoke.yaml").read_text(encoding="utf-8"))
    change(path, value)(raw)
    bad = tmp_path / "bad.yaml"
    bad.write_text(yaml.safe_dump(raw), encoding="utf-8")
    message = told(mis(tmp_path, "world", "--config", bad))
    assert message.startswith(f"mis: {bad} cannot be used:\n") and words in message
    assert os.listdir(tmp_path) == ["bad.yaml"]


def test_snakemake_refuses_an_impossible_file_and_takes_it_once_mended(snakemake, tmp_path, root):
    text = (root / "config" / "smoke.yaml").read_text(encoding="utf-8")
    config = tmp_path / "mine.yaml"
    config.write_text(text.replace("save_steps: 3", "save_steps: none"), encoding="utf-8")
    refused = snakemake(tmp_path, "table4", "--cores", "1", "--configfile", str(config))
    assert refused.code != 0 and "Traceback" not in refused.text
    assert f"{config} cannot be used:" in refused.text and "training.save_steps: Input should be" in refused.text
    assert not (tmp_path / "results").exists() and not (tmp_path / "build").exists()
    config.write_text(text, encoding="utf-8")
    assert snakemake(tmp_path, "table4", "--dry-run", "--configfile", str(config)).code == 0


# --- Damaged files ----------------------------------------------------------------------------------------------------


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    """As a copy that was cut off: half of the file, and at least its last character, is gone."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2].rstrip(b"\n"))


def cut_a_line(path: Path) -> None:
    """The second line of a JSON Lines file loses its end, the others are whole."""
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1][:-20] + b"\n"
    path.write_bytes(b"".join(lines))


def escape(path: Path) -> None:
    """The first picture named in a table leads out of the dataset."""
    text = path.read_text(encoding="utf-8")
    name = next(word for word in text.split('"') if word.endswith(".png"))
    path.write_text(text.replace(name, f"../../{name}", 1), encoding="utf-8")


def other_processor(path: Path) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**values, "image_seq_length": 4}), encoding="utf-8")


def not_a_row(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"id": "7"}\n' + b"".join(lines[1:]))


def first(pattern: str) -> Callable[[Path], Path]:
    return lambda run: next(iter(sorted(run.glob(pattern))))


def picture_of_mixture(run: Path) -> Path:
    rows = [json.loads(line) for line in (run / MIXTURE).read_text(encoding="utf-8").splitlines()]
    return run / DATA / next(row["images"][0] for row in rows if row["images"])


FIGSTEP = first(f"{DATA}/figstep/data/images/SafeBench/*.png")
CAPTION = first(f"{DATA}/captions/images/*.png")
AGAIN = "run the step that wrote it again"
# What is damaged, how, which command meets it, words of the message (the file's name is asked for besides), and the
# commands that mend it; none: the file is put back, as one who fetches it again would do.
DAMAGES = {
    "respond: missing picture": (FIGSTEP, remove, RESPOND, "is missing; unpack the dataset's pictures there", ()),
    "respond: cut picture": (FIGSTEP, truncate, RESPOND, AGAIN, ()),
    "train: missing picture": (picture_of_mixture, remove, TRAIN, "make or fetch its dataset again", ()),
    "train: cut picture": (picture_of_mixture, truncate, TRAIN, "make or fetch its dataset again", ()),
    "pretrain: cut picture": (CAPTION, truncate, ("pretrain", MODEL, "--seed", 0), AGAIN, ()),
    "respond: path leaves": (DATA / "mis/mis_easy.json", escape, RESPOND, "does not stay inside", ()),
    "train: path leaves": (MIXTURE, escape, TRAIN, "does not stay inside", (("mix",),)),
    "mix: cut dataset": (DATA / "mis_train/mis_train.json", truncate, ("mix",), AGAIN, ()),
    "mix: cut labels": (DATA / "vlguard/labels/reasoning.jsonl", truncate, ("mix",), AGAIN, ()),
    "train: cut mixture": (MIXTURE, truncate, TRAIN, "run the step that writes it", (("mix",),)),
    "train: cut line": (MIXTURE, cut_a_line, TRAIN, "line 2: not a valid row", (("mix",),)),
    "train: not an example": (MIXTURE, not_a_row, TRAIN, "line 2: not an example", (("mix",),)),
    "judge: cut responses": (RESPONSES, truncate, JUDGE, "remove it and run the step that writes it", (RESPOND,)),
    "judge: cut line": (RESPONSES, cut_a_line, JUDGE, "line 2: not a valid row", (RESPOND,)),
    "judge: cut truth": (DATA / "truth/siuo.jsonl", truncate, JUDGE, "run the step that writes it", ()),
    "score: cut verdicts": (VERDICTS, truncate, ("score",), "run the step that writes it", (JUDGE,)),
    "table: cut scores": (SCORES, truncate, ("table", 4), "scores.csv", (("score",),)),
    "respond: other processor": (CHECKPOINT / "processor_config.json", other_processor, RESPOND, "not of one", ()),
    "train: other processor": (BASE / "processor_config.json", other_processor, TRAIN, "not of one checkpoint", ()),
    "respond: cut weights": (CHECKPOINT / "model.safetensors", truncate, RESPOND, "not a whole checkpoint", (TRAIN,)),
}  # fmt: skip
MADE_BY = {
    "respond": RESPONSES,
    "train": CHECKPOINT,
    "pretrain": BASE,
    "judge": VERDICTS,
    "score": SCORES,
    "table": TABLE,
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_file_is_named_and_the_next_run_completes(smoke_run, expected, run, case):
    place, damage, command, words, remedy = DAMAGES[case]
    path = place(run) if callable(place) else run / place
    damage(path)
    if command[0] == "pretrain":
        shutil.rmtree(run / BUILD / "cache")
    before = published(run)
    message = told(mis(run, *command))
    named = path.parent if "not of one" in words or "checkpoint" in words else path
    if "path leaves" in case:  # the row is named, or the path that it gives
        named = Path("mis_easy.json, row 0") if "respond" in case else Path("../../")
    assert str(named).removeprefix(f"{run}/") in message
    assert words in message
    assert published(run) == before, "nothing lost, nothing half written"

    for step in remedy:
        if path.suffix == ".safetensors":
            shutil.rmtree(path.parent)  # what the message says
        mended = mis(run, *step)
        assert mended.code == 0, mended.text
        if step == RESPOND:
            assert " 0 asked" in mended.text, "no answer is asked for twice"
    if not remedy:
        original = smoke_run / path.relative_to(run)
        path.unlink(missing_ok=True)
        shutil.copy2(original, path)
    made = MADE_BY.get(command[0])
    if made and (run / made).is_file():
        (run / made).unlink()
    elif made:
        shutil.rmtree(run / made)
    done = mis(run, *command)
    assert done.code == 0, done.text
    assert published(run) == expected


# --- A full disk ------------------------------------------------------------------------------------------------------


class Disk:
    """A small file system that can be filled to the last byte, and emptied again."""

    def __init__(self, folder: Path):
        self.folder, self.ballast = folder, folder / "ballast"

    def fill(self, but: int) -> None:
        """Leave room for `but` bytes."""
        descriptor = os.open(self.ballast, os.O_CREAT | os.O_WRONLY)
        try:
            while True:
                os.write(descriptor, bytes(4096))
        except OSError:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - but)
        finally:
            os.close(descriptor)

    def empty(self) -> None:
        self.ballast.unlink()


@pytest.fixture
def disk(tmp_path, smoke_run):
    """A real one: what a library does when the kernel has no block left cannot be imitated for its every write."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a full disk needs the right to mount a small one ({mounted.stderr.strip()})")
    try:
        yield Disk(copy_of(smoke_run, folder))
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


# Step, what it makes, and how many bytes fit before the disk is full: none, or so many that it is in the middle of it.
FULL = {
    "world": (("world",), DATA, 40_000),
    "construct": (("construct",), BUILD / "construction", 40_000),
    "mix": (("mix",), BUILD / "mixtures", 40_000),
    "pretrain, first stage": (("pretrain", MODEL, "--seed", 0), BUILD / "cache", 0),
    "pretrain, features": (("pretrain", MODEL, "--seed", 0), BUILD / "cache", 300_000),
    "pretrain, from the cache": (("pretrain", MODEL, "--seed", 0), BASE, 40_000),
    "features": (("features", MODEL, "--seed", 0), BUILD / "features", 40_000),
    "train, at once": (TRAIN, CHECKPOINT, 0),
    "train, a checkpoint's weights": (TRAIN, CHECKPOINT, 40_000),
    "train, a checkpoint's optimiser": (TRAIN, CHECKPOINT, 200_000),
    "respond": (RESPOND, RESPONSES.parent, 80_000),
    "judge": (JUDGE, RESULTS / "verdicts", 80_000),
    "score": (("score",), SCORES, 0),
    "table": (("table", 4), TABLE, 0),
}


@pytest.mark.parametrize("case", FULL)
def test_a_full_disk_is_one_message_and_the_next_run_completes(expected, disk, case):
    command, made, room = FULL[case]
    run = disk.folder
    if made == DATA:
        kept = of_the_world(run / DATA)
    elif (run / made).is_dir():
        shutil.rmtree(run / made)
    else:
        (run / made).unlink()
    before = published(run)
    disk.fill(but=room)
    message = told(mis(run, *command))
    assert "No space left on device" in message
    assert f"{BUILD}" in message or f"{RESULTS}" in message
    assert "free some space" in message and "run the same command again" in message
    if made == DATA:
        kept.pop("manifest.json")
        assert of_the_world(run / DATA) == kept
    after = published(run)
    assert all(after[name] == data for name, data in before.items())
    assert all(data == expected[name] for name, data in after.items()), "what is there is whole"
    disk.empty()
    done = mis(run, *command)
    assert done.code == 0, done.text
    assert published(run) == expected


# --- kill -9 ----------------------------------------------------------------------------------------------------------


def alive(session: int) -> list[int]:
    """The processes of a session."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(") ")[2]
        except OSError:
            continue
        if int(fields.split()[3]) == session and not fields.startswith("Z"):
            found.append(int(entry.parent.name))
    return found


def wait_for(condition: Callable[[], object], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def of_the_world(data: Path) -> dict[str, bytes]:
    """Without what `mis construct` writes and what loaders extract from tables."""
    return {
        name: content
        for name, content in contents(data).items()
        if not name.removeprefix("development/").removeprefix("scenes/").removeprefix("truth/").startswith("mis")
        and "/.images/" not in name
    }


def test_a_killed_world_leaves_nobody_behind_and_a_rerun_completes(smoke_run, tmp_path):
    shutil.copytree(smoke_run / RESULTS, tmp_path / RESULTS)
    data = tmp_path / DATA
    for datasets in (1, 12):
        begun = Command(tmp_path, "world")
        assert wait_for(lambda n=datasets: len(list((data / "truth").glob("*.jsonl"))) >= n, 60)
        begun.kill()
        assert begun.end().code == -9
        assert not (data / "manifest.json").exists(), "so nobody takes the world for finished"
        session = begun.process.pid
        try:  # workers that went on would write into the folders of the rerun
            assert wait_for(lambda: not alive(session), 3)  # noqa: B023  (it ends before the next turn)
        finally:
            for worker in alive(session):
                os.kill(worker, signal.SIGKILL)
    done = mis(tmp_path, "world")
    assert done.code == 0, done.text
    assert of_the_world(data) == of_the_world(smoke_run / DATA)


def test_a_killed_worker_of_the_world_is_one_message(run):
    message = told(mis(run, "world", kill=("mis.miniature.output:Dataset.draw", 100)))
    assert f"{DATA}" in message and "out of memory" in message and "run the same command again" in message


# Step, what it makes, and where it is killed.
KILLS = {
    "construct": (("construct",), BUILD / "construction", [("mis.miniature.output:Dataset.draw", 60)]),
    "mix": (("mix",), BUILD / "mixtures", [("os:replace", 1), ("os:replace", 3)]),
    "respond": (RESPOND, RESPONSES.parent, [("mis.models.local:LocalModel.answer", 2), ("os:replace", 1)]),
    "judge": (JUDGE, RESULTS / "verdicts", [("os:replace", 1), ("os:replace", 3)]),
    "score": (("score",), SCORES, [("os:replace", 1), ("os:fsync", 1)]),
    "table": (("table", 4), TABLE, [("os:replace", 1), ("os:replace", 2)]),
}


@pytest.mark.parametrize("case", KILLS)
def test_a_killed_step_leaves_whole_files_and_a_rerun_gives_the_same(expected, run, case):
    command, made, kills = KILLS[case]
    if (run / made).is_dir():
        shutil.rmtree(run / made)
    else:
        (run / made).unlink()
    for kill in kills:
        killed = mis(run, *command, kill=kill)
        assert killed.code == -9, killed.text
        left = published(run)
        assert all(expected[name] == data for name, data in left.items()), "old, new or absent: never a part"
        assert len(left) < len(expected) or case in ("construct", "table")
    done = mis(run, *command)
    assert done.code == 0, done.text
    if case == "respond":
        assert " 0 asked" in done.text, "all answers were in the journal"
    assert published(run) == expected
