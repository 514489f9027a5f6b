"""A real sample to begin with: handwritten digits."""

from __future__ import annotations

import os
from importlib.resources import files

from minestream.config.border import public
from minestream.errors import OutputError
from minestream.outputs.single_file import ending_in, publishing


@public()
def sample(path: str | os.PathLike[str], *, overwrite: bool = False) -> str:
    """Write a real sample: 1,797 handwritten digits of 64 values with their labels, as Parquet.

    Parameters
    ----------
    path : path
        The file to write.
    overwrite : bool
        Replace it when it exists.

    Returns
    -------
    str
        The path.

    Raises
    ------
    UsageError, OutputError
        When its name does not end in .parquet; when it exists, or cannot be written.
    """
    content = files("minestream").joinpath("data", "digits.parquet").read_bytes()
    place = ending_in(".parquet", path, "sample", "minestream sample ")
    there = place.exists() and not place.is_dir() and place.read_bytes() == content
    if there and not overwrite:
        raise OutputError(f"{path} exists", "it is this sample already")
    if not there:
        with publishing(place, overwrite, []) as draft:
            draft.path.write_bytes(content)
    return str(place)
