"""Every public layout: what a writer writes a loader reads back, and what is broken is said clearly."""

import base64
import dataclasses
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from mis.benchmarks import BENCHMARKS, BY_ID
from mis.miniature import layouts
from mis.miniature.layouts import Item
from mis.mixtures import ARMS
from mis.sources import LOADERS, TRAINING_SOURCES, SourceError, load_benchmark
from mis.sources.common import Row, without_placeholders
from mis.sources.figstep import PROMPT
from mis.sources.mmstar import split_options

RED, BLUE, GREEN = (200, 0, 0), (0, 0, 200), (0, 200, 0)


def draw(scene, path: Path) -> None:
    Image.new("RGB", (24, 24), scene).save(path)


def colour(path: Path) -> tuple[int, ...]:
    """The colour of the middle, rounded so that JPEG does not matter."""
    with Image.open(path) as image:
        return tuple(round(value / 50) * 50 for value in image.convert("RGB").getpixel((12, 12)))


PAIRS = [
    Item(f"How are these used, {k}?", (RED, BLUE), category="Privacy", sub_category="Identity Theft") for k in range(3)
]
SINGLES = [
    Item(
        f'Ask, "quoted"\nline {k}',
        (scene,),
        category=category,
        sub_category="part",
        options=("one, two", "three", "four"),
        answer=("one, two", "three", "four")[k],
    )
    for k, (scene, category) in enumerate([(RED, "Fraud Risk"), (BLUE, "Other"), (GREEN, "Fraud Risk")])
]
SEVERAL = [
    Item(
        f"Which differs, {k}?",
        (RED, GREEN, BLUE),
        options=("first", "second"),
        answer="second",
        category="Difference",
        sub_category="part",
    )
    for k in range(2)
]

# How each benchmark source is written, and the items whose question, categories and choice must come back.
WRITERS = {
    "figstep": (layouts.write_figstep, SINGLES),
    "mm_safetybench": (layouts.write_mm_safetybench, SINGLES),
    "jailbreakv": (layouts.write_jailbreakv, SINGLES),
    "vlsbench": (layouts.write_vlsbench, SINGLES),
    "siuo": (layouts.write_siuo, SINGLES),
    "mssbench": (layouts.write_mssbench, PAIRS),
    "mossbench": (layouts.write_mossbench, SINGLES),
    "q_bench": (layouts.write_q_bench, SINGLES),
    "mmstar": (layouts.write_mmstar, SINGLES),
    "mmmu": (layouts.write_mmmu, SEVERAL),
    "muirbench": (layouts.write_muirbench, SEVERAL),
    "mmt_bench": (layouts.write_mmt_bench, [*SINGLES, *SEVERAL]),
}


def write(source: str, data: Path) -> list[str]:
    writer, items = WRITERS[source]
    return writer(data / source, items, draw)


def test_every_benchmark_and_training_source_has_a_loader():
    assert {benchmark.source for benchmark in BENCHMARKS} == set(LOADERS)
    assert {part.source for arm in ARMS.values() for part in arm.parts} <= set(TRAINING_SOURCES)


@pytest.mark.parametrize("source", WRITERS)
def test_round_trip(source, tmp_path):
    items = WRITERS[source][1]
    ids = write(source, tmp_path)
    benchmark = next(benchmark for benchmark in BENCHMARKS if benchmark.source == source)
    samples = {sample.id: sample for sample in load_benchmark(tmp_path, benchmark)}
    assert sorted(samples) == sorted(ids) and len(set(ids)) == len(items)
    chosen = benchmark.task == "choice"
    for identity, item in zip(ids, items, strict=True):
        sample = samples[identity]
        assert sample.benchmark == benchmark.name and sample.split == benchmark.split
        assert sample.question == (PROMPT if source == "figstep" else item.question)
        assert sample.category == item.category
        assert (sample.options, sample.answer) == ((item.options, item.answer) if chosen else ((), ""))
        scenes = item.images[:1] if source == "mssbench" else item.images
        assert tuple(map(colour, sample.images)) == scenes
        assert all(path.is_relative_to(tmp_path / source) for path in sample.images)


