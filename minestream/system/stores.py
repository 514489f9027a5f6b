"""Object stores: the file system of a URI, a bounded number of retries, and errors in plain words."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from difflib import get_close_matches
from itertools import chain
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa
from pyarrow import fs

from minestream.errors import InputError, MinestreamError, TransientError, UsageError, nearest_name

Result = TypeVar("Result")
CONNECT_SECONDS, ANSWER_SECONDS = 5, 10
SDK_ATTEMPTS = 8  # of every request to S3, by the library itself: about 6 seconds until it gives up
ATTEMPTS = 3  # of whole operations that may be repeated
BACKOFF_SECONDS = 0.5  # before the second attempt; doubled each time, times a random factor from 0.5 to 1
PATIENCE = dict.fromkeys(("gs", "gcs"), "retry_limit_seconds=60")  # for the library, whose default is 15 minutes
BUCKETED = ("s3", "gs", "gcs")  # no folders are made here: they are only parts of names
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
COMPARED_NAMES = 10_000  # at most so many of a folder, which takes 0.3 s
HUB = "hf"  # datasets on the Hugging Face Hub, through its file system
S3_OPTIONS = ("endpoint_override", "region", "scheme")
_NO_NAME = re.compile("[\0\ud800-\udfff]")
_QUERY = re.compile(r"\?(?=\w+=)")  # a ? without name=value behind it belongs to a glob pattern


# Only the text of a message tells one failure of these libraries from another.
PASSING = re.compile(
    r"NETWORK_CONNECTION|SLOW_DOWN|INTERNAL_FAILURE|SERVICE_UNAVAILABLE|THROTTLING|REQUEST_TIMEOUT|REQUEST_EXPIRED"
    r"|REQUEST_TIME_TOO_SKEWED|HTTP status (?:429|5\d\d)|\b(?:429|5\d\d) (?:Client|Server) Error"
    r"|curlCode|UNAVAILABLE|DEADLINE_EXCEEDED|RESOURCE_EXHAUSTED"
)
DENIED = ("permission denied by the store", "check the credentials in the environment and what they allow")
REFUSED: dict[re.Pattern[str], tuple[str, str]] = {
    re.compile(r"NO_SUCH_BUCKET|Bucket '.*' not found"): (
        "no such bucket", "check the name and the region, or make it first"
    ),
    re.compile(
        r"ACCESS_DENIED|FORBIDDEN|INVALID_ACCESS_KEY|SIGNATURE|INVALID_CLIENT_TOKEN|UNRECOGNIZED_CLIENT|EXPIRED_TOKEN"
        r"|HTTP status 40[13]|\b40[13] Client Error|PERMISSION_DENIED|UNAUTHENTICATED|[Cc]redentials"
    ): DENIED,
}  # fmt: skip


class Address(NamedTuple):
    """A URI in its pieces: scheme, authority (bucket, and credentials if any), key, query."""

    scheme: str
    authority: str
    key: str
    query: str

    @property
    def bucket(self) -> str:
        """The authority without credentials."""
        return self.authority.rpartition("@")[2]


def is_remote(given: Any) -> bool:
    """Whether `given` is a URI other than file://."""
    return isinstance(given, str) and "://" in given and not given.lower().startswith("file://")


def local_text(given: str) -> str:
    """A file:// URI as the path it stands for; anything else as it is.

    Raises
    ------
    UsageError
        For a broken URI, and for a name that pyarrow cannot open: with a zero byte, or not UTF-8.
    """
    try:
        text = unquote(urlsplit(given).path) if given.lower().startswith("file://") else given
    except ValueError as error:
        raise UsageError(f"{given}: {error}", "give the path itself") from error
    if _NO_NAME.search(text):
        raise UsageError(f"{text}: a name with a zero, or of bytes that are no UTF-8", "rename the file")
    return text


def address_of(uri: str) -> Address:
    """The pieces of a URI. The key is not decoded: object stores take it literally."""
    scheme, _, rest = uri.partition("://")
    plain, *query = _QUERY.split(rest, maxsplit=1)
    authority, _, key = plain.partition("/")
    return Address(scheme.lower(), authority, key.strip("/"), query[0] if query else "")


def shown(given: Any) -> str:
    """A path or URI for messages and manifests, without credentials and query."""
    text = os.fspath(given) if isinstance(given, os.PathLike) else str(given)
    if not is_remote(text):
        return local_text(text)
    address = address_of(text)
    return f"{address.scheme}://{address.bucket}" + (f"/{address.key}" if address.key else "")


