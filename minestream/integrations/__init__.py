"""Objects that other libraries take: one file a library, which is imported when the file is."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Imports of a library that comes with an extra: the error names it."""
    try:
        yield
    except ImportError as error:
        raise type(error)(f"{error}: pip install 'minestream[{name}]'", name=error.name) from error
