"""A run of answers that is killed at any moment goes on, asks nothing twice, and ends with the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mis import store
from mis.errors import MisError
from mis.models import Answer, checkpoint_identity
from mis.prompts import user_text
from mis.responding import respond
from mis.samples import Sample
from mis.store import StoreError, journal_path, read_jsonl

BATCH = 4
# Subprocesses see the same library, installed or not.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(store.__file__).parents[1])}
# A model in its own process that notes every question before it answers; argv: folder, seconds a batch.
PROGRAM = """
import sys, time
from pathlib import Path
from mis.models import Answer
from mis.responding import respond
from mis.samples import Sample

folder, pause = Path(sys.argv[1]), float(sys.argv[2])

class Slow:
    def answer(self, samples):
        with open(folder / "asked.txt", "a") as asked:
            asked.writelines(sample.id + "\\n" for sample in samples)
        time.sleep(pause)
        return [Answer("answer to " + sample.question) for sample in samples]

samples = [Sample("mis", "easy", str(n), "why " * (n * 7 % 5 + 1)) for n in range(60)]
print(respond(samples, Slow(), folder / "all.jsonl", model_name="m", arm="base", seed=0, batch_size=4,
              identity="slow"))
"""


@dataclass
class Fake:
    """Answers with the prompt; samples whose id is in `failing` fail. `batches` keeps what was asked."""

    failing: frozenset = frozenset()
    batches: list = field(default_factory=list)

    def answer(self, samples):
        self.batches.append(list(samples))
        return [
            Answer("", "failed", "time-out") if sample.id in self.failing else Answer(f"re: {user_text(sample)}")
            for sample in samples
        ]

    @property
    def asked(self):
        return sorted(sample.id for batch in self.batches for sample in batch)


def samples(count=10):
    return [Sample("mis", "easy", str(n), "what " * (n * 3 % 4 + 1)) for n in range(count)]


def run(questions, model, out, identity="weights 64", **options):
    options = {"model_name": "m", "arm": "base", "seed": 0, "batch_size": BATCH, "progress": False, **options}
    return respond(questions, model, out, identity=identity, **options)


def run_program(folder, pause):
    return [sys.executable, "-c", PROGRAM, str(folder), str(pause)]


def test_kill_9_at_any_moment_loses_and_repeats_nothing(tmp_path):
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    subprocess.run(run_program(undisturbed, 0), check=True, capture_output=True, env=ENVIRONMENT)
    expected = (undisturbed / "all.jsonl").read_bytes()
    assert len(expected.splitlines()) == 60

    moments = random.Random(3)
    folder = tmp_path / "killed"
    folder.mkdir()
    asked, kills = folder / "asked.txt", 0
    for at_least in (1, 20, 41):  # kill at a random moment after so many questions
        process = subprocess.Popen(
            run_program(folder, 0.05), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
        )
        while process.poll() is None and (not asked.exists() or len(asked.read_text().split()) < at_least):
            time.sleep(0.002)
        time.sleep(moments.uniform(0, 0.1))
        process.kill()
        kills += process.wait() == -signal.SIGKILL
        assert not (folder / "all.jsonl").exists()
    assert kills == 3
    journal = folder / "all.journal.jsonl"
    answered = Counter(row["row"]["sample_id"] for row in read_jsonl_torn(journal))
    done = subprocess.run(run_program(folder, 0), check=True, capture_output=True, text=True, env=ENVIRONMENT)
    assert f"{60 - len(answered)} asked" in done.stdout
    assert (folder / "all.jsonl").read_bytes() == expected
    repeated = [count - 1 for count in Counter(asked.read_text().split()).values() if count > 1]
    assert sum(repeated) <= kills * BATCH  # the batch in flight at each kill
    assert set(Counter(row["row"]["sample_id"] for row in read_jsonl(journal)).values()) == {1}


def read_jsonl_torn(path):
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]


def test_a_torn_journal_is_mended_and_said(tmp_path, capsys):
    out = tmp_path / "all.jsonl"
    run(samples(), Fake(), out)
    expected = out.read_bytes()
    content = journal_path(out).read_bytes()
    journal_path(out).write_bytes(content[:-5])
    model = Fake()
    run(samples(), model, out)
    assert len(model.asked) == 1
    assert out.read_bytes() == expected
    assert "a torn last line was cut off" in capsys.readouterr().err


def test_a_rerun_asks_nothing_and_changes_nothing(tmp_path):
    out = tmp_path / "all.jsonl"
    first = run(samples(), Fake(), out)
    before = out.read_bytes()
    model = Fake()
    second = run(samples(), model, out)
    assert (first.asked, second.asked, second.total) == (10, 0, 10)
    assert model.batches == []
    assert out.read_bytes() == before
    keys = [row["key"] for row in read_jsonl(out)]
    assert keys == sorted(keys) and len(set(keys)) == 10
    assert not any({"time", "request", "ok"} & row.keys() for row in read_jsonl(out))


def test_failures_are_published_counted_and_asked_again(tmp_path):
    out = tmp_path / "all.jsonl"
    summary = run(samples(), Fake(failing=frozenset({"3", "7"})), out)
    assert summary.failed == 2 and summary.outcomes == {"stop": 8, "failed": 2}
    failed = [row for row in read_jsonl(out) if row["finish_reason"] == "failed"]
    assert [(row["sample_id"], row["error"], row["text"]) for row in failed] == [
        ("3", "time-out", ""),
        ("7", "time-out", ""),
    ]
    model = Fake()
    assert run(samples(), model, out).failed == 0
    assert model.asked == ["3", "7"]
    assert len(read_jsonl(journal_path(out))) == 12  # every attempt is kept


def test_a_filtered_or_cut_off_answer_stands(tmp_path):
    class Filtering:
        def answer(self, samples):
            return [Answer("", "filtered"), Answer("on and on", "length")]

    out = tmp_path / "all.jsonl"
    summary = run(samples(2), Filtering(), out)
    assert summary.failed == 0 and summary.outcomes == {"filtered": 1, "length": 1}
    model = Fake()
    run(samples(2), model, out)
    assert model.batches == []


def test_another_question_is_never_answered_from_the_journal(tmp_path):
    out = tmp_path / "all.jsonl"
    picture = tmp_path / "one.png"
    picture.write_bytes(b"red")
    asked = [replace(samples(1)[0], images=(picture,)), *samples(4)[1:]]
    run(asked, Fake(), out)

    def asked_again(questions, **options):
        model = Fake()
        run(questions, model, out, **options)
        return model.asked

    assert asked_again(asked) == []
    picture.write_bytes(b"blue")
    assert asked_again(asked) == ["0"]
    elsewhere = tmp_path / "moved.png"
    elsewhere.write_bytes(b"blue")
    moved = [replace(asked[0], images=(elsewhere,)), *asked[1:]]
    assert asked_again(moved) == []  # the same contents from another folder are the same question
    reworded = [*moved[:3], replace(moved[3], question="who")]
    assert asked_again(reworded) == ["3"]
    with_options = [*reworded[:3], replace(reworded[3], options=("a", "b"))]
    assert asked_again(with_options) == ["3"]
    assert asked_again(with_options, identity="other weights 64") == ["0", "1", "2", "3"]
    assert asked_again(with_options[:2]) == []
    assert len(read_jsonl(out)) == 2  # only what is asked now is published


def test_batches_are_even_and_cut_the_same_after_a_stop(tmp_path):
    picture = tmp_path / "one.png"
    picture.write_bytes(b"x")
    questions = [replace(sample, images=(picture,) * (int(sample.id) % 3)) for sample in samples(12)]
    random.Random(0).shuffle(questions)
    model = Fake()
    run(questions, model, tmp_path / "all.jsonl")
    shapes = [(len(sample.images), len(sample.question)) for batch in model.batches for sample in batch]
    assert shapes == sorted(shapes)
    assert [len(batch) for batch in model.batches] == [4, 4, 4]

    class Stopping(Fake):
        def answer(self, samples):
            if len(self.batches) == 2:
                raise KeyboardInterrupt
            return super().answer(samples)

    with pytest.raises(KeyboardInterrupt):
        run(questions, Stopping(), tmp_path / "stopped.jsonl")
    resumed = Fake()
    run(questions, resumed, tmp_path / "stopped.jsonl")
    assert resumed.batches == model.batches[2:]
    assert (tmp_path / "stopped.jsonl").read_bytes() == (tmp_path / "all.jsonl").read_bytes()


def test_a_second_run_on_the_same_file_is_refused(tmp_path):
    out = tmp_path / "all.jsonl"

    class Nested:
        def answer(self, samples):
            with pytest.raises(StoreError, match="another process is writing"):
                run(samples, Fake(), out)
            return Fake().answer(samples)

    assert run(samples(2), Nested(), out).total == 2


def test_what_cannot_be_asked_is_an_error(tmp_path):
    out = tmp_path / "all.jsonl"
    with pytest.raises(MisError, match="gone.png: picture cannot be read"):
        run([replace(samples(1)[0], images=(tmp_path / "gone.png",))], Fake(), out)
    with pytest.raises(MisError, match="two rows share the key mis/easy/0/m/base"):
        run([*samples(2), samples(1)[0]], Fake(), out)

    class Short:
        def answer(self, samples):
            return []

    with pytest.raises(MisError, match="0 answers to 2 questions"):
        run(samples(2), Short(), out)
    assert not out.exists()


def test_options_are_named_in_the_prompt_and_open_questions_unchanged():
    sample = Sample("q_bench", "", "1", "which is blurred ?")
    assert user_text(sample) == "which is blurred ?"
    assert user_text(replace(sample, options=("the cat", "the dog"))) == (
        "which is blurred ? options : the cat , the dog"
    )


def test_a_log_gets_lines_and_not_a_bar(tmp_path, capsys):
    run(samples(), Fake(), tmp_path / "all.jsonl", progress=True)
    assert "m base all: 10/10" in capsys.readouterr().err


def test_a_checkpoint_is_known_by_what_decides_its_answers(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    first = checkpoint_identity(tmp_path)
    (tmp_path / "trainer_state.json").write_text('{"seconds": 12}')
    assert checkpoint_identity(tmp_path) == first
    (tmp_path / "tokenizer.json").write_text("{}")
    with_tokenizer = checkpoint_identity(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"weighty")
    os.utime(tmp_path / "model.safetensors", ns=(1, 1))
    assert len({first, with_tokenizer, checkpoint_identity(tmp_path)}) == 3
    with pytest.raises(MisError, match="no checkpoint here.*run `mis pretrain` or `mis train`"):
        checkpoint_identity(tmp_path / "none")
