"""The card of a dataset on the Hub: what was mined, from what and how, as the README.md that the Hub shows."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from minestream.config.option import flag_of
from minestream.config.resolve import OPTION_FIELDS
from minestream.outputs.metadata import label_convention, loss_formula
from minestream.system.values import many

MARK = "<!-- written by minestream for "  # and the name of the output: how a card begins that may be replaced
SIZES = {"n<1K": 10**3, "1K<n<10K": 10**4, "10K<n<100K": 10**5, "100K<n<1M": 10**6, "1M<n<10M": 10**7,
         "10M<n<100M": 10**8, "100M<n<1B": 10**9}  # fmt: skip


def card(name: str, manifest: dict[str, Any], schema: pa.Schema) -> str:
    """The card of an output, in Markdown under the head of YAML that the Hub reads.

    Parameters
    ----------
    name : str
        The file or folder in the dataset.
    manifest : dict
        Of the complete output.
    schema : pyarrow.Schema
    """
    config, counts = manifest["config"], manifest["counts"]
    rows, emit = counts["rows"], config["emit"]
    size = next((words for words, most in SIZES.items() if rows < most), "n>1B")
    files = name if name.endswith(".parquet") else f"{name}/*.parquet"
    head = ["---", "tags:", "- minestream", f"- {emit}", "size_categories:", f"- {size}", "configs:",
            "- config_name: default", f"  data_files: {json.dumps(files)}", "---"]  # fmt: skip
    source = [
        f"- {entry['name']}" + (f" ({entry['role']})" if entry.get("role") else "") + f": {many(entry['rows'], 'row')}"
        for entry in manifest["source"]
    ]
    asked = [f"| `{flag_of(option)}` | `{_cell(value)}` |" for option, value in _given(config)]
    columns = [f"| `{_cell(field.name)}` | {_cell(field.type)} |" for field in schema]
    made = f"{rows:,} {emit} of {many(counts['anchors'], 'anchor')}, mined by minestream {manifest['version']} from"
    known = f"Fingerprint `{manifest['fingerprint']}`; `minestream describe` and `minestream verify` take the output."
    return "\n".join([
        *head, f"{MARK}{name} -->", "", f"# {name}", "", made, "", *source, "",
        "## Columns", "", "| column | type |", "|---|---|", *columns, "",
        f"Labels: {label_convention(config)}.", "", f"Loss: {loss_formula(config)}.", "",
        "## Options", "", known, "", "| option | value |", "|---|---|", *asked, "",
    ])  # fmt: skip


def _cell(value: object) -> str:
    """A value as it may stand in a table."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("`", "'")


def _given(config: dict[str, Any]) -> list[tuple[str, Any]]:
    """The options of a configuration that are not the table's defaults, and the metric."""
    known = {name: value for name, value in config.items() if name in OPTION_FIELDS and value not in (None, [])}
    return [(name, value) for name, value in known.items() if name == "metric" or value != OPTION_FIELDS[name].default]
