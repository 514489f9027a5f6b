"""The library's border: signatures that can be completed, and messages in the caller's language."""

from __future__ import annotations

import ast
import inspect
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream
from minestream.cli.main import main
from minestream.config.border import accepted, in_python
from minestream.config.option import flag_of
from minestream.config.resolve import OPTION_FIELDS, resolved
from minestream.errors import InputError, MinestreamError, UsageError, speaking_options

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
from keywords import TAKES  # noqa: E402

ROWS, LABELS = np.random.default_rng(3).standard_normal((24, 4)).astype(np.float32), [0, 1, 2] * 8


# ---------------------------------------------------------------- signatures


def parameters(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def test_the_keywords_are_those_of_the_table() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "keywords.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


FUNCTIONS = {name: options for name, options in TAKES.values() if hasattr(minestream, name)}  # not those of libraries


@pytest.mark.parametrize(("name", "options"), FUNCTIONS.items(), ids=FUNCTIONS)
def test_a_signature_says_what_the_table_says(name: str, options: set[str]) -> None:
    found = parameters(getattr(minestream, name))
    others = {"progress": "none"} if name in ("mine_arrays", "mine_batches", "compare") else {}
    for option in options:
        assert found[option].kind is inspect.Parameter.KEYWORD_ONLY
        assert found[option].annotation == accepted(OPTION_FIELDS[option])
        assert found[option].default == others.get(option, OPTION_FIELDS[option].default)
    assert not any(each.kind is each.VAR_KEYWORD for each in found.values())


def test_mine_takes_every_option() -> None:
    assert set(parameters(minestream.mine)) == {"inputs", "out", "progress_callback", *OPTION_FIELDS}


@pytest.mark.parametrize(
    "call",
    [
        lambda: minestream.describe("x.parquet", bins=3),  # type: ignore[call-arg]
        lambda: minestream.describe_html("x.parquet", "x.html", bins=3),  # type: ignore[call-arg]
        lambda: minestream.triplet_loss(ROWS, ROWS, ROWS, 0.1, bins=3),  # type: ignore[call-arg]
        lambda: minestream.contrastive_loss(ROWS, ROWS, ROWS[:, 0] > 0, 0.1, bins=3),  # type: ignore[call-arg]
    ],
    ids=["describe", "describe_html", "triplet_loss", "contrastive_loss"],
)
def test_a_keyword_that_there_is_not_is_a_mistake(call: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=r"has no option 'bins'\nknown: [a-z]"):
        call()


@pytest.mark.parametrize("given", [{"approximate": 0.9}, {"candidates": "c.parquet"}, {"anchors": 3}, {"max_uses": 3}])
def test_what_miner_refuses_is_not_among_its_keywords(given: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"window is not for|is not for window"):
        minestream.Miner(10, **given)
    assert not TAKES["WindowOptions"][1] & {*given}


def test_losses_check_their_keywords() -> None:
    with pytest.raises(UsageError, match=r"^soft takes True or False, not 'yes'"):
        minestream.triplet_loss(ROWS, ROWS, ROWS, 0.1, soft="yes")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["export", "refilter", "fit", "apply", "verify", "describe"])
def test_other_functions_take_no_nameless_options(name: str) -> None:
    assert not any(each.kind is each.VAR_KEYWORD for each in parameters(getattr(minestream, name)).values())


def test_help_has_a_line_for_each_option() -> None:
    shown = inspect.getdoc(minestream.mine) or ""
    for name, spec in OPTION_FIELDS.items():
        assert f"{name} : {accepted(spec)}, default {spec.default!r}\n    " in shown
    assert "--" not in shown.partition("Options\n")[2].replace("-------", "")


def test_type_checkers_know_the_options(tmp_path: Path) -> None:
    (tmp_path / "user.py").write_text(
        "import minestream\n"
        'minestream.mine("a.parquet", band="easy", negatives=4, qrels=[(1, 2)], memory="1GiB")\n'
        'minestream.mine("a.parquet", bandd="easy")\n'
        'minestream.mine_arrays([[1.0]], [1], negatives="many")\n'
        'minestream.Miner(5, corpus="c.parquet")\n'
    )
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--follow-imports=silent",
        "--cache-dir",
        str(ROOT / ".mypy_cache" / "users"),  # kept: what mypy knows of NumPy and Arrow takes it longest
        "user.py",
    ]
    where = os.environ | {"MYPYPATH": str(ROOT)}  # an editable install is found by a hook, which mypy does not run
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=where)
    assert [line.split(":")[1] for line in done.stdout.splitlines() if "error:" in line] == ["3", "4", "5"], done.stdout


