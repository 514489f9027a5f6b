"""What goes wrong while something is read, in the user's terms."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from itertools import chain

import pyarrow as pa

from minestream.errors import InputError, MinestreamError, TransientError
from minestream.remote import is_remote, known_failure

READ_ERRORS = (pa.ArrowException, OSError, UnicodeError)
_TRANSIENT = {errno.EIO, errno.ETIMEDOUT, errno.ESTALE, errno.ECONNRESET}

_REASONS = {
    FileNotFoundError: ("does not exist", "check the path"),
    PermissionError: ("may not be read (permission denied)", "check the permissions"),
    UnicodeEncodeError: ("has a name that is no UTF-8", "rename it"),
}


_TO_PARQUET = (
    "convert it: import pyarrow.{kind}, pyarrow.parquet; pyarrow.parquet.write_table(pyarrow.{read}, {{out!r}})"
)
_ARRAYS = "numpy.save its vectors for --vectors, with labels and ids in a Parquet file; or use minestream.mine_arrays"
# Files of other kinds, by their first bytes or by suffix: how their rows can be brought. What follows "it: " runs.
_KINDS: tuple[tuple[tuple[bytes, ...], tuple[str, ...], str], ...] = (
    ((), (".manifest.json",), "the manifest of a mined output: minestream describe, verify and export take it"),
    ((b"\x93NUMPY",), (".npy",), "give it as --vectors, beside a Parquet file of labels and ids"),
    ((), (".npz",), f"an archive of arrays: {_ARRAYS}"),
    ((), (".csv", ".csv.gz"), _TO_PARQUET.format(kind="csv", read="csv.read_csv({path!r})")),
    ((), (".tsv", ".tab"), _TO_PARQUET.format(
        kind="csv", read="csv.read_csv({path!r}, parse_options=pyarrow.csv.ParseOptions(delimiter='\\t'))")),
    ((), (".jsonl", ".ndjson", ".json"), _TO_PARQUET.format(kind="json", read="json.read_json({path!r})")),
    ((b"ORC",), (".orc",), _TO_PARQUET.format(kind="orc", read="orc.read_table({path!r})")),
    ((b"\x89HDF\r\n\x1a\n",), (".h5", ".hdf5"), f"read its arrays with h5py; {_ARRAYS}"),
    ((b"IxF", b"IwF", b"IxP", b"IxM", b"IHN"), (".faiss", ".index"),
     f"an index, which may hold codes only: bring the vectors that it was made of; {_ARRAYS}"),
    ((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), (".pkl", ".pickle", ".joblib"),
     f"a pickle runs code when it is read: read it yourself if you trust it; {_ARRAYS}"),
    ((), (".pt", ".pth", ".safetensors", ".mat"), f"read its tensors; {_ARRAYS}"),
    ((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"PK\3\4"), (".gz", ".zst", ".bz2", ".zip", ".xz", ".lz4"),
     "unpack it: Parquet and Arrow files are packed inside"),
)  # fmt: skip


def how_to_bring(path: str, head: bytes = b"") -> str:
    """The hint for a file that is neither Parquet nor Arrow IPC, of which `head` are the first bytes."""
    name, stem = path.lower(), path[: len(path) - len(os.path.splitext(path)[1])]
    by_name = (hint for _, suffixes, hint in _KINDS if name.endswith(suffixes))
    by_magic = (hint for magics, _, hint in _KINDS if magics and head.startswith(magics))
    return next(chain(by_name, by_magic), "write it as Parquet first").format(path=path, out=f"{stem}.parquet")


def unreadable(name: str, error: BaseException) -> MinestreamError:
    """`error`, met while reading `name`, in the user's terms."""
    of_store = known_failure(name, error) if is_remote(name) else None
    if of_store is not None:
        return of_store
    for kind, (what, hint) in _REASONS.items():
        if isinstance(error, kind):
            return InputError(f"{name}: {what}", hint)
    detail = " ".join(str(error).split())[:200]
    if isinstance(error, OSError) and error.errno in _TRANSIENT:
        return TransientError(f"{name}: reading failed: {detail}", "this may pass: try again")
    return InputError(f"{name}: unreadable or truncated: {detail}", "write or fetch the file again")


def output_as_input(name: str, metadata: Mapping[bytes, bytes]) -> InputError:
    """What to say of an input that is an output, with what it came from."""
    try:
        about = {key: json.loads(metadata[b"minestream." + key]) for key in (b"config", b"source")}
        emit, names = about[b"config"]["emit"], [entry["name"] for entry in about[b"source"] if not entry.get("role")]
    except (KeyError, TypeError, ValueError):
        emit, names = "rows", []
    came = f", {', '.join(map(str, names[:3]))}" if names else ""
    return InputError(
        f"{name}: mined {emit}, written by minestream: an output, no embeddings",
        f"to mine again give what it came from{came}; minestream describe, verify, export and refilter take this",
    )
