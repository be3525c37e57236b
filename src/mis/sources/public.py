"""Where each public dataset comes from, as data: repositories, the files that the loaders read, archives, licences.

A `licence` is the one that the named place states, "" where none was read. Revisions are not named here: the first
download writes the commit, and the sizes and checksums of all files, into the lock (`mis.data.lock`).
"""

from __future__ import annotations

from dataclasses import dataclass

from mis.sources import advbench, conversations, figstep, jailbreakv, mmstar, mmt_bench


@dataclass(frozen=True)
class Named:
    """Pictures that a table names: the files in `column` of the CSV file `table`, each below `folder`."""

    table: str
    column: str
    folder: str


@dataclass(frozen=True)
class Origin:
    """One repository. `files` are patterns of its paths (`*` stops at a slash, `**` does not).

    `host` is "hub" (a dataset on the Hugging Face hub) or "github". `cut` is taken off the front of a path. `unpack`
    are (pattern, folder) pairs of archives: what is in them lies in that folder of the dataset ("{stem}" is the
    archive's own name; "" is the dataset's folder), whether or not the archive repeats its name.
    """

    host: str
    repository: str
    files: tuple[str, ...]
    without: tuple[str, ...] = ()
    cut: str = ""
    unpack: tuple[tuple[str, str], ...] = ()
    named: Named | None = None


@dataclass(frozen=True)
class ByHand:
    """Files that no client can fetch: where they go and what to do. `count` is how many belong there."""

    files: str
    count: int
    todo: str


@dataclass(frozen=True)
class Public:
    """One dataset below the data root. `gated`: the hub wants its terms accepted by the user first."""

    name: str
    origins: tuple[Origin, ...]
    licence: str = ""
    gated: bool = False
    by_hand: tuple[ByHand, ...] = ()
    note: str = ""


def _hub(repository: str, *files: str, **more) -> Origin:
    return Origin("hub", repository, files, **more)


def _github(repository: str, *files: str, **more) -> Origin:
    return Origin("github", repository, files, **more)


DATASETS: dict[str, Public] = {
    dataset.name: dataset
    for dataset in (
        # Training sources
        Public(
            "mis_train",
            (_hub("Tuwhy/MIS_Train", conversations.MIS_FILE, "images.zip", unpack=(("images.zip", ""),)),),
            "apache-2.0",
        ),
        Public(
            "vlguard",
            (_hub("ys-zong/VLGuard", "train.json", "train.zip", unpack=(("train.zip", "train"),)),),
            gated=True,
        ),
        Public("saferlhf", (_hub("PKU-Alignment/PKU-SafeRLHF", "data/*/train.jsonl"),), "cc-by-nc-4.0"),
        Public(
            "m4_instruct",
            (
                _hub(
                    "lmms-lab/M4-Instruct-Data",
                    conversations.M4_FILE,
                    "*.zip",
                    without=("dreamsim_split.zip",),
                    unpack=(("*.zip", "{stem}"),),
                ),
            ),
            "cc-by-4.0, and OpenAI's terms of use",
            note="dreamsim_split.z01 and .zip are one archive, which Python cannot unpack: its rows are left out",
        ),
        # Benchmarks
        Public(
            "mis",
            (_hub("Tuwhy/MIS_Test", "mis_*.json", "*_image/**", "*.zip", unpack=(("*.zip", ""),)),),
            "apache-2.0",
        ),
        Public(
            "figstep",
            (_github("ThuCCSLab/FigStep", str(figstep.QUESTIONS), f"{figstep.IMAGES}/*.png"),),
            "MIT",
        ),
        Public(
            "mm_safetybench",
            (_github("isXinLiu/MM-SafetyBench", "data/processed_questions/*.json", cut="data/"),),
            by_hand=(
                ByHand(
                    "imgs/*/SD_TYPO/*.jpg",
                    1680,
                    "load the pictures from the address in the project's README (Google Drive), unpack them to imgs/",
                ),
            ),
        ),
        Public(
            "jailbreakv",
            (
                _hub(
                    "JailbreakV-28K/JailBreakV-28k",
                    f"{jailbreakv.FOLDER}/{jailbreakv.TABLE}",
                    named=Named(f"{jailbreakv.FOLDER}/{jailbreakv.TABLE}", "image_path", f"{jailbreakv.FOLDER}/"),
                ),
            ),
            "mit",
            gated=True,
        ),
        Public(
            "vlsbench",
            (_hub("Foreshhh/vlsbench", "data.json", "imgs.tar", unpack=(("imgs.tar", "imgs"),)),),
            "apache-2.0",
        ),
        Public(
            "siuo",
            (_github("sinwang20/SIUO", "data/siuo_gen.json"),),
            by_hand=(
                ByHand(
                    "data/images/*",
                    167,
                    "load SIUO-images.zip from the address in the project's README (Google Drive) and unpack it to "
                    "data/images/",
                ),
            ),
        ),
        Public("mssbench", (_hub("kzhou35/mssbench", "combined.json", "chat/**"),), "MIT"),
        Public("mossbench", (_github("xirui-li/MOSSBench", "information.csv", "images/*"),), "CC BY-SA 4.0"),
        Public(
            "advbench",
            (_github("llm-attacks/llm-attacks", f"{advbench.FOLDER}/harmful_behaviors.csv"),),
            by_hand=(ByHand(f"{advbench.FOLDER}/suffix.txt", 1, "write the adversarial suffix that you test there"),),
        ),
        Public("q_bench", (_hub("q-future/Q-Bench-HF", "data/test-*.parquet"),)),
        Public("mmstar", (_hub("Lin-Chen/MMStar", mmstar.TABLE),)),
        Public("mmmu", (_hub("MMMU/MMMU", "*/validation-*.parquet"),)),
        Public("muirbench", (_hub("MUIRBENCH/MUIRBENCH", "data/test-*.parquet"),), "cc-by-4.0"),
        Public("mmt_bench", (_hub("OpenGVLab/MMT-Bench", mmt_bench.TABLE),), "cc-by-4.0"),
    )
}
# Made here from other datasets (`mis data benign`), so not fetched.
OURS = ("benign_control", "benign_pairs")