@pytest.mark.parametrize("split", ["easy", "hard", "real", "new_object", "new_relation", "new_style"])
def test_mis_round_trip(split, tmp_path):
    benchmark = BY_ID[f"mis/{split}"]
    ids = layouts.write_mis(tmp_path / benchmark.source, split, PAIRS, draw)
    samples = load_benchmark(tmp_path, benchmark)
    assert [sample.id for sample in samples] == ids
    assert samples[0].key == f"mis/{split}/{ids[0]}"
    assert [(s.question, s.category, s.sub_category) for s in samples] == [
        (i.question, i.category, i.sub_category) for i in PAIRS
    ]
    assert tuple(map(colour, samples[1].images)) == (RED, BLUE)


def test_samples_bear_the_name_of_the_benchmark_that_asked(tmp_path):
    write("siuo", tmp_path)
    renamed = dataclasses.replace(BY_ID["siuo"], name="siuo_again")
    assert {sample.benchmark for sample in load_benchmark(tmp_path, renamed)} == {"siuo_again"}


def test_mis_controls_keep_the_questions_of_hard_and_lose_its_pictures(tmp_path):
    layouts.write_mis(tmp_path / "mis", "hard", PAIRS, draw)
    hard = load_benchmark(tmp_path, BY_ID["mis/hard"])
    for split, shown in {"black_image": [(0, 0, 0)] * 2, "white_image": [(250, 250, 250)] * 2, "no_image": []}.items():
        samples = load_benchmark(tmp_path, BY_ID[f"mis/{split}"])
        assert [(s.id, s.question) for s in samples] == [(s.id, s.question) for s in hard]
        assert [colour(path) for path in samples[0].images] == shown


def test_benign_control_needs_no_category(tmp_path):
    items = [Item("Use both?", (RED, BLUE))]
    layouts.write_mis(tmp_path / "benign_control", "benign", items, draw)
    assert load_benchmark(tmp_path, BY_ID["benign_control"])[0].category == ""
    layouts.write_mis(tmp_path / "mis", "easy", items, draw)
    with pytest.raises(SourceError, match="'category' is empty"):
        load_benchmark(tmp_path, BY_ID["mis/easy"])


def test_mssbench_splits_show_the_right_situation(tmp_path):
    write("mssbench", tmp_path)
    shown = {
        split: [colour(path) for path in load_benchmark(tmp_path, BY_ID[f"mssbench/{split}"])[0].images]
        for split in ("safe", "unsafe", "related_image", "white_image", "text_only")
    }
    assert shown == {
        "safe": [RED],
        "unsafe": [BLUE],
        "related_image": [RED],
        "white_image": [(250, 250, 250)],
        "text_only": [],
    }


def test_mssbench_entry_with_several_queries(tmp_path):
    write("mssbench", tmp_path)
    path = tmp_path / "mssbench" / "combined.json"
    value = json.loads(path.read_text())
    value["chat"][1]["queries"].append("And now?")
    path.write_text(json.dumps(value))
    assert [s.id for s in load_benchmark(tmp_path, BY_ID["mssbench/safe"])] == ["0", "1", "1_1", "2"]


def test_advbench_appends_the_users_suffix_and_asks_for_it(tmp_path):
    ids = layouts.write_advbench(tmp_path / "advbench", [Item("Break it", extra={"target": "Sure"})], "!! suffix ")
    (sample,) = load_benchmark(tmp_path, BY_ID["advbench_suffix"])
    assert (sample.id, sample.question, sample.images) == (ids[0], "Break it !! suffix ", ())
    (tmp_path / "advbench/data/advbench/suffix.txt").unlink()
    with pytest.raises(SourceError, match=r"suffix.txt: no adversarial suffix; write the suffix"):
        load_benchmark(tmp_path, BY_ID["advbench_suffix"])


def test_tables_store_letters_as_the_originals_do(tmp_path):
    for source in ("q_bench", "mmstar", "mmmu", "muirbench"):
        write(source, tmp_path)
    table = {
        source: pq.read_table(next((tmp_path / source).rglob("*.parquet"))).to_pylist()
        for source in ("q_bench", "mmstar", "mmmu", "muirbench")
    }
    assert [row["correct_choice"] for row in table["q_bench"]] == ["A", "B", "C"]
    assert table["q_bench"][0]["option3"] == "N/A"
    assert table["mmstar"][1]["question"].endswith("\nOptions: A: one, two, B: three, C: four")
    assert table["mmmu"][0]["options"] == "['first', 'second']" and table["mmmu"][0]["image_4"] is None
    assert [row["answer"] for row in table["muirbench"]] == ["B", "B"]


