"""A library that is not there."""

from __future__ import annotations

import importlib
import sys

import pytest

LIBRARIES = {
    "torch": "torch", "lightning": "torch", "pytorch_metric_learning": "pytorch_metric_learning",
    "sentence_transformers": "datasets", "sklearn": "sklearn",
}  # fmt: skip


@pytest.mark.parametrize("module", LIBRARIES)
def test_the_error_names_the_extra(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIBRARIES:
        monkeypatch.delitem(sys.modules, f"minestream.integrations.{name}", raising=False)
    for library in LIBRARIES.values():
        loaded = [name for name in sys.modules if name.startswith(f"{library}.")]
        for name in (library, *loaded):
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(f"minestream.integrations.{module}")
    assert str(caught.value).endswith(f"pip install 'minestream[{module.replace('_', '-')}]'")
