"""`mis data fetch` and `verify` against a real server: pinning, resuming, faults, gates, archives."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from mis.data import archives, fetch, inputs, lock, remote
from mis.data.lock import DataError
from mis.sources import public
from mis.sources.public import ByHand, Named, Origin, Public
from tests.hub_server import HubServer


def zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(members: dict[str, bytes], **info) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in info.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


PICTURES = zipped({"train/a/1.png": b"one", "train/a/2.png": b"two", "__MACOSX/x": b"junk"})
HUB = {"made/up": {"train.json": b"[1, 2]", "train.zip": PICTURES, "README.md": b"# Made up", "other/x.csv": b"no"}}
GIT = {
    "made/repo": {
        "data/table.csv": b"id,picture\n1,p/1.png\n2,p/2.png\n",
        "data/p/1.png": b"1" * 100_000,
        "data/p/2.png": b"2" * 10,
    }
}
DATASETS = {
    dataset.name: dataset
    for dataset in (
        Public("up", (Origin("hub", "made/up", ("train.json", "train.zip"), unpack=(("train.zip", "train"),)),), "mit"),
        Public(
            "repo",
            (Origin("github", "made/repo", ("data/table.csv",), cut="data/", named=Named("table.csv", "picture", "")),),
            by_hand=(ByHand("extra/*.txt", 1, "write one"),),
        ),
    )
}


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(public, "DATASETS", DATASETS)
    for module in (fetch, inputs):
        monkeypatch.setattr(module, "DATASETS", DATASETS)
    monkeypatch.setattr(remote.time, "sleep", lambda seconds: None)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with HubServer(HUB | GIT, large=("train.zip",)) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("HF_HOME", "/nonexistent")  # no token of the machine's user
        yield server


@pytest.fixture
def root(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def pins(tmp_path):
    return tmp_path / "lock.json"


def test_first_download_writes_the_lock_and_the_second_loads_nothing(server, root, pins):
    done = fetch.fetch("up", root, pins)
    assert not done.pinned and not done.todo
    assert (root / "up/train/a/2.png").read_bytes() == b"two"
    assert not (root / "up/README.md").exists() and not (root / "up/train/__MACOSX").exists()
    entry = json.loads(pins.read_text())["up"]["origins"][0]
    assert entry["commit"] == server.head["made/up"] and sorted(entry["files"]) == ["train.json", "train.zip"]
    assert entry["files"]["train.json"] == {"size": 6, "sha256": hashlib.sha256(b"[1, 2]").hexdigest()}
    assert entry["unpacked"]["train.zip"]["files"] == 2
    before, stamp = pins.read_bytes(), len(server.served)
    server.push("made/up", HUB["made/up"] | {"train.json": b"[1, 2, 3]"})
    again = fetch.fetch("up", root, pins)
    assert again.pinned and pins.read_bytes() == before and len(server.served) == stamp
    assert (root / "up/train.json").read_bytes() == b"[1, 2]"
    assert fetch.verify("up", root, pins) == []


def test_another_machine_gets_the_pinned_commit_and_renew_the_newest(server, root, pins, tmp_path):
    fetch.fetch("up", root, pins)
    server.push("made/up", HUB["made/up"] | {"train.json": b"[1, 2, 3]"})
    fetch.fetch("up", tmp_path / "elsewhere", pins)
    assert (tmp_path / "elsewhere/up/train.json").read_bytes() == b"[1, 2]"
    renewed = fetch.fetch("up", root, pins, renew=True)
    assert not renewed.pinned and (root / "up/train.json").read_bytes() == b"[1, 2, 3]"
    assert json.loads(pins.read_text())["up"]["origins"][0]["commit"] == server.head["made/up"]


@pytest.mark.parametrize("fault", ["503", "drop"])
@pytest.mark.parametrize(("name", "path"), [("up", "train.zip"), ("repo", "data/p/1.png")])
def test_a_passing_fault_is_survived(server, root, pins, name, path, fault):
    server.faults[path] = [fault, fault]
    fetch.fetch(name, root, pins)
    assert fetch.verify(name, root, pins) == [] and server.faults[path] == []


def test_a_cut_download_goes_on_where_it_was(server, root, pins):
    server.faults["data/p/1.png"] = ["drop"]
    fetch.fetch("repo", root, pins)
    assert server.loaded("data/p/1.png") == 100_000, "the first half is not loaded twice"


def test_what_stays_broken_is_an_error_and_what_was_loaded_is_kept(server, root, pins):
    server.faults["data/p/1.png"] = ["503"] * 20
    with pytest.raises(DataError, match=r"data/p/1.png: HTTP 503, 5 attempts; what was loaded is kept"):
        fetch.fetch("repo", root, pins)
    assert not pins.exists() and (root / "repo/table.csv").exists()
    server.faults.clear()
    fetch.fetch("repo", root, pins)
    assert server.loaded("data/table.csv") == len(GIT["made/repo"]["data/table.csv"])


@pytest.mark.parametrize(("name", "path"), [("up", "train.zip"), ("up", "train.json"), ("repo", "data/p/2.png")])
def test_other_bytes_than_announced_are_refused_and_removed(server, root, pins, name, path):
    server.faults[path] = ["wrong"]
    with pytest.raises(DataError, match="with another checksum than its host says; it was removed"):
        fetch.fetch(name, root, pins)
    assert not pins.exists() and not (root / name / path.removeprefix("data/")).exists()
    fetch.fetch(name, root, pins)


def test_other_bytes_than_pinned_are_refused(server, root, pins, tmp_path):
    fetch.fetch("up", root, pins)
    commit = server.head["made/up"]
    server.history["made/up"][commit]["train.json"] = b"[9, 9]"  # the history was rewritten
    with pytest.raises(DataError, match="another checksum than the lock says"):
        fetch.fetch("up", tmp_path / "elsewhere", pins)


def test_a_file_changed_on_disk_is_found_and_mended(server, root, pins):
    fetch.fetch("up", root, pins)
    (root / "up/train.json").write_bytes(b"[1, 9]")
    (root / "up/train/a/1.png").unlink()
    assert [line.removeprefix(f"{root}/up/") for line in fetch.verify("up", root, pins)] == [
        "train.json: has another SHA-256 than the lock",
        "train/a/1.png: is missing",
    ]
    fetch.fetch("up", root, pins)
    assert fetch.verify("up", root, pins) == []
    (root / "up/train.zip").unlink()  # disk space
    assert fetch.verify("up", root, pins) == []


def test_pictures_that_a_table_names(server, root, pins):
    done = fetch.fetch("repo", root, pins)
    assert sorted(done.entry["origins"][0]["files"]) == ["p/1.png", "p/2.png", "table.csv"]
    assert done.todo == [f"{root}/repo/extra/*.txt: 0 of 1 are there; write one"]
    (root / "repo/extra").mkdir()
    (root / "repo/extra/a.txt").write_text("mine")
    assert fetch.fetch("repo", root, pins).todo == []
    (root / "repo/extra/a.txt").write_text("other")
    assert fetch.verify("repo", root, pins) == [f"{root}/repo/extra/a.txt: has 5 bytes, not 4"]


def test_a_gate_says_what_to_accept_and_a_token_opens_it(server, root, pins, monkeypatch):
    server.gated.add("made/up")
    with pytest.raises(DataError, match=r"made/up: gated; open http.*/datasets/made/up signed in, accept its terms"):
        fetch.fetch("up", root, pins)
    monkeypatch.setenv("HF_TOKEN", "hf_abcdef")
    fetch.fetch("up", root, pins)
    assert "Bearer hf_abcdef" in server.tokens
    assert "hf_abcdef" not in pins.read_text()


def test_local_files_are_pinned_without_a_host(server, root, pins):
    (root / "up").mkdir(parents=True)
    (root / "up/train.json").write_bytes(b"[7]")
    (root / "up/train.zip").write_bytes(PICTURES)
    done = fetch.fetch("up", root, pins, local=True)
    assert done.entry["origins"][0]["commit"] is None and (root / "up/train/a/1.png").exists() and not server.served
    assert fetch.verify("up", root, pins) == []
    (root / "up/train.json").unlink()
    with pytest.raises(DataError, match="put it back there"):
        fetch.fetch("up", root, pins)


def test_a_new_entry_can_be_limited_to_some_archives(root, pins, server, monkeypatch):
    """As M4-Instruct wants: tables always, archives by choice; a later fetch keeps to what is pinned."""
    many = Public("many", (Origin("hub", "made/many", ("rows.json", "*.zip"), unpack=(("*.zip", "{stem}"),)),))
    monkeypatch.setitem(DATASETS, "many", many)
    files = {"rows.json": b"[]", "A.zip": zipped({"A/1.png": b"a"}), "B.zip": zipped({"1.png": b"b"})}
    server.history["made/many"], server.head["made/many"] = {}, ""
    server.push("made/many", files)
    fetch.fetch("many", root, pins, only=("A.zip",))
    assert (
        (root / "many/A/1.png").exists() and not (root / "many/B.zip").exists() and (root / "many/rows.json").exists()
    )
    fetch.fetch("many", root, pins)
    assert not (root / "many/B.zip").exists()
    fetch.fetch("many", root, pins, renew=True)
    assert (root / "many/B/1.png").read_bytes() == b"b"


def test_a_run_refuses_what_is_not_pinned_and_says_what_it_read(server, mini, pins):
    settings = mini.model_copy(update={"sources": mini.sources.model_copy(update={"lock": pins})})
    with pytest.raises(DataError, match="up is not pinned; run `mis data fetch up`"):
        inputs.take(settings, "up")
    assert not server.served
    assert not inputs.take(settings, "up", allow_unpinned=True).pinned and not pins.exists()
    table, page = inputs.write_inputs(settings, ["up", "benign_control"])
    assert "**Unpinned inputs: up.**" in page.read_text()
    assert table.read_text().splitlines()[1].endswith(",mit,no")
    fetch.fetch("up", settings.paths.data, pins)
    assert inputs.take(settings, "up").pinned
    inputs.write_inputs(settings, ["up"])
    assert "Every dataset was read as the lock" in page.read_text()
    fetch.fetch("repo", settings.paths.data, pins)
    with pytest.raises(DataError, match=r"extra/\*.txt: 0 of 1 are there; write one"):
        inputs.take(settings, "repo")


def test_commands(tmp_path):
    """The real table of datasets, in a process of its own; the last step for a user."""
    files = {"data.json": b"[]", "imgs.tar": tarred({"imgs/0.png": b"x"})}
    arguments = ["--root", str(tmp_path / "data"), "--lock", str(tmp_path / "lock.json")]

    def mis(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "mis", "data", *words, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)

    with HubServer({"Foreshhh/vlsbench": files}, large=("imgs.tar",)) as server:
        environment = os.environ | server.environment | {"HF_HOME": str(tmp_path), "PYTHONPATH": "src"}
        done = mis("fetch", "vlsbench")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("vlsbench: 2 files, ") and "newly pinned" in done.stdout
        assert (tmp_path / "data/vlsbench/imgs/0.png").read_bytes() == b"x"
        assert mis("verify").returncode == 0
        (tmp_path / "data/vlsbench/imgs/0.png").write_bytes(b"y")
        assert mis("verify", "vlsbench").returncode == 1
        done = mis("fetch", "siuo", "vlsbench")  # what one dataset lacks keeps no other
        assert done.returncode == 2 and "siuo: " in done.stderr and "vlsbench: 2 files" in done.stdout
        assert (tmp_path / "data/vlsbench/imgs/0.png").read_bytes() == b"x"
        done = mis("fetch", "nonsense")
        assert done.returncode == 2 and "no public dataset 'nonsense'; known: mis_train, " in done.stderr


# Archives


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.zip", zipped({"../out.png": b"x"}), "leaves the folder"),
        ("a.zip", zipped({"/etc/out": b"x"}), "leaves the folder"),
        ("a.zip", zipped({"C:/out": b"x"}), "leaves the folder"),
        ("a.zip", zipped({"..\\out": b"x"}), "leaves the folder"),
        ("a.tar", tarred({"x/../../out": b"x"}), "leaves the folder"),
        ("a.tar", tarred({"link": b""}, type=tarfile.SYMTYPE, linkname="/etc"), "a link or a device"),
        ("a.tar", tarred({"link": b""}, type=tarfile.LNKTYPE, linkname="x"), "a link or a device"),
        ("a.tar", tarred({"pipe": b""}, type=tarfile.FIFOTYPE), "a link or a device"),
        ("a.zip", PICTURES[:-30], "damaged archive"),
        ("a.tar", b"nothing", "damaged archive"),
        ("a.zip", zipped({"__MACOSX/x": b"x"}), "without files"),
    ],
)
def test_bad_archives_write_nothing(tmp_path, name, content, reason):
    root = tmp_path / "deep/root"
    root.mkdir(parents=True)
    (root / name).write_bytes(content)
    with pytest.raises(DataError, match=reason):
        archives.unpack(root, name, "into")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [name]


def test_a_zip_that_holds_a_link(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    (tmp_path / "a.zip").write_bytes(stream.getvalue())
    with pytest.raises(DataError, match="a link or a device"):
        archives.unpack(tmp_path, "a.zip", "")


@pytest.mark.parametrize("members", [{"a/1": b"x", "a/2": b"y"}, {"1": b"x", "2": b"y"}])
def test_an_archive_ends_in_its_folder_whether_or_not_it_repeats_it(tmp_path, members):
    (tmp_path / "a.zip").write_bytes(zipped(members))
    facts = archives.unpack(tmp_path, "a.zip", "{stem}")
    assert (tmp_path / "a/1").read_bytes() == b"x" and facts["files"] == 2 and facts["bytes"] == 2
    assert archives.listing(tmp_path, "a.zip").read_text() == "".join(
        f"{hashlib.sha256(content).hexdigest()}  a/{Path(name).name}\n" for name, content in sorted(members.items())
    )
    assert list(archives.differences(tmp_path, "a.zip", facts)) == []


def test_the_lock_is_read_strictly(tmp_path):
    assert lock.read(tmp_path / "none.json") == {}
    (tmp_path / "lock.json").write_text("{")
    with pytest.raises(DataError, match="cannot be read"):
        lock.read(tmp_path / "lock.json")
