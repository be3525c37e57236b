"""Croissant metadata (MLCommons, version 1.0): what the files are and what their columns hold.

The vocabulary is the standard's (docs.mlcommons.org/croissant/docs/croissant-spec.html); the tests validate what is
written here with `mlcroissant`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mis.report.release.card import DESCRIPTION, licence, name
from mis.report.release.parquet import Shard
from mis.report.release.rows import Construction
from mis.store import write_text_atomic

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
TEXTS = {
    "id": "Split and number.",
    "question": "The final, neutral text.",
    "category": "One of the six categories of MIS.",
    "sub_category": "One of its 14 sub-categories.",
    "perception": "First part of the safety chain of thought; empty outside of train.",
    "reasoning": "Second part.",
    "answer": "Third part: the safe answer.",
}
PICTURES = {"image_1": "The first picture.", "image_2": "The second picture."}


def write_croissant(folder: Path, construction: Construction, files: Mapping[str, Sequence[Shard]]) -> None:
    """Writes `croissant.json`. A record set for each file: "train", or "train-00000" where a split has several."""
    distribution, sets = [], []
    for split, shards in files.items():
        for number, shard in enumerate(shards):
            label = split if len(shards) == 1 else f"{split}-{number:05d}"
            distribution.append(
                {
                    "@type": "cr:FileObject",
                    "@id": f"{label}-file",
                    "name": f"{label}-file",
                    "description": f"{shard.rows} samples of the split {split}.",
                    "contentUrl": shard.name,
                    "contentSize": f"{shard.bytes} B",
                    "encodingFormat": "application/x-parquet",
                    "sha256": shard.sha256,
                }
            )
            sets.append(
                {
                    "@type": "cr:RecordSet",
                    "@id": label,
                    "name": label,
                    "description": f"Samples of the split {split}: two pictures and a question.",
                    "key": {"@id": f"{label}/id"},
                    "field": [
                        *(_field(label, column, text, "sc:Text") for column, text in TEXTS.items()),
                        *(_field(label, column, text, "sc:ImageObject", "bytes") for column, text in PICTURES.items()),
                    ],
                }
            )
    metadata = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": name(construction),
        "description": DESCRIPTION,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": licence(construction).url,
        "url": ".",
        "version": "1.0.0",
        "citeAs": "@inproceedings{ding2026iclr-rethinking}",
        "keywords": ["safety", "vision language models", "red teaming"],
        "isLiveDataset": False,
        "rai:dataCollection": "Constructed by models and checked as the dataset card says.",
        "rai:personalSensitiveInformation": "None is meant to be in it; annotators are numbered.",
        "distribution": distribution,
        "recordSet": sets,
    }
    write_text_atomic(folder / "croissant.json", json.dumps(metadata, indent=2, ensure_ascii=False) + "\n")


def _field(label: str, column: str, description: str, kind: str, inner: str | None = None) -> dict[str, Any]:
    source: dict[str, Any] = {"fileObject": {"@id": f"{label}-file"}, "extract": {"column": column}}
    if inner:
        source["transform"] = {"jsonPath": inner}
    return {
        "@type": "cr:Field",
        "@id": f"{label}/{column}",
        "name": f"{label}/{column}",
        "description": description,
        "dataType": kind,
        "source": source,
    }
