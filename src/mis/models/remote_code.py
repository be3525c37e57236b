"""A checkpoint whose network is Python code of its own (`family: remote`), such as MiniCPM-V 2.6: it only answers.

That code runs here, with all that the user may do. It is loaded only from the folder that `mis model fetch` wrote,
whose commit the configuration names because somebody has read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from mis.errors import MisError
from mis.models import Answer
from mis.models.features import open_pictures
from mis.prompts import user_text
from mis.samples import Sample
from mis.settings import Hub, Settings


class RemoteCodeModel:
    """Answers through the network's own `chat(image=None, msgs=..., tokenizer=...)`, as MiniCPM-V documents it.

    `msgs` is one user turn whose content is the pictures and then the question; decoding is greedy. The interface gives
    a text alone: where it ended is not known, and every answer counts as finished.
    """

    def __init__(self, folder: Path, settings: Settings, model_name: str):
        source = settings.models[model_name].source
        if not (isinstance(source, Hub) and source.remote_code and source.revision):
            raise MisError(
                f"models.{model_name}: Python code of a checkpoint runs only with `remote_code` and `revision`"
            )
        from transformers import AutoModel, AutoTokenizer

        torch.set_num_threads(settings.evaluation.threads)
        dtype = torch.bfloat16 if settings.evaluation.precision == "bf16" else torch.float32
        try:
            self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=True)
            self.model = AutoModel.from_pretrained(folder, trust_remote_code=True, use_safetensors=True, dtype=dtype)
        except (AttributeError, ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise MisError(
                f"{folder}: its own code does not run with this version of transformers ({reason}); let a server "
                "answer with it (`served`)"
            ) from error
        if not callable(getattr(self.model, "chat", None)):
            raise MisError(f"{folder}: its network has no `chat`; let a server answer with it (`served`)")
        self.model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
        self.max_new_tokens = settings.max_new_tokens_of(model_name)

    @torch.no_grad()
    def answer(self, samples: Sequence[Sample]) -> list[Answer]:
        return [Answer(self._chat(sample)) for sample in samples]

    def _chat(self, sample: Sample) -> str:
        content = [*open_pictures(sample.images), user_text(sample)]
        return self.model.chat(
            image=None,
            msgs=[{"role": "user", "content": content}],
            tokenizer=self.tokenizer,
            sampling=False,
            max_new_tokens=self.max_new_tokens,
        )