# Every other long name that the command line has for an option, and the functions that take the option.
OTHER_NAMES = [
    (flag.lstrip("-").replace("-", "_"), spec.name)
    for spec in OPTION_FIELDS.values() for flag in spec.metadata["flags"] if flag not in ("-k", flag_of(spec.name))
]  # fmt: skip
TAKERS: dict[str, Callable[..., Any]] = {
    "mine": partial(minestream.mine, "a.parquet", "b.parquet"),
    "mine_arrays": partial(minestream.mine_arrays, ROWS, LABELS),
    "mine_batches": partial(minestream.mine_batches, "a.parquet"), "Miner": partial(minestream.Miner, 8),
    "profile": partial(minestream.profile, "a.parquet"), "fit": partial(minestream.fit, "a.parquet", "b.npz"),
    "compare": partial(minestream.compare, "a.parquet", "b.parquet"),
}  # fmt: skip


@pytest.mark.parametrize("function", TAKERS)
@pytest.mark.parametrize(("name", "ours"), OTHER_NAMES)
def test_other_names_of_the_command_line_are_answered_with_the_keyword(function: str, name: str, ours: str) -> None:
    if function in ("profile", "fit", "compare") and ours == "qrels":
        return  # they take no listed pairs
    with pytest.raises(UsageError, match=f"no option '{name}'\nhere that is {ours}"):
        TAKERS[function](**{name: "x"})


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: minestream.mine("a.parquet", bandd="easy"), "no option 'bandd'\ndid you mean 'band'"),
        (lambda: minestream.mine("a.parquet", n_negatives=5), "here that is negatives=5"),
        (lambda: minestream.mine("a.parquet", force=True), "here that is overwrite=True"),
        (lambda: minestream.mine_arrays(ROWS, LABELS, anchors=0.1), 'did you mean anchors="10%"'),
        (lambda: minestream.mine_arrays(ROWS, LABELS, hn_mining="hard"), 'here that is band="hard"'),
        (lambda: minestream.mine("a.parquet", update="x"), 'minestream.mine("NEW", corpus="ALL", shared_ids=True)'),
        (lambda: minestream.export("a.parquet", "b.parquet", emits="pml"), "no option 'emits'\ndid you mean"),
        (lambda: minestream.refilter("a.parquet", "b.parquet", score="s"), "did you mean 'scores'"),
        (lambda: minestream.fit("a.parquet", "b.npz", learning_rates=1.0), "did you mean 'learning_rate'"),
        (lambda: minestream.profile("a.parquet", bands="x"), "profile has no option 'bands'"),
        (lambda: minestream.profile("a.parquet", output="x"), "profile has no option 'output'\nhere that is out"),
        (lambda: minestream.fit("a.parquet", "b.npz", output="x"), "fit has no option 'output'\nhere that is out"),
        (lambda: minestream.compare("a.parquet", "b.parquet", margn=1), "known: train, validation, within, out"),
        (lambda: minestream.profile("a.parquet", margin=1), "did you mean 'margins'? known: inputs, out, margins"),
        (lambda: minestream.describe("a", html="x"), "minestream.describe_html('OUT', 'page.html') writes the page"),
    ],
)
def test_a_keyword_that_there_is_not_is_answered(call: Callable[[], Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        call()
    assert words in str(caught.value)


# ---------------------------------------------------------------- language


@pytest.mark.parametrize(
    ("written", "python"),
    [
        ("leave such rows out with --on-bad-rows drop", 'leave such rows out with on_bad_rows="drop"'),
        ("--resume goes on, --overwrite does not", "resume=True goes on, overwrite=True does not"),
        ("name it with -o OUT", 'name it with out="OUT"'),
        ("mine pairs (--emit pairs -k 0)", 'mine pairs (emit="pairs" negatives=0)'),
        ("--negatives (-k) or --skip", "negatives or skip"),
        ("--label-column COL, or --positive-pairs PAIRS.", 'label="COL", or qrels="PAIRS".'),
        ("--drop-duplicates-within none, or 0.1", "drop_duplicates_within=None, or 0.1"),
        ("--carry with the name of a column", "carry with the name of a column"),
        ("--carry emb: it is no text", 'carry="emb": it is no text'),
        ("more than --max-rows 1,000", "more than max_rows=1000"),
        ("--margin 0.1,0.2", "margin=(0.1, 0.2)"),
        ("mine slices: --shard 1/8 and so on", 'mine slices: shard="1/8" and so on'),
        ("--max-short 5% or --require-rows N", 'max_short="5%" or require_rows=N'),
        ("minestream mine IN --shared-ids does", 'minestream.mine("IN", shared_ids=True) does'),
        ("see minestream describe", "see minestream.describe"),
        ("--sample 0 checks the checksums alone", "sample=0 checks the checksums alone"),
        ("score them, or --missing-scores keep them", 'score them, or missing_scores="keep" them'),
        ("each by itself: --carry 'a' --carry 'b c'", 'each by itself: carry=["a", "b c"]'),
        ("minestream mine IN --carry 'a' --carry 'b'", 'minestream.mine("IN", carry=["a", "b"])'),
        ("a column named '--label', in a--label/--id.parquet", "a column named '--label', in a--label/--id.parquet"),
    ],
)  # fmt: skip
def test_options_as_python(written: str, python: str) -> None:
    assert in_python(written) == python
    assert in_python(python) == python


def test_errors_speak_as_their_caller_does() -> None:
    error = pickle.loads(pickle.dumps(UsageError("--swap is not for --emit pairs", "leave --swap out")))
    assert (error.message, error.hint) == ('swap=True is not for emit="pairs"', "leave swap=True out")
    with speaking_options():
        assert str(error) == "--swap is not for --emit pairs\nleave --swap out"
    assert str(error) == 'swap=True is not for emit="pairs"\nleave swap=True out'


def bad_rows() -> Any:
    rows = ROWS.copy()
    rows[3, 1] = np.nan
    return rows


BAD: list[tuple[Callable[[], Any], list[str] | None, str, str]] = [
    (lambda: minestream.mine_arrays(bad_rows(), LABELS), None, 'on_bad_rows="drop"', ""),
    (lambda: minestream.mine_arrays(ROWS, LABELS, emit="pairs", swap=True), ["--emit", "pairs", "--swap"], "swap=True",
     "--swap"),
    (lambda: minestream.mine_arrays(ROWS, LABELS, metric="euclidean"), ["--metric", "euclidean"],
     'metric="euclidean" has no principled default margin: give margin', "--metric euclidean has no"),
    (lambda: minestream.mine_arrays(ROWS, LABELS, margin=5.0), ["--margin", "5"],
     'margin=5 is more than metric="cosine" can reach', "--margin 5 is more than --metric cosine can reach"),
    (lambda: minestream.mine_arrays(ROWS, LABELS, band="semi-hrad"), ["--band", "semi-hrad"],
     "band has no value 'semi-hrad'", "--band has no value 'semi-hrad'"),
    (lambda: minestream.mine_arrays(ROWS, LABELS, threads=0), ["--threads", "0"], "threads must be at least 1",
     "--threads must be at least 1"),
    (lambda: minestream.mine_arrays(ROWS, LABELS, threads="2"), None, "threads takes a whole number", ""),
    (lambda: minestream.mine_arrays(ROWS, LABELS, memory="lots"), ["--memory", "lots"], "memory", "--memory"),
    (lambda: minestream.mine_arrays(ROWS, LABELS, where="a > 1"), None, "where is not for arrays", ""),
    (lambda: minestream.mine_arrays(ROWS, LABELS, resume=True, where="a > 1"), None, "where is not for arrays", ""),
    (lambda: minestream.mine("a.parquet", shard="1/2", engine="dask"), ["--shard", "1/2", "--engine", "dask"],
     "shard and engine exclude each other", "--shard and --engine exclude each other"),
    (lambda: minestream.mine_batches("a.parquet", order="shuffled"), None, 'order="shuffled" needs all rows', ""),
    (lambda: minestream.Miner(0), ["--window", "0"], "window must be between 1 and", "--window must be between 1 and"),
    (lambda: minestream.Miner(5, resume=True), ["--window", "5", "--resume"], "resume=True is not for window",
     ""),
    (lambda: minestream.profile("a.parquet", sample=0), None, "sample must be at least 1", ""),
    (lambda: resolved(minestream.MineConfig(skip=-1)), ["--skip", "-1"], "skip", "--skip"),
    (lambda: minestream.mine("a.parquet", short_rows="pad-random"), None, 'minestream.export(short_rows="repeat")', ""),
]  # fmt: skip


@pytest.mark.parametrize(("call", "command", "python", "options"), BAD)
def test_a_mistake_is_told_in_the_language_it_was_made_in(
    call: Callable[[], Any], command: list[str] | None, python: str, options: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(MinestreamError) as caught:
        call()
    assert python in str(caught.value)
    assert not named_options(str(caught.value))
    if command is not None:
        assert main(["mine", "a.parquet", *command]) == caught.value.exit_code
        assert options in capsys.readouterr().err


OWN_FLAGS = {"margin", "sample", "near", "within", "source", "out", "missing-scores", "learning-rate", "dimension"}
FLAG = re.compile(r"(?<![\w/'\"-])--([a-z][a-z-]*)")
KNOWN = {name.replace("_", "-") for name in OPTION_FIELDS} | OWN_FLAGS


def named_options(text: str) -> list[str]:
    return [name for name in FLAG.findall(text) if name in KNOWN]


def all_texts(path: Path) -> list[str]:
    """The texts of a module; what is filled in stands as X."""
    tree = ast.parse(path.read_text())
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            found.append("".join(str(each.value) if isinstance(each, ast.Constant) else "X" for each in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            found.append(node.value)
    return found


def written_texts(path: Path) -> list[str]:
    """The texts of a module that name options."""
    return [text for text in all_texts(path) if named_options(text)]


def test_whatever_is_written_with_options_is_python_to_the_library() -> None:
    texts = [
        text for path in (ROOT / "minestream").rglob("*.py") if "cli" not in path.parts for text in written_texts(path)
    ]
    assert len(texts) > 200
    assert [text for text in texts if named_options(in_python(text))] == []


def test_notes_speak_as_their_caller_does(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "digits.parquet"
    assert main(["sample", str(path)]) == 0
    report = minestream.mine(path, tmp_path / "a.parquet", seed=3, unlabeled="negative", anchors=20, progress="none")
    assert 'unlabeled="negative" has no effect: every row has a label' in report.notes
    given = ["--seed", "3", "--unlabeled", "negative", "--anchors", "20", "--progress", "none"]
    assert main(["mine", str(path), "-o", str(tmp_path / "b.parquet"), *given]) == 0
    assert "--unlabeled negative has no effect: every row has a label" in capsys.readouterr().out
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_miner_speaks_python() -> None:
    with minestream.Miner(10, unlabeled_value="9") as miner:
        miner.feed({"embedding": ROWS, "label": LABELS})
        assert [note.partition(" has")[0] for note in miner.notes] == ["unlabeled_value"]


def test_errors_speak_python_whichever_module_was_loaded_first() -> None:
    code = "import minestream.config.metrics\nfrom minestream.errors import InputError\nprint(InputError('--id X'))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == 'id="X"\n'
    assert str(InputError("--id X")) == 'id="X"'


@pytest.mark.parametrize("name", ["profile", "fit", "compare"])
def test_an_unknown_keyword_is_answered_with_those_of_the_function(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        getattr(minestream, name)("a", "b", bnds=1)
    listed = caught.value.hint.rpartition("known: ")[2].split(", ")
    assert sorted(listed) == sorted({*parameters(getattr(minestream, name))} - {"screen", "block_rows", "batch_rows"})


# ---------------------------------------------------------------- what hints name


CALL = re.compile(r"(?<![\w.])[A-Za-z_][\w.]*\(")


def calls_in(text: str) -> list[tuple[str, str, str]]:
    """The calls in a text, outermost: the name, what is in its brackets, and the call as it stands."""
    found, at = [], 0
    while begin := CALL.search(text, at):
        depth, at = 1, begin.end()
        while depth and at < len(text):
            depth += {"(": 1, ")": -1}.get(text[at], 0)
            at += 1
        found.append((begin[0][:-1], text[begin.end() : at - 1], text[begin.start() : at]))
    return found


def keywords_in(text: str) -> set[str]:
    """The keywords in a text, without those of calls."""
    for _, _, call in calls_in(text):
        text = text.replace(call, "()")
    return set(re.findall(r"(?<![\w.'\"])([a-z_]\w*)=(?!=)", text))


def wrong_calls(text: str) -> list[str]:
    """The calls of minestream in a text that name no function of it, or a keyword that the function does not have."""
    wrong = []
    for name, inside, call in calls_in(text):
        if name.startswith("minestream."):
            function = getattr(minestream, name.partition(".")[2], None)
            if function is None or not keywords_in(inside) <= {*parameters(function)}:
                wrong.append(call)
    return wrong


def test_whatever_call_is_written_is_one_of_the_library() -> None:
    """But for recipes, whose first line is for a shell."""
    paths = [path for path in (ROOT / "minestream").rglob("*.py") if not {"cli", "recipes.py"} & {*path.parts}]
    texts = [in_python(text) for path in paths for text in all_texts(path)]
    called = {name for text in texts for name, *_ in calls_in(text) if name.startswith("minestream.")}
    assert len(called) > 5, called
    assert [call for text in texts for call in wrong_calls(text)] == []


TABLE = {"embedding": ROWS.tolist(), "label": LABELS, "id": [*range(24)]}


@pytest.fixture
def mined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a table, what was mined of it, and a model; the working directory."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table(TABLE), "in.parquet")
    pq.write_table(pa.table(TABLE).rename_columns(["embedding", "label", "key"]), "key.parquet")
    minestream.mine("in.parquet", "m.parquet", progress="none")
    minestream.Linear(np.eye(4), np.zeros(4), {}).save("lin.npz")
    return tmp_path


MISTAKES: list[tuple[str, dict[str, Any]]] = [
    *((name, {"inputs": ROWS}) for name in ("mine", "mine_batches", "profile")),
    *((name, {"inputs": given, "out": f"x.{ending}"}) for name, ending in (("fit", "npz"), ("mine", "parquet"))
      for given in (ROWS, {"embedding": ROWS}, "m.parquet", "lin.npz", "no.parquet", [])),
    *(("profile", {"inputs": given}) for given in (ROWS, "m.parquet", "lin.npz", "no.parquet", [])),
    *(("compare", {"train": "in.parquet", "validation": given}) for given in (ROWS, "m.parquet", "lin.npz", "no.pt")),
    *(("apply", {"model": "lin.npz", "inputs": given, "out": "x.parquet"}) for given in (ROWS, "m.parquet", "no.pt")),
    ("apply", {"model": "m.parquet", "inputs": "in.parquet", "out": "x.parquet"}),
    *(("mine", {"inputs": "in.parquet", "out": "x.parquet", **more}) for more in (
        {"carry": "label,id"}, {"label": "lable"}, {"vectors": ROWS}, {"exclude_rows": [0]}, {"qrels": [(0, 1, 2)]},
        {"qrels": [(90, 91)]}, {"exclude": 5}, {"corpus": ROWS}, {"labels": LABELS}, {"guide": "x"},
        {"anchors": "0.1"}, {"memory": 0.5}, {"relative_margin": "5%"}, {"shard": (1, 2)}, {"emit": "st-tuples"},
        {"text": "x"}, {"margin": 7.0}, {"group_column": "x"}, {"require_rows": 10**6}, {"max_rows": 2},
        {"where": "label = 3"}, {"on_duplicate_ids": "last", "version_column": "x"}, {"short_rows": "repeat"})),
    ("mine", {"inputs": "in.parquet", "out": "in.parquet"}), ("mine", {"inputs": "in.parquet", "out": "m.parquet"}),
    ("mine", {"inputs": "in.parquet", "out": "x.csv"}), ("mine", {"inputs": "in.parquet", "output": "x.parquet"}),
    ("mine", {"inputs": "key.parquet", "out": "x.parquet", "qrels": [(0, 3)]}),
    *(("mine_arrays", {"embeddings": ROWS, **more}) for more in (
        {}, {"corpus": ROWS}, {"labels": LABELS, "corpus": ROWS}, {"corpus": ROWS, "corpus_labels": LABELS},
        {"labels": LABELS, "corpus_ids": LABELS}, {"labels": LABELS, "groups": LABELS, "corpus": ROWS,
                                                   "corpus_labels": LABELS},
        {"labels": LABELS, "corpus": ROWS, "qrels": [(0, 5)]}, {"ids": range(50, 74), "qrels": [(0, 1)]},
        {"labels": LABELS, "exclude_rows": [0]}, {"qrels": [(0, 1, 1)]}, {"labels": [*range(24)]},
        {"labels": LABELS, "label": "x"}, {"labels": LABELS, "ids": [0] * 24}, {"labels": ROWS}, {"qrels": [(0, 99)]},
        {"labels": LABELS, "corpus": ROWS, "corpus_labels": LABELS, "exclude_rows": {"row": [1]}},
        {"labels": LABELS, "shared_ids": True, "corpus": ROWS, "corpus_labels": LABELS},
        {"labels": LABELS, "out": "x.parquet"}, {"labels": LABELS, "emit": "pairs", "negatives": 0, "band": "x"})),
    *(("refilter", {"mined": "m.parquet", "out": "x.parquet", "negatives": 1, "scores": "in.parquet", **more})
      for more in ({}, {"emit": "tuples"}, {"emit": "st-tuples"}, {"scores": ROWS}, {"out": "x.csv"}, {"score": 1},
                   {"scores": [(0, 1)]}, {"mined": "in.parquet"}, {"reference": "x"})),
    *(("export", {"mined": "m.parquet", "emit": "st-triplets", **more}) for more in (
        {}, {"emit": "tuples"}, {"text": "anchor_text"}, {"source": "lin.npz"}, {"out": "x.csv"}, {"short_rows": "x"})),
    *(("verify", {"path": "m.parquet", **more}) for more in ({"source": "key.parquet"}, {"source": ROWS},
                                                        {"sample": "x"})),
    ("describe", {"path": "in.parquet"}), ("merge", {"slices": "m.parquet"}), ("sample", {"path": "x.csv"}),
    ("describe_html", {"mined": "in.parquet", "out": "x.html"}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given"), MISTAKES, ids=[f"{at} {name}" for at, (name, _) in enumerate(MISTAKES)])
def test_hints_name_what_the_function_has(name: str, given: dict[str, Any], mined: Path) -> None:
    function = getattr(minestream, name)
    with pytest.raises(MinestreamError) as caught:
        list(function(**given) if name == "mine_batches" else [function(**given)])
    hint = caught.value.hint
    assert wrong_calls(hint) == [], hint
    assert keywords_in(hint) <= {*parameters(function)}, hint


@pytest.mark.parametrize("emit", ["st-tuples", "trec"])
def test_what_refilter_does_not_write_is_exported_as_the_hint_says(emit: str, mined: Path) -> None:
    scores = "scores.tsv"
    lines = [f"{query}\t{item}\t{query - item}" for query in range(24) for item in range(24)]
    Path(scores).write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]))
    given: dict[str, Any] = {"mined": "carried.parquet", "out": "kept.parquet", "scores": scores, "negatives": 1}
    texts = pa.table(TABLE).append_column("text", [[f"text {row}" for row in range(24)]])
    minestream.mine(texts, "carried.parquet", carry="text", progress="none")
    with pytest.raises(UsageError) as caught:
        minestream.refilter(**given, emit=emit)
    minestream.refilter(**given)
    (call,) = [call for called, _, call in calls_in(caught.value.hint) if called == "minestream.export"]
    assert Path(eval(call, {"minestream": minestream})["output"]).exists()


def test_hints_on_arrays_name_these_and_not_columns() -> None:
    both: dict[str, Any] = {"labels": LABELS, "corpus": ROWS, "corpus_labels": LABELS}
    for more, words in (({"labels": LABELS, "ids": [0] * 24}, "name another ids"),
                        ({**both, "exclude_rows": pa.table({"row": [1]})}, "name it with ids")):  # fmt: skip
        with pytest.raises(MinestreamError) as caught:
            minestream.mine_arrays(ROWS, **more)
        assert caught.value.hint.endswith(words)