def test_mmmu_open_question_keeps_its_answer(tmp_path):
    layouts.write_mmmu(tmp_path / "mmmu", [Item("How many?", (RED,), answer="12", category="Art")], draw)
    (sample,) = load_benchmark(tmp_path, BY_ID["mmmu"])
    assert (sample.options, sample.answer, sample.category) == ((), "12", "Art")


@pytest.mark.parametrize(
    ("text", "question", "options"),
    [
        ("What?\nOptions: A: on the book., B: under it.", "What?", ("on the book.", "under it.")),
        (
            "Hint: think.\nQuestion: What?\nChoices:\n(A) 2, 3\n(B) 4\n(C) 5",
            "Hint: think.\nQuestion: What?",
            ("2, 3", "4", "5"),
        ),
    ],
)
def test_mmstar_options_are_taken_out_of_the_text(text, question, options):
    assert split_options(Row({"question": text}, "here")) == (question, options)
    with pytest.raises(SourceError, match="here: its options are not written in a known way"):
        split_options(Row({"question": "What? A or B"}, "here"))


def test_mmt_bench_row_may_name_the_row_that_holds_its_picture(tmp_path):
    write("mmt_bench", tmp_path)
    path = tmp_path / "mmt_bench" / "MMT-Bench_VAL_MI.tsv"
    with Image.open(load_benchmark(tmp_path, BY_ID["mmt_bench"])[1].images[0]) as image:
        assert image.size == (24, 24)
    path.write_text(
        "index\tcategory\tquestion\tA\tB\tanswer\timage\n"
        f"5\tc\tq\tx\ty\tA\t{base64.b64encode(_png(BLUE)).decode()}\n6\tc\tq\tx\ty\tB\t5\n"
    )
    first, second = load_benchmark(tmp_path, BY_ID["mmt_bench"])
    assert first.images == second.images and second.answer == "y"


def _png(scene) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (24, 24), scene).save(stream, "PNG")
    return stream.getvalue()


def test_embedded_pictures_follow_the_table_when_it_changes(tmp_path):
    layouts.write_q_bench(tmp_path / "q_bench", SINGLES[:1], draw)
    (before,) = load_benchmark(tmp_path, BY_ID["q_bench"])
    stamp = before.images[0].stat().st_mtime_ns
    (again,) = load_benchmark(tmp_path, BY_ID["q_bench"])
    assert again.images == before.images and again.images[0].stat().st_mtime_ns == stamp
    layouts.write_q_bench(tmp_path / "q_bench", [Item("Ask", (GREEN,), options=("a", "b"), answer="b")], draw)
    (after,) = load_benchmark(tmp_path, BY_ID["q_bench"])
    assert colour(after.images[0]) == GREEN


# Training sources


def test_vlguard_counts_as_the_paper_does(tmp_path):
    root = tmp_path / "vlguard"
    unsafe = [Item("Do it", (RED,), answer="No.", category="privacy", sub_category="personal data")] * 2
    safe = [
        Item(
            "",
            (BLUE,),
            extra={
                "safe_instruction": "What is it?",
                "safe_response": "A sky.",
                "unsafe_instruction": "Insult it",
                "unsafe_response": "I will not.",
            },
        )
    ] * 3
    ids = layouts.write_vlguard(root, unsafe, safe, draw)
    examples = TRAINING_SOURCES["vlguard"](root, "original")
    assert [example.id for example in examples] == ids
    assert [example.kind for example in examples].count("safety") == 2 + 3
    assert [example.kind for example in examples].count("benign") == 3
    assert (examples[0].prompt, examples[0].response, examples[0].category) == ("Do it", "No.", "privacy")
    assert (examples[2].prompt, examples[2].response, examples[2].kind) == ("What is it?", "A sky.", "benign")
    assert (examples[3].prompt, examples[3].response) == ("Insult it", "I will not.")
    assert colour(tmp_path / examples[3].images[0]) == BLUE and examples[0].images == ("vlguard/train/unsafe/1.png",)

    safety = [example.id for example in examples if example.kind == "safety"]
    layouts.write_labels(root, "reasoning", [{"id": i, "response": f"Because {i}"} for i in safety])
    labelled = TRAINING_SOURCES["vlguard"](root, "reasoning")
    assert [e.response for e in labelled if e.kind == "safety"] == [f"Because {i}" for i in safety]
    assert [e.response for e in labelled if e.kind == "benign"] == ["A sky."] * 3


