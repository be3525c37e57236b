"""The samples that still stand in a step, and why the others do not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from mis.construction.participants import NoAnswer
from mis.construction.records import Dropped, Record


class HasId(Protocol):
    @property
    def id(self) -> str: ...


S = TypeVar("S", bound=HasId)


class Standing(Generic[S]):
    """Samples by id, in order. Iterating is safe while samples are dropped."""

    def __init__(self, samples: Sequence[S]):
        self._order = [sample.id for sample in samples]
        self._samples = {sample.id: sample for sample in samples}
        self._dropped: dict[str, Dropped] = {}

    def __iter__(self) -> Iterator[S]:
        return iter(list(self._samples.values()))

    def drop(self, id: str, reason: str, **known: Any) -> None:
        del self._samples[id]
        self._dropped[id] = Dropped(id=id, dropped=reason, known=known)

    def ask(
        self, method: Callable[..., Sequence[Any]], *columns: Mapping[str, Any], among: Collection[str] | None = None
    ) -> dict[str, Any]:
        """The usable answers of `method` by id; it gets the standing samples and, in their order, `columns`.

        `among` restricts the question to some of them. Who got no usable answer is dropped. An answer too many or too
        few is the participant's error (ValueError).
        """
        ids = [id for id in self._samples if among is None or id in among]
        answers = method([self._samples[id] for id in ids], *([column[id] for id in ids] for column in columns))
        usable = {}
        for id, answer in zip(ids, answers, strict=True):
            if isinstance(answer, NoAnswer):
                self.drop(id, answer.reason)
            else:
                usable[id] = answer
        return usable

    def rows(self, record: Callable[[S], Record]) -> list[Record]:
        """One row a sample of the beginning, in its order: `record` of it if it stands, else why it was dropped."""
        return [record(self._samples[id]) if id in self._samples else self._dropped[id] for id in self._order]