def file_system(uri: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URI and the path within it.

    Raises
    ------
    UsageError
        When no installed library knows the scheme, or an option is unknown.
    """
    address = address_of(uri)
    try:
        if address.scheme == "s3":
            return _s3(address), "/".join(filter(None, (address.bucket, address.key)))
        return (None if address.scheme == HUB else _native(address)) or _by_fsspec(uri, address)
    except (pa.ArrowException, OSError, ValueError) as error:
        # The cause may quote the URI with its credentials.
        raise failure(shown(uri), error) from None


def _s3(address: Address) -> fs.S3FileSystem:
    """An S3 file system with short timeouts; the endpoint comes from the query or else from the environment."""
    options = dict(parse_qsl(address.query))
    for name in options:
        if name not in S3_OPTIONS:
            raise UsageError(f"an S3 address has no option {name!r}", nearest_name(name, list(S3_OPTIONS)))
    named = next(filter(None, map(os.environ.get, ENDPOINTS)), "")
    endpoint = urlsplit(named)
    options = ({"endpoint_override": endpoint.netloc, "scheme": endpoint.scheme} if named else {}) | options
    user, _, secret = address.authority.rpartition("@")[0].partition(":")
    if user:
        options |= {"access_key": unquote(user), "secret_key": unquote(secret)}
    known = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not (options.get("endpoint_override") or options.get("region") or known):
        options["region"] = retried(lambda: fs.resolve_s3_region(address.bucket))
    return fs.S3FileSystem(
        **options, connect_timeout=CONNECT_SECONDS, request_timeout=ANSWER_SECONDS,
        retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=SDK_ATTEMPTS),
        background_writes=False,  # they would hold in memory what is not sent yet
        allow_delayed_open=True,  # small objects take one request
    )  # fmt: skip


def _native(address: Address) -> tuple[fs.FileSystem, str] | None:
    """The file system and path when pyarrow knows the scheme, else None."""
    query = "&".join(filter(None, (address.query, PATIENCE.get(address.scheme))))
    try:
        system, base = fs.FileSystem.from_uri(
            f"{address.scheme}://{address.authority}/" + (f"?{query}" if query else "")
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        if "nrecognized" in str(error) or isinstance(error, pa.ArrowNotImplementedError):
            return None
        raise
    return system, "/".join(filter(None, (base.rstrip("/"), address.key)))


def _by_fsspec(uri: str, address: Address) -> tuple[fs.FileSystem, str]:
    """The file system and path from fsspec, if it is installed and knows the scheme."""
    try:
        from fsspec.core import url_to_fs

        system, path = url_to_fs(uri)
    except (ImportError, ValueError) as error:
        if address.scheme == HUB and isinstance(error, ImportError):
            raise UsageError(f"{shown(uri)}: {error}", "pip install 'minestream[hub]'") from None
        raise UsageError(
            f"{shown(uri)}: no installed library knows the scheme {address.scheme}://",
            f"s3://, gs:// and file:// are known; others with fsspec and its package for them ({type(error).__name__})",
        ) from None
    return fs.PyFileSystem(fs.FSSpecHandler(system)), path


def passes(error: BaseException) -> bool:
    """Whether a failure may pass: a network, an overloaded or a failing store."""
    if isinstance(error, MinestreamError):
        return False
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    return isinstance(error, OSError | pa.ArrowException) and bool(PASSING.search(str(error)))


def known_failure(
    name: str, error: BaseException, refusal: type[MinestreamError] = InputError
) -> MinestreamError | None:
    """The error for the user about the store with `name`; None when the store is not the cause of `error`."""
    if isinstance(error, MinestreamError):
        return error
    detail = " ".join(str(error).split())[:200]
    if passes(error):
        hint = "this may pass: try again; mine goes on with --resume"
        return TransientError(f"{name}: the store does not answer: {detail}", hint)
    if isinstance(error, FileNotFoundError):
        return refusal(f"{name}: does not exist", "check the bucket and the path")
    if isinstance(error, PermissionError):
        return refusal(f"{name}: {DENIED[0]}", DENIED[1])
    reasons = (reason for pattern, reason in REFUSED.items() if pattern.search(detail))
    return next((refusal(f"{name}: {what}", hint) for what, hint in reasons), None)


def failure(name: str, error: BaseException, refusal: type[MinestreamError] = InputError) -> MinestreamError:
    """The error for the user about the store with `name`, made from `error`."""
    detail = " ".join(str(error).split())[:200]
    return known_failure(name, error, refusal) or refusal(f"{name}: {detail}", "check the address and the store")


def retried(work: Callable[[], Result]) -> Result:
    """The result of `work`, which is tried up to ATTEMPTS times while its error may pass."""
    for attempt in range(1, ATTEMPTS):
        try:
            return work()
        except (OSError, pa.ArrowException) as error:
            if not passes(error):
                raise
        time.sleep(BACKOFF_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))
    return work()


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
_ARRAYS = "save its arrays in one file: numpy.savez('arrays.npz', embedding=vectors, label=labels)"


# How to convert other kinds of files, known by their first bytes or suffix. The code behind "it: " runs as it stands.
_KINDS: tuple[tuple[tuple[bytes, ...], tuple[str, ...], str], ...] = (
    ((), (".manifest.json",), "the manifest of a mined output: minestream describe, verify and export take it"),
    ((), (".toml",), "a file of options goes with --config {path}, on the command line"),
    ((), (".npy", ".npz", ".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json"), "it is read when it is named"),
    ((b"ORC",), (".orc",), _TO_PARQUET.format(kind="orc", read="orc.read_table({path!r})")),
    ((b"\x89HDF\r\n\x1a\n",), (".h5", ".hdf5"), f"read its arrays with h5py; {_ARRAYS}"),
    ((b"IxF", b"IwF", b"IxP", b"IxM", b"IHN"), (".faiss", ".index"),
     f"an index, which may hold codes only: bring the vectors that it was made of; {_ARRAYS}"),
    ((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), (".pkl", ".pickle", ".joblib"),
     f"a pickle runs code when it is read: read it yourself if you trust it; {_ARRAYS}"),
    ((), (".pt", ".pth", ".safetensors", ".mat"), f"read its tensors; {_ARRAYS}"),
    ((), (".xlsx", ".xls", ".ods"), "a workbook: save the sheet as CSV, each coordinate in a column"),
    ((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh"), (".gz", ".zst", ".bz2", ".zip", ".xz", ".lz4"),
     "unpack it: what is packed as a whole is not read"),
    ((b"PK\3\4",), (), f"a zip, as torch.save and Excel write too: unpack it, or read its tensors; {_ARRAYS}"),
)  # fmt: skip


def how_to_bring(path: str, head: bytes = b"") -> str:
    """The hint for a file that is neither Parquet nor Arrow IPC; `head`: its first bytes."""
    name, stem = path.lower(), path[: len(path) - len(os.path.splitext(path)[1])]
    by_name = (hint for _, suffixes, hint in _KINDS if name.endswith(suffixes))
    by_magic = (hint for magics, _, hint in _KINDS if magics and head.startswith(magics))
    return next(chain(by_name, by_magic), "write it as Parquet first").format(path=path, out=f"{stem}.parquet")


def near_file(path: str) -> str:
    """The question whether a file beside `path`, which is not there, is meant; "" where none is near."""
    if re.fullmatch(r"\d*\.\d+", path):
        return "several values of one option go with commas: 0.1,0.2; "
    folder, name = os.path.split(path)
    with suppress(OSError):
        names = sorted(os.listdir(folder or os.curdir), reverse=True)[:COMPARED_NAMES]
        stems = {os.path.splitext(each)[0]: each for each in names}
        near = get_close_matches(os.path.splitext(name)[0], stems, n=1)  # endings look alike
        return f"did you mean {os.path.join(folder, stems[near[0]])!r}? " if near else ""
    return ""


def unreadable(name: str, error: BaseException) -> MinestreamError:
    """The error for the user about reading `name`, made from `error`."""
    of_store = known_failure(name, error) if is_remote(name) else None
    if of_store is not None:
        return of_store
    for kind, (what, hint) in _REASONS.items():
        if isinstance(error, kind):
            return InputError(f"{name}: {what}", near_file(name) * (kind is FileNotFoundError) + hint)
    detail = " ".join(str(error).split())[:200]
    if isinstance(error, OSError) and error.errno in _TRANSIENT:
        return TransientError(f"{name}: reading failed: {detail}", "this may pass: try again")
    return InputError(f"{name}: unreadable or truncated: {detail}", "write or fetch the file again")


def output_as_input(name: str, metadata: Mapping[bytes, bytes]) -> InputError:
    """The error for an input that is an output of minestream; it names what that came from."""
    if b"minestream.batches" in metadata:
        return InputError(f"{name}: training batches, written by minestream: no embeddings", "give what was mined")
    try:
        about = {key: json.loads(metadata[b"minestream." + key]) for key in (b"config", b"source")}
        emit, names = about[b"config"]["emit"], [entry["name"] for entry in about[b"source"] if not entry.get("role")]
    except (KeyError, TypeError, ValueError):
        emit, names = "rows", []
    takes = "describe, verify and select" if emit == "lists" else "describe, verify, export and refilter"
    came = f", {', '.join(map(str, names[:3]))}" if names else ""
    return InputError(
        f"{name}: mined {emit}, written by minestream: an output, no embeddings",
        f"to mine again give what it came from{came}; minestream {takes} take this",
    )