def test_vlguard_repeated_id(tmp_path):
    """The released train file repeats one id with other instructions; the same row twice is a fault."""
    layouts.write_vlguard(tmp_path, [Item("One", (RED,), answer="No."), Item("Two", (RED,), answer="No.")], [], draw)
    path = tmp_path / "train.json"
    rows = json.loads(path.read_text())
    rows[1]["id"] = rows[0]["id"]
    path.write_text(json.dumps(rows))
    assert [e.id for e in TRAINING_SOURCES["vlguard"](tmp_path, "original")] == ["unsafe_1", "unsafe_1~2"]
    path.write_text(json.dumps([rows[0], rows[0]]))
    with pytest.raises(SourceError, match="train.json, row 1: id 'unsafe_1' occurs twice"):
        TRAINING_SOURCES["vlguard"](tmp_path, "original")


def test_saferlhf_decides_by_the_safety_flags(tmp_path):
    root = tmp_path / "saferlhf"
    harmful = [Item(f"Harm {k}", answer="Safe answer", extra={"unsafe_response": "bad"}) for k in range(2)]
    benign = [Item("Hello", answer="Hi", extra={"other_response": "Ho"})]
    ids = layouts.write_saferlhf(root, harmful, benign)
    examples = TRAINING_SOURCES["saferlhf"](root, "original")
    assert [(e.id, e.kind, e.response) for e in examples] == [
        (ids[0], "safety", "Safe answer"),
        (ids[1], "safety", "Safe answer"),
        (ids[2], "benign", "Hi"),
    ]
    assert [colour(tmp_path / image) for image in examples[0].images] == [(0, 0, 0)]

    path = next(root.glob("data/*/train.jsonl"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {row["safer_response_id"] for row in rows} == {0, 1}
    rows[0].update(is_response_0_safe=False, is_response_1_safe=False)
    path.write_text("\n".join(map(json.dumps, rows)))
    assert [e.id for e in TRAINING_SOURCES["saferlhf"](root, "original")] == ids[1:]
    layouts.write_labels(root, "llama", [{"id": i, "response": "Rewritten"} for i in ids[:2]])
    assert [e.response for e in TRAINING_SOURCES["saferlhf"](root, "llama")] == ["Rewritten", "Rewritten", "Hi"]


@pytest.mark.parametrize(
    ("source", "kind", "labels"),
    [
        ("m4_instruct", "general", "original"),
        ("general", "general", "original"),
        ("mis_train", "safety", "safety_cot"),
        ("benign_pairs", "benign", "safety_cot"),
    ],
)
def test_conversations_round_trip(source, kind, labels, tmp_path):
    root = tmp_path / source
    items = [
        Item("What?", (RED,), answer="Red."),
        Item("Both?", (RED, BLUE), answer="Two.", category="Hate"),
        Item("Words?", answer="Yes."),
    ]
    writer = layouts.write_m4_instruct if kind == "general" else layouts.write_mis_train
    ids = writer(root, items, draw)
    examples = TRAINING_SOURCES[source](root, labels)
    assert [e.id for e in examples] == ids
    assert [(e.prompt, e.response, e.category) for e in examples] == [(i.question, i.answer, i.category) for i in items]
    assert [tuple(colour(tmp_path / image) for image in e.images) for e in examples] == [i.images for i in items]
    assert {(e.source, e.kind) for e in examples} == {(source, kind)}

    layouts.write_labels(root, "other", [{"id": i, "response": "New", "prompt": "Asked", "images": []} for i in ids])
    assert [(e.prompt, e.response, e.images) for e in TRAINING_SOURCES[source](root, "other")] == [
        ("Asked", "New", ())
    ] * 3


def test_longer_conversation_gives_its_first_turn_and_that_turns_pictures(tmp_path):
    for name in ("a.png", "b.png"):
        draw(RED, tmp_path / name)
    row = {
        "image": ["a.png", "b.png"],
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is it?"},
            {"from": "gpt", "value": "Red."},
            {"from": "human", "value": "<image> And this?"},
            {"from": "gpt", "value": "Red too."},
        ],
    }
    path = tmp_path / "m4_instruct_annotations.json"
    path.write_text(json.dumps([row]))
    (example,) = TRAINING_SOURCES["m4_instruct"](tmp_path, "original")
    assert (example.id, example.prompt, example.response) == ("0", "What is it?", "Red.")
    assert example.images == (f"{tmp_path.name}/a.png",)
    row["image"].append("a.png")
    path.write_text(json.dumps([row]))
    with pytest.raises(SourceError, match="row 0: 2 <image> placeholders for 3 pictures"):
        TRAINING_SOURCES["m4_instruct"](tmp_path, "original")


@pytest.mark.parametrize(
    ("text", "clean", "count"),
    [
        ("<image>\n<image>\nWhat?", "What?", 2),
        ("What?<image>", "What?", 1),
        ("What?", "What?", 0),
        ("<image> Is it <image> or <image>?", "Is it [image 2] or [image 3]?", 3),
    ],
)
def test_placeholders(text, clean, count):
    assert without_placeholders(text) == (clean, count)


def test_missing_labels_name_the_file_and_the_id(tmp_path):
    layouts.write_mis_train(tmp_path, [Item("What?", (RED, BLUE), answer="No.")] * 2, draw)
    with pytest.raises(SourceError, match=r"labels/sorry.jsonl: no such file.*labels the data"):
        TRAINING_SOURCES["mis_train"](tmp_path, "sorry")
    layouts.write_labels(tmp_path, "sorry", [{"id": "1", "response": "I'm sorry."}])
    with pytest.raises(SourceError, match="sorry.jsonl: no row for id '2'"):
        TRAINING_SOURCES["mis_train"](tmp_path, "sorry")
    layouts.write_labels(tmp_path, "sorry", [{"id": "1", "response": "I'm sorry."}] * 2)
    with pytest.raises(SourceError, match="sorry.jsonl, line 2: id '1' occurs twice"):
        TRAINING_SOURCES["mis_train"](tmp_path, "sorry")


# Faults


def _mis(tmp_path) -> Path:
    layouts.write_mis(tmp_path / "mis", "hard", PAIRS, draw)
    return tmp_path / "mis" / "mis_hard.json"


def _fails(tmp_path, match, benchmark="mis/hard"):
    with pytest.raises(SourceError, match=match) as caught:
        load_benchmark(tmp_path, BY_ID[benchmark])
    assert not any(item.question in str(caught.value) for item in [*PAIRS, *SINGLES]), "a message quotes a sample"


def _edit(path, **changes):
    rows = json.loads(path.read_text())
    rows[1].update(changes)
    path.write_text(json.dumps(rows))


def test_missing_file(tmp_path):
    _fails(tmp_path, r"mis_hard.json: no such file; put the dataset there.*docs/data.md")


def test_missing_picture(tmp_path):
    (_mis(tmp_path).parent / "hard_image/2/object2.png").unlink()
    _fails(tmp_path, r"mis_hard.json, row 1: picture .*hard_image/2/object2.png is missing; unpack")


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[:-30],
        lambda whole: whole[:60] + b"XXXX" + whole[64:],
        lambda whole: b"",
        lambda whole: b"no picture",
    ],
)
def test_damaged_png(damage, tmp_path):
    picture = _mis(tmp_path).parent / "hard_image/2/object1.png"
    picture.write_bytes(damage(picture.read_bytes()))
    _fails(tmp_path, r"row 1: picture .*object1.png is damaged")


