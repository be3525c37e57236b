"""Who answers for an arm: a checkpoint on this machine, a server that was started for it, or a model served elsewhere.

With that, what `mis respond` does: the suite of a run, or one benchmark by any endpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mis import layout
from mis.benchmarks import BY_ID
from mis.errors import MisError
from mis.mixtures import ARMS
from mis.models import AnsweringModel, checkpoint_identity
from mis.responding import Summary, respond
from mis.settings import Endpoint, Served, Settings

MAX_TOKENS = 1024  # of an answer: the paper's evaluation


@dataclass(frozen=True)
class Answerer:
    """`identity` is what decides an answer beside the sample; `concurrency` as in :func:`mis.responding.respond`."""

    model: AnsweringModel
    identity: str
    concurrency: int = 0


@contextmanager
def answerer(settings: Settings, model: str, arm: str, seed: int) -> Iterator[Answerer]:
    """The model of an arm, asked in the arm's way."""
    from mis.models import prompting

    with _weights(settings, model, arm, seed) as base:
        way, prompts = ARMS[arm].asks, settings.evaluation.prompts
        if not way:
            yield base
            return
        identity = f"{base.identity} {prompting.identity(way, prompts)}"
        yield Answerer(prompting.asking(way, base.model, prompts), identity, base.concurrency)


@contextmanager
def _weights(settings: Settings, model: str, arm: str, seed: int) -> Iterator[Answerer]:
    served, tokens = settings.models[model].served, settings.max_new_tokens_of(model)
    cache = layout.request_cache(settings)
    if served is not None:
        with remote(served, settings.endpoints[served.endpoint], cache, tokens) as found:
            yield found
        return
    folder = layout.checkpoint(settings, model, seed, arm)
    identity = checkpoint_identity(folder)
    service = settings.evaluation.service
    if service is not None:
        from mis import serving

        endpoint, name = serving.wait_for(settings, serving.arm_file(settings, model, seed, arm), service)
        asked = settings.models[model]
        # How its server cuts pictures decides an answer too.
        revision = " ".join([identity, *asked.serve_with])
        here = Served(endpoint=service, name=name, revision=revision, image_text=asked.image_text)
        with remote(here, endpoint, cache, tokens) as found:
            yield found
        return
    identity = f"{identity} greedy max_new_tokens={tokens}"
    if settings.models[model].family == "remote":
        from mis.models.remote_code import RemoteCodeModel

        yield Answerer(RemoteCodeModel(folder, settings, model), identity)
        return
    from mis.models.local import LocalModel

    yield Answerer(LocalModel(folder, settings, seed, model), identity)


@contextmanager
def remote(served: Served, endpoint: Endpoint, cache: Path | None, max_tokens: int) -> Iterator[Answerer]:
    """A model behind an endpoint; what is in flight is cancelled at the end."""
    from mis.models.remote import ChatClient, RemoteModel

    with ChatClient.of(served, endpoint, cache) as client:
        model = RemoteModel(client, served, max_tokens)
        yield Answerer(model, model.identity, endpoint.concurrency)


def respond_suite(settings: Settings, suite: str, arm: str, model: str, seed: int) -> tuple[Path, Summary]:
    """Every sample of a suite's benchmarks, by an arm; the responses' file and what was done."""
    from mis.suites import load_samples

    with answerer(settings, model, arm, seed) as found:
        samples = load_samples(settings, settings.evaluation.suites[suite])
        out = layout.responses(settings, model, seed, arm, suite)
        return out, respond(
            samples, found.model, out, model_name=model, arm=arm, seed=seed, identity=found.identity,
            batch_size=settings.evaluation.batch_size, concurrency=found.concurrency,
        )  # fmt: skip


def respond_benchmark(
    benchmark: str,
    root: Path,
    endpoint: Endpoint,
    model: str,
    out: Path,
    *,
    limit: int | None = None,
    max_tokens: int = MAX_TOKENS,
    system: str = "",
) -> Summary:
    """One benchmark by any endpoint, without a configuration; its rows say arm "base" and seed 0.

    `root` is the benchmark's own folder, or one that holds it under its name. The request cache lies beside `out`.
    """
    if benchmark not in BY_ID:
        near = [name for name in BY_ID if name.startswith(f"{benchmark}/")]
        raise MisError(f"unknown benchmark {benchmark!r}; known: {', '.join(near or BY_ID)}")
    from mis.sources import load_folder

    known = BY_ID[benchmark]
    samples = load_folder(root / known.source if (root / known.source).is_dir() else root, known)
    served = Served(endpoint=endpoint.url, name=model, system=system)
    with remote(served, endpoint, out.parent / ".requests", max_tokens) as found:
        return respond(
            samples[:limit], found.model, out, model_name=model, arm="base", seed=0, identity=found.identity,
            concurrency=found.concurrency,
        )  # fmt: skip
