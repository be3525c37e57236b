"""Strict reading, atomic writing, and a journal that survives what happens to machines."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mis import store
from mis.store import (
    Attempt,
    Journal,
    StoreError,
    journal_path,
    publish,
    read_jsonl,
    replacing,
    write_csv_atomic,
    write_jsonl_atomic,
    write_text_atomic,
)

# Subprocesses see the same library, installed or not.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(store.__file__).parents[1])}


def attempt(key, *, request="r", ok=True, text=""):
    return Attempt(request, ok, {"key": key, "text": text})


def test_rows_come_back_as_they_were(tmp_path):
    rows = [{"key": "a", "text": "ü \u2028 \r\n"}, {"key": "b", "n": [1, None]}]
    write_jsonl_atomic(tmp_path / "deep" / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "deep" / "rows.jsonl") == rows


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b'{"a": 1}\n{"a": 2', 2, "cut off"),
        (b'{"a": 1}\n{"a": 2}', 2, "cut off"),
        (b'{"a": 1}\n{"a"\n{"a": 3}\n', 2, "not a valid row"),
        (b'{"a": 1}\n\n', 2, "not a valid row"),
        (b"[1]\n", 1, "expected a JSON object, found list"),
        (b'{"a": "\xff"}\n', 1, "not a valid row"),
    ],
)
def test_a_bad_line_is_named(tmp_path, content, line, words):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(StoreError) as error:
        read_jsonl(path)
    assert f"{path}, line {line}:" in str(error.value)
    assert words in str(error.value)
    assert "run the step that writes it" in str(error.value)


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(StoreError, match="none.jsonl.*run the step that writes it"):
        read_jsonl(tmp_path / "none.jsonl")


def test_csv_has_its_header_and_refuses_unknown_columns(tmp_path):
    write_csv_atomic(tmp_path / "t.csv", [{"a": 1, "b": None}, {"a": "x,y"}], ("a", "b"))
    assert (tmp_path / "t.csv").read_text() == 'a,b\n1,\n"x,y",\n'
    with pytest.raises(ValueError, match="c"):
        write_csv_atomic(tmp_path / "t.csv", [{"c": 1}], ("a", "b"))
    assert (tmp_path / "t.csv").read_text().startswith("a,b\n1,")


def test_an_interrupted_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "rows.txt"
    write_text_atomic(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as file:
        file.write("half of the ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path, monkeypatch):
    path = tmp_path / "rows.txt"
    write_text_atomic(path, "old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StoreError, match="No space left.*older one is unchanged; free some space"):
        write_text_atomic(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full on this system")
def test_the_kernel_s_own_full_device_is_reported_in_the_same_words(tmp_path, monkeypatch):
    real = os.write
    with open("/dev/full", "wb", buffering=0) as full, Journal(tmp_path / "j.jsonl") as journal:
        journal.append([attempt("a")])
        monkeypatch.setattr(os, "write", lambda descriptor, data: real(full.fileno(), data))
        with pytest.raises(StoreError, match="No space left.*answered before is kept; free some space"):
            journal.append([attempt("b")])
    assert [row["row"]["key"] for row in read_jsonl(tmp_path / "j.jsonl")] == ["a"]


def test_a_half_written_attempt_is_taken_back_when_the_disk_fills(tmp_path, monkeypatch):
    real = os.write
    calls = []

    def fills_up(descriptor, data):
        calls.append(len(data))
        return real(descriptor, data[:10]) if len(calls) == 1 else full_disk()

    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append([attempt("a")])
        monkeypatch.setattr(os, "write", fills_up)
        with pytest.raises(StoreError):
            journal.append([attempt("b")])
        monkeypatch.setattr(os, "write", real)
        journal.append([attempt("c")])
        assert [entry.key for entry in journal.attempts] == ["a", "c"]
    assert [row["row"]["key"] for row in read_jsonl(tmp_path / "j.jsonl")] == ["a", "c"]


@pytest.mark.parametrize("cut", [1, 7, 30])
def test_a_torn_last_line_is_cut_and_counted(tmp_path, cut):
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append([attempt("a"), attempt("b")])
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    with Journal(path) as journal:
        last = len(whole.splitlines(keepends=True)[-1])
        assert journal.repaired == last - cut
        assert [entry.key for entry in journal.attempts] == ["a"]
        journal.append([attempt("c")])
    with Journal(path) as journal:
        assert journal.repaired == 0
        assert [entry.key for entry in journal.attempts] == ["a", "c"]


def test_a_damaged_line_in_the_middle_is_an_error_not_a_loss(tmp_path):
    path = tmp_path / "j.jsonl"
    with Journal(path) as journal:
        journal.append([attempt("a"), attempt("b")])
    lines = path.read_bytes().splitlines(keepends=True)
    for damaged in (b"\0\0\0\n", b'{"request": "r", "ok": true, "row": {}}\n', b'{"key": "a"}\n'):
        path.write_bytes(damaged + lines[1])
        with pytest.raises(StoreError, match="j.jsonl, line 1:"):
            Journal(path)
        assert path.read_bytes() == damaged + lines[1]


def test_a_second_writer_is_refused_and_the_lock_ends_with_the_first(tmp_path):
    path = tmp_path / "j.jsonl"
    code = f"from mis.store import Journal; Journal({str(path)!r}); print('opened')"
    with Journal(path) as journal:
        journal.append([attempt("a")])
        with pytest.raises(StoreError, match="j.jsonl: another process is writing"):
            Journal(path)
        refused = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
        assert refused.returncode != 0
        assert "another process is writing" in refused.stderr
        journal.append([attempt("b")])
    opened = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    assert opened.stdout == "opened\n"
    assert len(read_jsonl(path)) == 2


def test_fsync_follows_the_policy(tmp_path, monkeypatch):
    calls = []
    with Journal(tmp_path / "j.jsonl", every=3) as journal:
        monkeypatch.setattr(os, "fsync", calls.append)
        for key in "abcd":
            journal.append([attempt(key)])
        assert len(calls) == 1
    assert len(calls) == 2  # the fourth attempt, on closing


def test_published_rows_are_the_last_success_else_the_last_failure(tmp_path):
    out = tmp_path / "all.jsonl"
    with Journal(journal_path(out)) as journal:
        journal.append([
            attempt("b", ok=False, text="first failure"),
            attempt("b", ok=False, text="second failure"),
            attempt("a", ok=False, text="failure"),
            attempt("a", text="success"),
            attempt("a", ok=False, text="later failure"),
            attempt("c", request="another question", text="stale"),
            attempt("c", text="current"),
            attempt("d", text="not asked for any more"),
        ])  # fmt: skip
        publish(journal, out, {"c": "r", "b": "r", "a": "r"})
    assert out.read_text() == "".join(
        json.dumps({"key": key, "text": text}) + "\n"
        for key, text in [("a", "success"), ("b", "second failure"), ("c", "current")]
    )
    assert journal_path(out) == tmp_path / "all.journal.jsonl"
    assert all(row["time"].endswith("+00:00") for row in read_jsonl(journal_path(out)))


def test_nothing_is_published_while_a_row_is_missing(tmp_path):
    with Journal(tmp_path / "j.jsonl") as journal:
        journal.append([attempt("a"), attempt("b", request="old")])
        with pytest.raises(StoreError, match="1 of 2 rows are missing.*the first is b"):
            publish(journal, tmp_path / "out.jsonl", {"a": "r", "b": "r"})
    assert not (tmp_path / "out.jsonl").exists()