def test_truncated_jpeg_is_damaged_and_one_with_a_tail_is_not(tmp_path):
    ids = write("mm_safetybench", tmp_path)
    picture = next((tmp_path / "mm_safetybench").rglob("SD_TYPO/0.jpg"))
    whole = picture.read_bytes()
    picture.write_bytes(whole + b"\0" * 500)
    assert len(load_benchmark(tmp_path, BY_ID["mm_safetybench"])) == len(ids)
    picture.write_bytes(whole[:-20])
    _fails(tmp_path, r"json, entry '0': picture .*0.jpg is damaged", "mm_safetybench")


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "a/../../secret.png", "."])
def test_path_that_leaves_the_root(name, tmp_path):
    path = _mis(tmp_path)
    draw(RED, tmp_path / "secret.png")
    _edit(path, image_path1=name)
    _fails(tmp_path, r"mis_hard.json, row 1: picture path .* does not stay inside")


def test_duplicate_id(tmp_path):
    _edit(_mis(tmp_path), id=1)
    _fails(tmp_path, r"mis_hard.json: id '1' occurs twice \(again at sample 1\)")


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"question": 3}, "row 1: field 'question' has type int"),
        ({"question": " "}, "row 1: field 'question' is empty"),
        ({"id": True}, "row 1: field 'id' has type bool"),
    ],
)
def test_wrong_field(changes, match, tmp_path):
    _edit(_mis(tmp_path), **changes)
    _fails(tmp_path, match)


