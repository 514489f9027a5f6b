"""What goes wrong while something is read, in the user's terms."""

from __future__ import annotations

import errno
import json
from collections.abc import Mapping

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
