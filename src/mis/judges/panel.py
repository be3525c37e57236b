"""Who sits on a run's panel: the judges of the configuration, with the clients that reach them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from pydantic import ValidationError

from mis import layout, serving
from mis import settings as settings_module
from mis.benchmarks import Benchmark
from mis.errors import MisError
from mis.judges.asking import Client, Seat
from mis.judges.guard import GuardJudge
from mis.judges.refusal import RefusalJudge
from mis.judges.rubric import RubricJudge
from mis.models.remote import ChatClient
from mis.settings import Endpoint, Served, Settings

Panel = Callable[[Benchmark], Seat | None]


def seat(name: str, settings: Settings, stack: ExitStack) -> Seat:
    """One judge of the configuration; `stack` closes its client. Its server must be up if a service serves it."""
    config = settings.judges[name]
    if config.kind == "refusal":
        return Seat(name, RefusalJudge(config.phrases))
    whole = config.truncated == "whole"
    if config.kind == "guard":
        judge = GuardJudge(max_tokens=config.max_tokens, templates=config.templates, whole=whole)
    else:
        judge = RubricJudge(rubrics=config.rubrics, images=config.images, whole=whole)
    client = stack.enter_context(_client(name, settings))
    return Seat(f"{name}:{client.name}", judge, client)


@contextmanager
def _client(name: str, settings: Settings) -> Iterator[Client]:
    config, cache = settings.judges[name], layout.request_cache(settings)
    if config.served is None:
        from mis.models.text_chat import LocalChat

        yield LocalChat(config.source, batch_size=config.batch_size)
        return
    served, endpoint = config.served, settings.endpoints.get(config.served.endpoint)
    if config.service:
        endpoint, called = serving.wait_for(settings, serving.judge_file(settings, name), config.service)
        served = served.model_copy(update={"name": called})
    with ChatClient.of(served, endpoint, cache) as client:
        yield client


@contextmanager
def panel(settings: Settings, only: str = "") -> Iterator[Panel]:
    """Benchmark -> its judge, as benchmarks.py declares it; with `only`, that judge for every open benchmark.

    A judge's client is made when the first benchmark asks for it, so that a key that is not needed need not be there.
    """
    with ExitStack() as stack:
        seats: dict[str, Seat] = {}

        def seat_of(benchmark: Benchmark) -> Seat | None:
            name = only or benchmark.judge
            if settings.judges[name].kind == "refusal" and benchmark.task != "hazard":
                return None
            if name not in seats:
                seats[name] = seat(name, settings, stack)
            return seats[name]

        yield seat_of


def with_judge(
    settings: Settings, name: str, url: str | None, key_env: str | None, model: str | None, concurrency: int
) -> Settings:
    """The settings with the judge `name` (rubric, guard, refusal) behind `url`; what they say of it otherwise stands.

    Raises :class:`MisError` if something is missing or the name is unknown.
    """
    kinds = {"rubric": settings_module.RubricJudge, "guard": settings_module.GuardJudge}
    if name == "refusal":
        judge = settings.judges.get(name) or settings_module.RefusalJudge(kind=name)
        return settings.model_copy(update={"judges": {name: judge}})
    if name not in kinds:
        raise MisError(f"no judge {name!r}; there is: rubric, guard, refusal")
    if not url or not model:
        raise MisError(f"the judge {name} is asked at an endpoint: give --endpoint URL and --model NAME")
    try:
        endpoint = Endpoint(url=url, key_env=key_env, concurrency=concurrency)
    except ValidationError as error:
        raise MisError(f"--endpoint {url}: {error.errors()[0]['msg']}") from None
    own = settings.judges[name].model_dump() if name in settings.judges else {"kind": name}
    own |= {"served": Served(endpoint="given", name=model).model_dump(), "service": None, "source": None}
    update = {"judges": {name: kinds[name](**own)}, "endpoints": {"given": endpoint}}
    return settings.model_copy(update=update)