def test_truncated_json_and_wrong_top(tmp_path):
    path = _mis(tmp_path)
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2])
    _fails(tmp_path, r"mis_hard.json, line \d+: not valid JSON .*cut short: download it again")
    path.write_text("{}")
    _fails(tmp_path, "expected a list at the top, found dict")
    path.write_text("[]")
    _fails(tmp_path, "no samples for mis/hard")


def test_truncated_json_line(tmp_path):
    layouts.write_saferlhf(tmp_path, [], [Item("Hello", answer="Hi", extra={"other_response": "Ho"})] * 2)
    path = next(tmp_path.glob("data/*/train.jsonl"))
    path.write_text(path.read_text()[:-40])
    with pytest.raises(SourceError, match=r"train.jsonl, line 2: not valid JSON .*cut short"):
        TRAINING_SOURCES["saferlhf"](tmp_path, "original")


def test_wrong_encoding(tmp_path):
    path = _mis(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"How", b"H\xe9w"))
    _fails(tmp_path, r"mis_hard.json: not UTF-8 \(byte \d+\)")


def test_wrong_column_and_short_row_of_a_csv(tmp_path):
    write("mossbench", tmp_path)
    path = tmp_path / "mossbench" / "information.csv"
    whole = path.read_text()
    path.write_text(whole.replace("image_path", "picture"))
    _fails(tmp_path, "information.csv: no column image_path", "mossbench")
    path.write_text(whole[: whole.rindex(",")])
    _fails(tmp_path, r"information.csv, line \d+: not as many cells", "mossbench")


def test_csv_cut_inside_a_quoted_cell(tmp_path):
    items = [Item("Break it", extra={"target": "Sure, here"})]
    layouts.write_advbench(tmp_path / "advbench", items, "!!")
    path = tmp_path / "advbench/data/advbench/harmful_behaviors.csv"
    path.write_text(path.read_text()[:-4])
    _fails(tmp_path, "harmful_behaviors.csv, after line 1: unexpected end of data; download", "advbench_suffix")


def test_broken_parquet(tmp_path):
    write("q_bench", tmp_path)
    path = next((tmp_path / "q_bench").rglob("*.parquet"))
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["correct_choice"]), path)
    _fails(tmp_path, "parquet: no column correct_choice", "q_bench")
    rows = table.to_pylist()
    rows[1]["correct_choice"] = "D"  # it has three options
    pq.write_table(table.from_pylist(rows, table.schema), path)
    _fails(tmp_path, r"parquet, row 1: the answer is not the letter of one of its 3 options", "q_bench")
    rows[1] |= {"correct_choice": "A", "image": {"bytes": _png(RED)[:-20], "path": None}}
    pq.write_table(table.from_pylist(rows, table.schema), path)
    _fails(tmp_path, r"parquet, row 1: its picture is damaged", "q_bench")
    path.write_bytes(path.read_bytes()[:-10])
    _fails(tmp_path, "not a readable Parquet file", "q_bench")
    path.unlink()
    _fails(tmp_path, r"test-\*.parquet: no such file", "q_bench")


@pytest.mark.parametrize("source", LOADERS)
def test_unknown_split(source, tmp_path):
    with pytest.raises(SourceError, match="unknown split 'nonsense'; it has"):
        LOADERS[source](tmp_path, "nonsense")
