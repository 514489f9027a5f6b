"""Errors of ours that are OSErrors too pass whoever turns OSErrors into errors of ours."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from minestream.errors import MinestreamError, OutputError, TransientError
from minestream.inputs import files, pairs
from minestream.outputs.atomic import disk_errors
from minestream.outputs.foreign import is_ours
from minestream.outputs.manifest import read_json
from minestream.outputs.mined import reading
from minestream.system.paths import RemotePath
from minestream.system.pipes import write_pipe
from minestream.system.stores import retried

KINDS = [OutputError, TransientError]
TEXT = "the store does not answer: HTTP status 503"  # as the words by which a failure is known to pass


class Refusing:
    """A file, table or place where whatever is done raises one error."""

    def __init__(self, error: MinestreamError) -> None:
        self._error = error

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def refuse(*_: object, **__: object) -> Any:
            raise self._error

        return refuse


def _within(context: Any, error: MinestreamError) -> None:
    with context:
        raise error


def _stamped(error: MinestreamError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "stamp_of", Refusing(error).refuse)
    files.open_inputs("digits.parquet")


def _object(error: MinestreamError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_open_object", Refusing(error).refuse)
    files.open_inputs(pa.table({"x": [1]}))


def _rows(error: MinestreamError, _: pytest.MonkeyPatch) -> None:
    list(files.Input("x", pa.schema([]), None, Refusing(error).refuse).read([], 1))


def _text(error: MinestreamError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "open_text", Refusing(error).refuse)
    pairs.read_text_table("qrels.tsv")


def _piped(error: MinestreamError, _: pytest.MonkeyPatch) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        raise error
        yield

    write_pipe(pa.RecordBatchReader.from_batches(pa.schema([]), batches()), lambda: None, io.BytesIO())


def _remote(error: MinestreamError, _: pytest.MonkeyPatch) -> None:
    RemotePath("s3://bucket/x", Refusing(error), "bucket/x").exists()


MET: dict[str, Callable[[Any, pytest.MonkeyPatch], object]] = {
    "disk_errors": lambda error, _: _within(disk_errors(Path("x")), error),
    "reading": lambda error, _: _within(reading(Path("x"), OutputError), error),
    "is_ours": lambda error, _: is_ours(Refusing(error)),  # type: ignore[arg-type]
    "read_json": lambda error, _: read_json(Refusing(error)),  # type: ignore[arg-type]
    "open_inputs of a file": _stamped,
    "open_inputs of a table": _object,
    "Input.read": _rows,
    "read_text_table": _text,
    "write_pipe": _piped,
    "RemotePath": _remote,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", MET)
def test_ours_pass_as_they_are(place: str, kind: type[MinestreamError], monkeypatch: pytest.MonkeyPatch) -> None:
    error = kind(TEXT, "try again")
    with pytest.raises(kind) as met:
        MET[place](error, monkeypatch)
    assert met.value is error
    assert met.value.__cause__ is None


@pytest.mark.parametrize("kind", KINDS)
def test_ours_are_not_tried_again(kind: type[MinestreamError]) -> None:
    tried = []

    def work() -> None:
        tried.append(1)
        raise kind(TEXT)

    with pytest.raises(kind):
        retried(work)
    assert len(tried) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_os_errors_without_a_number(kind: type[MinestreamError]) -> None:
    error = kind("what", "do this")
    assert isinstance(error, OSError)
    assert (error.errno, error.strerror) == (None, None)
    assert (error.message, error.hint, str(error)) == ("what", "do this", "what\ndo this")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.args) == (kind, error.args)
