"""What a run costs before it is spent: sizes, FLOPs and memory of models, jobs and their sums, the paper's graph."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mis import sizes
from mis.errors import MisError
from mis.planning import Cost, Job, cost, make_plan, planned_jobs, to_json, to_text, total
from mis.report.needs import needed
from mis.settings import Lora, Sharding, Training, load
from mis.sizes import GIB, ModelSize, Text, Vision, training_memory


@pytest.fixture(scope="module")
def paper(root):
    return load(root / "config" / "paper.yaml")


def placed(settings, folder: Path, **changes):
    """The settings with all files under `folder`."""
    folders = {name: folder / name for name in ("data", "build", "results", "figures")}
    return settings.model_copy(update={"paths": settings.paths.model_copy(update=folders), **changes})


TINY = Text(hidden_size=64, intermediate_size=96, layers=2, heads=4, kv_heads=2, vocabulary=100)


class TestSizes:
    @pytest.mark.parametrize("name", ["internvl2_5_8b", "qwen2_vl_7b", "llava_1_5_13b"])
    def test_parameters_are_those_of_transformers_networks(self, name):
        """On the meta device nothing is computed. Biases and norms are left out: under 2 in 10,000."""
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        text = sizes.model_size(name).text
        with torch.device("meta"):
            network = LlamaForCausalLM(
                LlamaConfig(
                    hidden_size=text.hidden_size, intermediate_size=text.intermediate_size,
                    num_hidden_layers=text.layers, num_attention_heads=text.heads, num_key_value_heads=text.kv_heads,
                    vocab_size=text.vocabulary, tie_word_embeddings=False,
                )
            )  # fmt: skip
        counted = sum(parameter.numel() for parameter in network.parameters())
        assert text.parameters == pytest.approx(counted, rel=2e-4)
        table = network.model.embed_tokens.weight.numel()
        assert text.multiplied == pytest.approx(counted - table, rel=2e-4)

    def test_a_checkpoints_own_configuration_counts_first(self, tmp_path):
        config = {
            "text_config": {
                "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
                "num_key_value_heads": 2, "vocab_size": 100,
            },
            "vision_config": {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3},
            "tie_word_embeddings": True,
        }  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        size = sizes.model_size("internvl2_5_8b", tmp_path)
        assert (size.text, size.vision) == (replace(TINY, tied=True), Vision(32, 48, 3))
        assert size.image_tokens == 1280
        (tmp_path / "config.json").write_text('{"architectures": []}', encoding="utf-8")
        assert sizes.model_size("internvl2_5_8b", tmp_path).text == sizes.model_size("internvl2_5_8b").text

    def test_what_nobody_has_read_is_unknown_and_not_a_number(self):
        size = sizes.model_size("phi_3_5_vision")
        assert size.parameters is None and sizes.answering_flops(size, 100, 10) is None
        assert sizes.answering_memory(size, 1, 100) is None
        named = sizes.model_size("mimo_vl_7b_rl")
        assert named.parameters == 7_000_000_000 and named.text is None
        assert training_memory(named, ("language_model",), training(), 10, 5) is None

    def test_every_model_of_the_paper_has_an_entry_and_every_entry_a_source(self, root):
        raw = load(root / "config" / "paper.yaml")
        assert set(raw.models) <= set(sizes.known()["models"])
        assert all(entry.get("source") for entry in sizes.known()["models"].values())

    def test_every_benchmark_of_the_paper_is_counted_or_said_to_be_unknown(self, paper):
        asked = {name for names in paper.evaluation.suites.values() for name in names}
        assert asked <= set(sizes.known()["benchmarks"])


def training(**options) -> Training:
    given = {
        "global_batch_size": 16, "per_device_batch_size": 1, "warmup_ratio": 0.03, "weight_decay": 0.0,
        "max_length": 4096, "save_steps": 10, "threads": 1, "features": "computed", "arms": {},
    }  # fmt: skip
    return Training(**(given | options))


class TestMemory:
    size = ModelSize(text=TINY, projector=1000)
    trains = ("language_model", "projector")

    def memory(self, **options):
        return training_memory(self.size, self.trains, training(**options), 100, 10, held=0)

    def test_sixteen_bytes_a_trained_parameter(self):
        parameters = TINY.parameters + 1000
        for memory, bytes_each in (
            (self.memory(), (4, 4, 8, 0)),
            (self.memory(precision="bf16"), (4, 4, 8, 2)),
        ):
            parts = (memory.weights, memory.gradients, memory.optimizer, memory.buffers)
            assert parts == tuple(each * parameters for each in bytes_each)

    def test_zero_2_shares_gradients_and_optimiser_and_zero_3_the_weights_too(self):
        parameters = TINY.parameters + 1000
        two = self.memory(precision="bf16", sharding=Sharding(gpus=4, nodes=2, zero=2))
        three = self.memory(precision="bf16", sharding=Sharding(gpus=4, nodes=2, zero=3))
        assert (two.weights, three.weights) == (2 * parameters, 2 * parameters // 8)
        assert (two.gradients, three.gradients) == ((4 + 4) * parameters // 8, (2 + 4) * parameters // 8)
        assert two.optimizer == three.optimizer == 12 * parameters // 8

    def test_buckets_are_those_of_deepspeeds_configuration(self, root):
        size = sizes.model_size("internvl2_5_8b")
        stage = json.loads((root / "config" / "deepspeed" / "zero3.json").read_text(encoding="utf-8"))
        live = stage["zero_optimization"]["stage3_max_live_parameters"]
        options = training(precision="bf16", sharding=Sharding(gpus=8, zero=3))
        assert training_memory(size, self.trains, options, 100, 10).buffers == 2 * live

    def test_lora_keeps_gradients_for_the_adapters_alone(self):
        lora = Lora(rank=8, alpha=16, targets=["q_proj", "v_proj"])
        memory = self.memory(precision="bf16", lora=lora)
        adapters = 2 * 8 * ((64 + 64) + (64 + 32))  # two layers; q is 64 wide, v 32
        assert memory.gradients == 4 * adapters and memory.optimizer == 8 * adapters
        assert memory.weights == 2 * (TINY.parameters + 1000) + 4 * adapters

    def test_checkpointing_leaves_one_layer_and_all_inputs(self):
        plain, checkpointed = self.memory(), self.memory(gradient_checkpointing=True)
        layer = sizes.layer_activations(TINY, 100, 4)
        inputs = 100 * 64 * 4
        assert plain.activations - checkpointed.activations == 2 * layer - (layer + 2 * inputs)
        assert checkpointed.weights == plain.weights

    def test_the_papers_training_fits_its_machine(self, paper):
        """8 x 80 GB: the paper trained there."""
        for model in ("internvl2_5_8b", "llava_1_5_13b", "qwen2_vl_7b", "llava_ov_7b"):
            job = Job(0, "train_arm", {"model": model, "arm": "textual_sft", "seed": "0"}, gpus=8)
            assert 10 * GIB < cost(paper, job).memory < 70 * GIB

    def test_one_card_of_24_gb_holds_the_small_model(self, root):
        settings = load(root / "config" / "single_gpu.yaml")
        for model in settings.models:
            for arm in settings.training.arms:
                bill = cost(settings, Job(0, "train_arm", {"model": model, "arm": arm, "seed": "0"}, gpus=1))
                assert "memory" not in bill.unknown and 2 * GIB < bill.memory < 22 * GIB


def benchmark_script(root: Path):
    spec = importlib.util.spec_from_file_location("memory_estimate", root / "benchmarks" / "memory_estimate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["memory_estimate"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_estimate_is_within_15_percent_of_the_measured_peak(root, checkpointing):
    """Of a training in a process of its own, on the CPU, in which activations are most of the memory."""
    script = benchmark_script(root)
    text = Text(hidden_size=192, intermediate_size=512, layers=4, heads=6, kv_heads=3, vocabulary=512)
    case = script.Case("", text, 4, 256, 16, checkpointing)
    assert script.estimate(case).total == pytest.approx(script.measure(case), rel=0.15)


class TestCost:
    def train(self, **wildcards) -> Job:
        return Job(0, "train_arm", {"model": "internvl2_5_8b", "arm": "mirage", "seed": "0"} | wildcards, gpus=8)

    def test_gpu_hours_by_hand(self, paper):
        """MIRage: 3,927 pairs and 500 general samples, two epochs, 8 passes a parameter and token."""
        size, plan = sizes.model_size("internvl2_5_8b"), paper.planning
        tokens = 2 * 1280 + plan.prompt_tokens + plan.answer_tokens
        samples = 3927 + 500
        weights = 8 * size.text.multiplied * tokens
        attention = 8 * size.text.layers * size.text.hidden_size * tokens**2
        tower = 2 * size.vision.parameters * 4 * 1280 * 2
        expected = 2 * samples * (weights + attention + tower) / (plan.gpu_tflops * 1e12 * plan.mfu_training) / 3600
        assert cost(paper, self.train()).gpu_hours == pytest.approx(expected)

    def test_twice_the_mfu_is_half_the_hours(self, paper):
        faster = paper.model_copy(
            update={"planning": paper.planning.model_copy(update={"mfu_training": 2 * paper.planning.mfu_training})}
        )
        assert cost(faster, self.train()).gpu_hours == pytest.approx(cost(paper, self.train()).gpu_hours / 2)

    def test_mixed_arms_are_counted_as_they_were_mixed(self, paper, tmp_path):
        settings = placed(paper, tmp_path)
        sheet = tmp_path / "build" / "mixtures" / "datasheet.csv"
        sheet.parent.mkdir(parents=True)
        sheet.write_text("arm,source,kind,samples\nmirage,mis_train,safety,100\n", encoding="utf-8")
        assert cost(settings, self.train()).gpu_hours == pytest.approx(cost(paper, self.train()).gpu_hours * 100 / 4427)

    def test_an_unknown_price_is_unknown_and_a_known_one_counts(self, paper):
        job = Job(0, "respond", {"model": "gpt_4o", "arm": "base", "seed": "0", "suite": "mis"})
        bill = cost(paper, job)
        assert "money" in bill.unknown and bill.keys == ("OPENAI_API_KEY",) and bill.requests == 2285
        served = paper.models["gpt_4o"].served.model_copy(update={"price_input": 2.0, "price_output": 10.0})
        model = paper.models["gpt_4o"].model_copy(update={"served": served})
        priced = paper.model_copy(update={"models": paper.models | {"gpt_4o": model}})
        bill = cost(priced, job)
        assert "money" not in bill.unknown
        assert bill.money == pytest.approx((2 * bill.input_tokens + 10 * bill.output_tokens) / 1e6)

    def test_a_server_without_a_key_is_ones_own_and_costs_gpu_hours(self, paper):
        bill = cost(paper, Job(0, "respond", {"model": "qwen2_vl_72b", "arm": "base", "seed": "0", "suite": "mis"}))
        assert bill.gpu_hours > 0 and not bill.money and not bill.unknown and not bill.keys

    def test_ways_of_asking_take_their_turns(self, paper):
        def requests(arm: str) -> float:
            wildcards = {"model": "qwen2_vl_72b", "arm": arm, "seed": "0", "suite": "mis"}
            return cost(paper, Job(0, "respond", wildcards)).requests

        assert [requests(arm) / 2285 for arm in ("base", "vanilla_cot", "customized_cot")] == [1, 1, 2]

    def test_judges_see_pictures_where_their_form_says_so_and_choices_cost_nothing(self, paper):
        def judged(suite: str) -> Cost:
            return cost(paper, Job(0, "judge_suite", {"model": "gpt_4o", "arm": "base", "seed": "0", "suite": suite}))

        suites = paper.evaluation.suites | {"mmstar": ["mmstar"]}
        evaluation = paper.evaluation.model_copy(update={"suites": suites})
        choices = paper.model_copy(update={"evaluation": evaluation})
        wildcards = {"model": "gpt_4o", "arm": "base", "seed": "0", "suite": "mmstar"}
        assert cost(choices, Job(0, "judge_suite", wildcards)) == judged("advbench_suffix") == Cost()
        text = paper.planning.judge_tokens + paper.planning.prompt_tokens + paper.planning.answer_tokens
        assert judged("mis").input_tokens == 2285 * (text + 2 * 765)
        assert judged("figstep").money == 0 and judged("figstep").gpu_hours > 0  # LlamaGuard on a server of ours

    def test_sums_keep_what_is_unknown(self):
        whole = total([Cost(gpus=1, memory=5, gpu_hours=2), Cost(gpus=8, memory=3).lacking("a price", "money")])
        assert (whole.gpus, whole.memory, whole.gpu_hours) == (8, 5, 2)
        assert whole.unknown == {"money"} and whole.why == ("a price",)


class TestPlan:
    jobs = (
        Job(0, "fetch_base", {"model": "qwen2_vl_7b"}, cached=True),
        Job(1, "train_arm", {"model": "qwen2_vl_7b", "arm": "mirage", "seed": "0"}, (0,), gpus=8),
        Job(2, "respond", {"model": "qwen2_vl_7b", "arm": "mirage", "seed": "0", "suite": "mis"}, (1,), gpus=1),
        Job(3, "respond", {"model": "gpt_4o", "arm": "base", "seed": "0", "suite": "mis"}),
        Job(4, "make_table", {"number": "4"}, (2, 3)),
        Job(5, "make_table", {"number": "15"}, (2,)),
        Job(6, "all", {}, (4, 5)),
    )

    def test_done_jobs_cost_nothing_and_shared_jobs_count_once(self, paper):
        plan = make_plan(paper, self.jobs)
        assert (plan.total.jobs, plan.total.cached, plan.total.cost.disk) == (7, 1, cost(paper, self.jobs[1]).disk)
        by_name = {row.name: row.cost for row in plan.targets}
        assert list(by_name) == ["table4", "table15"]
        assert by_name["table15"].gpu_hours == pytest.approx(plan.total.cost.gpu_hours)
        assert "money" in by_name["table4"].unknown and "money" not in by_name["table15"].unknown

    def test_json_has_null_for_what_is_unknown(self, paper):
        data = json.loads(json.dumps(to_json(make_plan(paper, self.jobs), paper)))
        assert data["total"]["money"] is None and data["total"]["at_least"] == {"money": 0}
        assert data["total"]["gpu_hours"] > 0 and data["total"]["keys"] == ["OPENAI_API_KEY"]
        assert any("prices of gpt-4o" in why for why in data["total"]["unknown"])

    def test_the_table_says_unknown_and_what_is_missing(self, paper):
        text = to_text(make_plan(paper, self.jobs), paper)
        assert "unknown" in text and "the prices of gpt-4o" in text and "OPENAI_API_KEY" in text
        assert max(map(len, text.split("\n\nAssumed")[0].splitlines())) < 160


class TestNeeds:
    def test_table_4_needs_its_own_rows_on_mis_alone(self, paper):
        needs = needed(paper, "table4")
        assert {name for *_, name in needs} == {"mis/easy", "mis/hard", "mis/real"}
        pairs = {pair[:2] for pair in needs}
        assert ("gpt_4o", "base") in pairs and ("internvl2_5_8b", "mirage") in pairs
        assert ("internvl2_5_8b", "textual_sft") not in pairs

    def test_small_tables_and_times_need_no_answers(self, paper):
        assert [needed(paper, f"table{number}") for number in ("3", "7", "10", "18", "19")] == [[]] * 5

    def test_cuts_and_means_need_the_benchmarks_behind_them(self, paper):
        assert {name for *_, name in needed(paper, "figure5")} == {"mis/easy", "mis/hard", "vlsbench", "mm_safetybench"}
        assert {name for *_, name in needed(paper, "table6")} == {"q_bench", "mmstar", "mmmu", "muirbench", "mmt_bench"}

    def test_case_figures_need_the_answers_that_they_show(self, paper):
        assert needed(paper, "figure6") == [
            ("internvl2_5_8b", "base", "mssbench/safe"),
            ("internvl2_5_8b", "vlguard_p", "mssbench/safe"),
        ]


class TestGraph:
    """The paper's own graph, as Snakemake plans it."""

    def plan(self, snakemake, folder, root, *targets: str) -> tuple[dict[str, int], str]:
        done = snakemake(folder, "--dry-run", "--quiet", "rules", "--configfile", str(root / "config" / "paper.yaml"),
                         "--", *targets)  # fmt: skip
        assert done.code == 0, done.text[-3000:]
        stats = done.text.split("Job stats:")[1].split("\n\n")[0]
        jobs = {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", stats, re.MULTILINE)}
        return jobs, done.text

    def test_table_4_plans_its_rows_and_says_what_they_cost(self, snakemake, tmp_path, root, paper):
        jobs, text = self.plan(snakemake, tmp_path, root, "table4")
        pairs = {need[:2] for need in needed(paper, "table4")}
        assert jobs["respond"] == jobs["judge_suite"] == len(pairs) == 16
        assert jobs["train_arm"] == 3 and jobs["mix_arms"] == 1  # mirage, on the models that it is shown for
        assert jobs["fetch_base"] == 4 and jobs["score_artifact"] == jobs["make_table"] == 1
        assert "world" not in " ".join(jobs) and "score" not in jobs
        table = text.split("What this run costs, by step")[1]
        row = next(line for line in table.splitlines() if line.startswith("train_arm internvl2_5_8b"))
        assert row.split()[2:4] == ["1", "8"]  # a job, eight GPUs
        assert "the prices of gpt-4o-2024-08-06" in table and "OPENAI_API_KEY" in table

    def test_the_whole_paper_can_be_planned(self, snakemake, tmp_path, root, paper):
        jobs, text = self.plan(snakemake, tmp_path, root, "all")
        trained = sum(arm in paper.training.arms for model in paper.models for arm in paper.arms_of(model))
        assert jobs["train_arm"] == trained == 24
        assert jobs["score_artifact"] >= 15 and jobs["judge_claims"] == 1
        by_target = text.split("By target")[1]
        assert all(re.search(rf"^{name} +\d", by_target, re.MULTILINE) for name in ("table1", "table4", "figure4"))

    def test_the_command_gives_the_same_as_data(self, root, tmp_path):
        command = [sys.executable, "-m", "mis", "plan", "table17", "table3", "--json"]
        command += ["--config", str(root / "config" / "paper.yaml")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        data = json.loads(done.stdout)
        assert [target["name"] for target in data["targets"]] == ["table3", "table17"]
        assert data["total"]["gpus"] == 8 and data["total"]["memory_bytes_per_gpu"] < 80 * GIB
        assert data["total"]["cached"] == 0 and not [path for path in tmp_path.iterdir() if path.name != ".snakemake"]

    def test_an_unknown_target_is_named(self, root, tmp_path):
        with pytest.raises(MisError, match="unknown target 'table99'"):
            planned_jobs(root / "config" / "paper.yaml", ["table99"])
