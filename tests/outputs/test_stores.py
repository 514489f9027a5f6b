"""Object stores: the same rows and bytes as on a disk, whatever the network does, and never half a file."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from faults import Fault, Proxy
from pyarrow import fs
from stores import begin, make_all
from test_sink import COUNTS, FOLDERS, rows_table

import minestream
from minestream.cli.main import main
from minestream.errors import InputError, OutputError, TransientError, UsageError
from minestream.inputs.files import open_inputs
from minestream.inputs.source import open_source
from minestream.outputs import stores
from minestream.outputs.atomic import take_lock
from minestream.outputs.parquet import write_rows
from minestream.outputs.parts import PartWriter
from minestream.outputs.run import Run, default_output
from minestream.system import stores as system_stores
from minestream.system.paths import RemotePath, place_of

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "key-of-the-tests", "AWS_SECRET_ACCESS_KEY": "secret-of-the-tests",
    "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}  # fmt: skip
BUCKETS = itertools.count()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until a process listens on a port."""
    deadline = time.monotonic() + 60
    while True:
        with suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server does not answer"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def server() -> Iterator[Proxy]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # In a process of its own: beside the tests it would share their interpreter lock.
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    moto = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(port, moto)
    proxy = Proxy(port)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in ENVIRONMENT.items():
            patched.setenv(name, value)
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
            patched.delenv(name, raising=False)
        patched.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.port}")
        yield proxy
    proxy.shutdown()
    moto.kill()
    moto.wait()


@pytest.fixture
def store(server: Proxy, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URI of a bucket of its own; the proxy is `server`."""
    monkeypatch.setattr(system_stores, "SDK_ATTEMPTS", 1)
    monkeypatch.setattr(system_stores, "BACKOFF_SECONDS", 0.01)
    bucket = f"bucket-{next(BUCKETS)}"
    endpoint = f"127.0.0.1:{server.port}"
    maker = fs.S3FileSystem(endpoint_override=endpoint, scheme="http", region="us-east-1", allow_bucket_creation=True)
    maker.create_dir(bucket)
    server.seen.clear()
    yield f"s3://{bucket}"
    server.faults.clear()
    server.answered = lambda method, path: None


def at(uri: str) -> RemotePath:
    place = place_of(uri)
    assert isinstance(place, RemotePath)
    return place


def put(uri: str, contents: bytes) -> None:
    at(uri).write_bytes(contents)


def objects(uri: str) -> dict[str, bytes]:
    folder = at(uri)
    return {name: (folder / name).read_bytes() for name in folder.files()}


def embeddings(rows: int = 120, seed: int = 0, first: int = 0) -> pa.Table:
    vectors = np.random.default_rng(seed).standard_normal((rows, 8)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 8)
    ids, labels = (
        pa.array(range(first, first + rows), pa.int64()),
        pa.array([row % 7 for row in range(rows)], pa.int32()),
    )
    return pa.table({"id": ids, "label": labels, "embedding": column})


def as_parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return bytes(sink.getvalue())


def as_ipc(table: pa.Table, opener: Callable[..., Any]) -> bytes:
    sink = pa.BufferOutputStream()
    with opener(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def same_tree(folder: Path, uri: str, files: dict[str, bytes]) -> None:
    """Write the same files to a disk and to a store."""
    for name, contents in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents)
        put(f"{uri}/{name}", contents)


def mine(*arguments: str) -> int:
    return main(["mine", *arguments, "--progress", "none"])


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What mining one file gives on a disk."""
    folder = tmp_path_factory.mktemp("expected")
    (folder / "a.parquet").write_bytes(as_parquet(embeddings()))
    minestream.mine(str(folder / "a.parquet"), folder / "out.parquet", progress="none")
    return (folder / "out.parquet").read_bytes()


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("uri", "pieces", "name"),
    [
        ("s3://b/k/a.parquet", ("s3", "b", "k/a.parquet", ""), "s3://b/k/a.parquet"),
        ("S3://u:p%2F@b/k/?region=x&scheme=http", ("s3", "u:p%2F@b", "k", "region=x&scheme=http"), "s3://b/k"),
        ("s3://b/?.parquet", ("s3", "b", "?.parquet", ""), "s3://b/?.parquet"),
        ("s3://b/a b/??.parquet?region=x", ("s3", "b", "a b/??.parquet", "region=x"), "s3://b/a b/??.parquet"),
        ("gs://b", ("gs", "b", "", ""), "gs://b"),
    ],
)
def test_addresses(uri: str, pieces: tuple[str, ...], name: str) -> None:
    assert system_stores.address_of(uri) == pieces
    assert system_stores.shown(uri) == name
    assert system_stores.is_remote(uri)


def test_local_paths_are_no_addresses(tmp_path: Path) -> None:
    for given in (tmp_path, str(tmp_path), "a.parquet", f"file://{tmp_path}"):
        assert not system_stores.is_remote(given)
    assert place_of(f"file://{tmp_path}/a%20b") == tmp_path / "a b"


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://u:p@b/k/a.parquet?region=x", "a.pairs.parquet"),
        ("s3://b/data/", "data.pairs.parquet"),
        ("s3://b/data/*.parquet", "data.pairs.parquet"),
        ("s3://b/**/?.parquet", "b.pairs.parquet"),
        ("file:///tmp/a%20b.parquet", "a b.pairs.parquet"),
    ],
)
def test_the_default_output_is_local(uri: str, name: str) -> None:
    assert default_output([uri], "pairs") == Path(name)


def test_file_uris_are_local_paths(tmp_path: Path, expected: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(as_parquet(embeddings()))
    assert mine(f"file://{tmp_path}/a.parquet", "-o", f"file://{tmp_path}/out.parquet") == 0
    assert (tmp_path / "out.parquet").read_bytes() == expected


def test_an_unknown_scheme_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="no installed library knows the scheme nowhere://") as caught:
        open_source("nowhere://user:secret@bucket/a.parquet")
    assert "secret" not in str(caught.value)


def test_options_of_an_address(store: str, server: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    query = f"endpoint_override=127.0.0.1:{server.port}&scheme=http&region=us-east-1"
    put(f"{store}/k/a.parquet?{query}", as_parquet(embeddings()))
    (found,) = open_inputs(f"{store}/k/?{query}")
    assert found.name == f"{store}/k/a.parquet"
    with pytest.raises(UsageError, match="no option 'endpoint'") as caught:
        open_inputs(f"{store}/k/?endpoint=127.0.0.1:{server.port}")
    assert "endpoint_override" in caught.value.hint


# ---------------------------------------------------------------- inputs


FILES = (
    "a.parquet", "b.parquet", "_c.parquet", ".d.parquet", "sub/e.parquet", "sub/_f/g.parquet", "sub/deep/h.PARQUET",
    "notes.txt",
)  # fmt: skip
PATTERNS = (
    "",
    "/",
    "/a.parquet",
    "/sub",
    "/?.parquet",
    "/[bc].parquet",
    "/s*",
    "/**/*.parquet",
    "/s*b/*",
    "/**/deep/*",
)


def test_folders_and_patterns_name_the_same_files_as_locally(store: str, tmp_path: Path) -> None:
    same_tree(tmp_path, store, dict.fromkeys(FILES, as_parquet(embeddings(3))))
    for pattern in PATTERNS:
        local = [os.path.relpath(each.name, tmp_path) for each in open_inputs(f"{tmp_path}{pattern}")]
        there = [each.name.removeprefix(f"{store}/") for each in open_inputs(f"{store}{pattern}")]
        assert there == local, pattern
    for pattern, words in (("/*.arrow", "no file matches"), ("/sub/_f/x*", "no file matches"), ("/gone", "not exist")):
        with pytest.raises(InputError, match=words):
            open_inputs(f"{store}{pattern}")
    put(f"{store}/plain/a.txt", b"text")
    with pytest.raises(InputError, match=r"no \*.parquet in this folder"):
        open_inputs(f"{store}/plain/")


def test_identities_and_rows_are_those_of_local_files(store: str, tmp_path: Path) -> None:
    table = embeddings(50)
    files = {"a.parquet": as_parquet(table), "deep/b.arrow": as_ipc(table, pa.ipc.new_file),
             "deep/c.arrows": as_ipc(table, pa.ipc.new_stream)}  # fmt: skip
    same_tree(tmp_path, store, files)
    identities = []
    for root in (str(tmp_path), store):
        for batch_rows in (7, 8192):
            source = open_source([f"{root}/{name}" for name in files], batch_rows=batch_rows)
            vectors = np.concatenate([batch.vectors for batch in source.batches()])
            assert vectors.shape == (150, 8)
            identities.append(source.identity())
    assert all(identity == identities[0] for identity in identities)
    assert [entry["name"] for entry in identities[0]] == ["a.parquet", "deep/b.arrow", "deep/c.arrows"]


def test_local_and_remote_files_are_not_mixed(store: str, tmp_path: Path) -> None:
    same_tree(tmp_path, store, {"a.parquet": as_parquet(embeddings(5))})
    with pytest.raises(InputError, match="files of a store and local ones"):
        open_inputs([f"{store}/a.parquet", str(tmp_path / "a.parquet")])
    np.save(tmp_path / "v.npy", np.ones((5, 8), np.float32))
    with pytest.raises(InputError, match="a file of a store and a local one"):
        open_source(f"{store}/a.parquet", vectors=str(tmp_path / "v.npy"))


# ---------------------------------------------------------------- outputs


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.parquet", ()),
        ("out", ()),
        ("out.parquet", ("--emit", "pairs", "--metric", "cosine", "--band", "violating")),
        ("out", ("--order", "shuffled")),
    ],
)
def test_the_bytes_are_those_of_a_local_run(store: str, tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    same_tree(
        tmp_path / "in",
        f"{store}/in",
        {"a.parquet": as_parquet(embeddings()), "b/c.parquet": as_parquet(embeddings(9, 1, 500))},
    )
    assert mine(str(tmp_path / "in"), "-o", str(tmp_path / name), *options) == 0
    assert mine(f"{store}/in/", "-o", f"{store}/deep/{name}", *options) == 0
    found = objects(f"{store}/deep")
    local = [tmp_path / name] if (tmp_path / name).is_file() else sorted((tmp_path / name).iterdir())
    assert len(found) == len(local) + 1, "the output, its manifest, and nothing else"
    for path in local:
        assert found[path.relative_to(tmp_path).as_posix()] == path.read_bytes()
    manifests = [
        json.loads((tmp_path / f"{name}.manifest.json").read_text()),
        json.loads(found[f"{name}.manifest.json"]),
    ]
    assert manifests[1]["report"]["output"] == f"{store}/deep/{name}"
    for manifest in manifests:
        del manifest["report"], manifest["read"]
    assert manifests[0] == manifests[1]


def test_retrieval_reads_every_table_from_the_store(store: str, tmp_path: Path) -> None:
    qrels = "query-id\tcorpus-id\tscore\n" + "".join(f"{row}\t{row + 1}\t1\n" for row in range(0, 40, 2))
    pairs = pa.table({"query_id": [0, 2], "positive_id": [5, 7]})
    queries, passages = embeddings(40, 1).drop(["label"]), embeddings(90, 2).drop(["label"])
    files = {"q": queries, "c": passages, "ex": pairs, "rows": pa.table({"id": [3]})}
    same_tree(tmp_path, store, {f"{name}.parquet": as_parquet(table) for name, table in files.items()})
    same_tree(tmp_path, store, {"qrels.tsv": qrels.encode()})
    outputs = []
    for root in (str(tmp_path), store):
        given = ("--corpus", f"{root}/c.parquet", "--qrels", f"{root}/qrels.tsv", "--exclude", f"{root}/ex.parquet",
                 "--exclude-rows", f"{root}/rows.parquet", "--band", "any")  # fmt: skip
        assert mine(f"{root}/q.parquet", *given, "-o", f"{root}/out.parquet") == 0
        outputs.append(place_of(f"{root}/out.parquet").read_bytes())
    assert main(["verify", f"{store}/out.parquet", "--sample", "5"]) == 0
    assert outputs[0] == outputs[1]


def test_an_output_is_described_verified_and_exported(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(f"{store}/in/a.parquet", as_parquet(embeddings()))
    for name in ("out.parquet", "out"):
        assert mine(f"{store}/in/a.parquet", "-o", f"{store}/in/{name}") == 0
        found = minestream.describe(f"{store}/in/{name}")
        assert (found["output"], found["rows"]) == (f"{store}/in/{name}", found["counts"]["rows"])
        assert minestream.verify(f"{store}/in/{name}", sample=2, source=f"{store}/in/a.parquet")["anchors"] == 2
    minestream.verify(f"{store}/in/out.parquet", sample=2)  # the source is found where it was
    assert minestream.export(f"{store}/in/out.parquet", tmp_path / "x.parquet", emit="pml")["rows"] == found["rows"]
    source = f"{store}/in/a.parquet"
    assert minestream.compare(source, source)["near_duplicates"]["equal"] == 120
    assert main(["profile", source]) == 0
    raw = bytearray(at(f"{store}/in/out.parquet").read_bytes())
    raw[len(raw) // 3] ^= 1
    put(f"{store}/in/out.parquet", bytes(raw))
    assert main(["verify", f"{store}/in/out.parquet", "--sample", "0"]) == 1
    at(f"{store}/in/out.manifest.json").unlink()
    with pytest.raises(InputError, match="not complete"):
        minestream.describe(f"{store}/in/out")


def test_every_command_writes_to_a_store(store: str, server: Proxy, tmp_path: Path) -> None:
    texts = pa.array([f"text {row}" for row in range(120)])
    table = embeddings().append_column("text", texts).set_column(0, "id", pa.array([f"d{row}" for row in range(120)]))
    same_tree(tmp_path / "in", f"{store}/in", {"a.parquet": as_parquet(table)})
    assert mine(f"{tmp_path}/in/a.parquet", "-o", f"{tmp_path}/m.parquet", "-k", "3", "--carry", "text") == 0
    mined = pq.read_table(tmp_path / "m.parquet")
    ends = pa.concat_arrays([mined[f"{end}_id"].combine_chunks() for end in ("positive", "negative")])
    query = pa.concat_arrays(2 * [mined["anchor_id"].combine_chunks()])
    scored = pa.table({"query_id": query, "document_id": ends}).group_by(["query_id", "document_id"]).aggregate([])
    pq.write_table(scored.append_column("score", pa.array([0.5] * len(scored))), tmp_path / "s.parquet")

    def write_all(root: str) -> None:
        minestream.export(tmp_path / "m.parquet", f"{root}/x.parquet", emit="st-triplets", overwrite=True)
        minestream.export(tmp_path / "m.parquet", f"{root}/x.jsonl", emit="flagembedding", overwrite=True)
        minestream.refilter(
            tmp_path / "m.parquet", f"{root}/r.parquet", scores=tmp_path / "s.parquet", negatives=1, overwrite=True
        )
        minestream.fit(tmp_path / "in", f"{root}/l.npz", epochs=1, progress="none", overwrite=True)
        minestream.apply(tmp_path / "l.npz", tmp_path / "in", f"{root}/p.parquet", overwrite=True)
        minestream.compare(tmp_path / "in", tmp_path / "in", out=f"{root}/c.parquet", overwrite=True)
        minestream.profile(tmp_path / "in", f"{root}/look", overwrite=True, progress="none")

    (tmp_path / "out").mkdir()
    minestream.fit(tmp_path / "in", tmp_path / "l.npz", epochs=1, progress="none")
    for _ in range(2):  # the second time in place of the first
        write_all(f"{store}/out")
        write_all(str(tmp_path / "out"))
    found = objects(f"{store}/out")
    local = {path.relative_to(tmp_path / "out").as_posix(): path for path in (tmp_path / "out").rglob("*.*")}
    assert found.keys() == local.keys()
    timed = {"look/profile.json", "look/report.html"}
    assert [name for name in local.keys() - timed if found[name] != local[name].read_bytes()] == []
    put(f"{store}/theirs.parquet", as_parquet(table))
    put(f"{store}/look/suspects.parquet", as_parquet(table))
    with pytest.raises(OutputError, match="did not write it"):
        minestream.export(tmp_path / "m.parquet", f"{store}/theirs.parquet", emit="pml", overwrite=True)
    with pytest.raises(OutputError, match="did not write"):
        minestream.profile(tmp_path / "in", f"{store}/look", overwrite=True, progress="none")
    server.faults[:] = [Fault(403, method="PUT")]
    with pytest.raises(OutputError, match="permission denied"):
        minestream.export(tmp_path / "m.parquet", f"{store}/new.parquet", emit="pml")


@pytest.mark.parametrize("given", ["{}/in/a.parquet", "{}/in", "{}/in/", "{}/i*/*.parquet", "{}/**/*.parquet"])
@pytest.mark.parametrize("out", ["{}/in/a.parquet", "S3{}/in/a.parquet", "{}/in/a.parquet/", "{}/in", "{}"])
def test_an_object_that_is_read_is_never_written_over(store: str, given: str, out: str) -> None:
    put(f"{store}/in/a.parquet", as_parquet(embeddings()))
    before = objects(store)
    named = out.format(store.removeprefix("s3") if out.startswith("S3") else store)
    assert mine(given.format(store), "-o", named, "--overwrite") == 5
    assert objects(store) == before


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_what_stands_there_is_replaced_only_when_asked(store: str, name: str, tmp_path: Path) -> None:
    put(f"{store}/a.parquet", as_parquet(embeddings()))
    out = f"{store}/{name}"
    for part in range(2):
        put(f"{out}/part-0000{part}.parquet", b"old")
    assert mine(f"{store}/a.parquet", "-o", out, "--overwrite") == 5, "minestream did not write it"
    old = tmp_path / "old.parquet"
    write_rows(old, rows_table(5).schema, [rows_table(5)], {"minestream.version": "x"})
    for part in range(2):
        at(f"{out}/part-0000{part}.parquet").upload(old)
    assert mine(f"{store}/a.parquet", "-o", out) == 5
    assert mine(f"{store}/a.parquet", "-o", out, "--resume") == 5
    assert mine(f"{store}/a.parquet", "-o", out, "--overwrite") == 0
    assert sorted(objects(store)) == sorted(
        ["a.parquet", f"{name}.manifest.json", *([name] if name == "out.parquet" else ["out/part-00000.parquet"])]
    )
    assert mine(f"{store}/a.parquet", "-o", out, "--resume") == 0, "it is complete already"
    put(f"{store}/a.parquet", as_parquet(embeddings(seed=1)))
    assert mine(f"{store}/a.parquet", "-o", out, "--resume") == 5, "it is of other rows"
    put(f"{store}/other/notes.txt", b"mine")
    put(f"{store}/third.partial/notes.txt", b"mine")
    assert mine(f"{store}/a.parquet", "-o", f"{store}/other", "--overwrite") == 5
    assert mine(f"{store}/a.parquet", "-o", f"{store}/third", "--overwrite") == 5
    assert {"other/notes.txt", "third.partial/notes.txt"} <= set(objects(store))


# ---------------------------------------------------------------- failures


TROUBLES: tuple[str | int, ...] = (500, 503, "drop", "slow", "cut")


@pytest.mark.parametrize("kind", TROUBLES)
def test_what_passes_soon_changes_nothing(store: str, server: Proxy, kind: str | int, expected: bytes) -> None:
    put(f"{store}/a.parquet", as_parquet(embeddings()))
    faults = [
        Fault(kind, 1, method, path) for method, path in (("GET", "a.parquet"), ("HEAD", "a.parquet"), ("GET", "list"))
    ]
    faults += [Fault(kind, 2, "PUT", piece) for piece in ("parts/", "part-00000.json", "out.parquet?", "manifest.json")]
    faults += [Fault(kind, 1, "PUT", "/out.parquet"), Fault(kind, 1, "POST", ""), Fault(kind, 1, "DELETE", "")]
    server.faults[:] = faults
    assert mine(f"{store}/a.parquet", "-o", f"{store}/out.parquet") == 0
    assert sum(fault.hits for fault in faults) >= 6
    server.faults.clear()
    assert sorted(objects(store)) == ["a.parquet", "out.parquet", "out.parquet.manifest.json"]
    assert objects(store)["out.parquet"] == expected


LASTING = [  # the kind, the requests that it meets for good, what bears a final name then
    (500, "GET", "a.parquet", ()),
    (503, "HEAD", "a.parquet", ()),
    ("cut", "GET", "a.parquet", ()),
    (500, "PUT", "out.parquet.partial/manifest.json", ()),
    (503, "PUT", "parts/part-00000", ()),
    ("drop", "PUT", "part-00000.json", ()),
    (503, "PUT", r"/out\.parquet(\?|$)", ()),
    (500, "PUT", "out.parquet.manifest.json", ("out.parquet",)),
]


@pytest.mark.parametrize(("kind", "method", "path", "final"), LASTING)
def test_what_lasts_is_transient_and_resumed(
    store: str, server: Proxy, kind: str | int, method: str, path: str, final: tuple[str, ...], expected: bytes,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    put(f"{store}/a.parquet", as_parquet(embeddings()))
    server.faults[:] = [Fault(kind, 1_000, method, path)]
    assert mine(f"{store}/a.parquet", "-o", f"{store}/out.parquet") == 75
    assert "try again" in capsys.readouterr().err
    assert system_stores.ATTEMPTS <= server.faults[0].hits <= 4 * system_stores.ATTEMPTS
    server.faults.clear()
    found = objects(store)
    assert {name for name in found if not name.startswith("out.parquet.partial/")} == {"a.parquet", *final}
    assert all(found[name] == expected for name in final)
    assert mine(f"{store}/a.parquet", "-o", f"{store}/out.parquet", "--resume") == 0
    assert sorted(objects(store)) == ["a.parquet", "out.parquet", "out.parquet.manifest.json"]
    assert objects(store)["out.parquet"] == expected


def test_a_store_that_says_nothing_is_given_up(store: str, server: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_stores, "ANSWER_SECONDS", 1)
    monkeypatch.setattr(system_stores, "ATTEMPTS", 1)
    server.faults[:] = [Fault("stall")]
    with pytest.raises(TransientError, match="does not answer"):
        open_inputs(f"{store}/a.parquet")


@pytest.mark.parametrize(
    ("arguments", "fault", "code", "words"),
    [
        (("{}/a.parquet", "-o", "{}/out.parquet"), Fault(403, path="a.parquet"), 3, "permission denied"),
        (("{}/folder/", "-o", "{}/out.parquet"), Fault(403, path="prefix=folder"), 3, "permission denied"),
        (("{}/a.parquet", "-o", "{}/out.parquet"), Fault(403, method="PUT"), 5, "permission denied"),
        (("s3://nowhere/a.parquet", "-o", "{}/out.parquet"), None, 3, "check the bucket"),
        (("s3://nowhere/*.parquet", "-o", "{}/out.parquet"), None, 3, "check the bucket"),
        (("{}/a.parquet", "-o", "s3://nowhere/out.parquet"), None, 5, "no such bucket"),
        (("{}/a.parquet", "-o", "{}"), None, 5, "a bucket alone"),
    ],
)
def test_refusals_are_no_transient_failures(
    store: str, server: Proxy, arguments: tuple[str, ...], fault: Fault | None, code: int, words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    put(f"{store}/a.parquet", as_parquet(embeddings()))
    server.faults[:] = [fault] if fault else []
    assert mine(*(each.format(store) for each in arguments)) == code
    told = capsys.readouterr().err
    assert words in told
    assert "hint:" in told
    assert fault is None or fault.hits == 1, "it is not tried again"
    server.faults.clear()
    assert list(objects(store)) == ["a.parquet"]


def big_file(folder: Path) -> Path:
    """More than one part of an upload: these are of 10 MB."""
    (folder / "big").write_bytes(np.random.default_rng(0).bytes(12 << 20))
    return folder / "big"


@pytest.mark.parametrize("fault", [("PUT", "partNumber=2"), ("POST", r"big\?uploadId"), ("POST", "uploads")])
def test_an_upload_of_several_parts_fails_whole(
    store: str, server: Proxy, tmp_path: Path, fault: tuple[str, str]
) -> None:
    path = big_file(tmp_path)
    server.faults[:] = [Fault(500, 1_000, *fault)]
    with pytest.raises(TransientError):
        at(f"{store}/big").upload(path)
    assert server.faults[0].hits == 2 * system_stores.ATTEMPTS
    server.faults.clear()
    assert objects(store) == {}
    at(f"{store}/big").upload(path)
    assert objects(store)["big"] == path.read_bytes()
    at(f"{store}/big").download(tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == path.read_bytes()


def test_an_upload_that_is_interrupted_leaves_no_object(store: str, tmp_path: Path) -> None:
    path = big_file(tmp_path)
    script = f"""
import signal
from pathlib import Path
from minestream.system import interrupts as signals, paths as places
from minestream.system.paths import place_of
def check():
    raise KeyboardInterrupt
signals.check = check
try:
    place_of("{store}/big").upload(Path("{path}"))
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "interrupted\n"
    assert objects(store) == {}


def test_a_folder_half_replaced_does_not_look_whole(store: str, server: Proxy) -> None:
    put(f"{store}/a.parquet", as_parquet(embeddings()))
    assert mine(f"{store}/a.parquet", "-o", f"{store}/out") == 0
    server.faults[:] = [Fault(500, 1_000, "PUT", "/out/part-00000")]
    assert mine(f"{store}/a.parquet", "-o", f"{store}/out", "--overwrite", "--margin", "0.3") == 75
    server.faults.clear()
    assert not [name for name in objects(store) if not name.startswith(("a.parquet", "out.partial/"))]
    assert mine(f"{store}/a.parquet", "-o", f"{store}/out", "--resume", "--margin", "0.3") == 0
    assert minestream.describe(f"{store}/out")["config"]["margin"] == 0.3


# ---------------------------------------------------------------- resume


KILLED = """
import os, signal, sys
sys.path[:0] = {tests!r}
import stores
from minestream.system.paths import RemotePath
left = {moment}
def kill_at(real):
    def wrapped(self, *arguments, **options):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *arguments, **options)
    return wrapped
for name in ("upload", "write_bytes", "unlink", "remove_all"):
    setattr(RemotePath, name, kill_at(getattr(RemotePath, name)))
stores.make_all({out!r}, resume=True)
"""


@pytest.mark.parametrize(("name", "moments"), [("out.parquet", (2, 5, 11)), ("out", (12, 15))])
def test_kill_9_at_any_moment_then_resume(
    store: str, name: str, moments: tuple[int, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_all(f"{store}/whole/{name}")
    whole, written = objects(f"{store}/whole"), []
    write = RemotePath.write_bytes
    monkeypatch.setattr(RemotePath, "write_bytes", lambda self, data: (written.append(self.name), write(self, data))[1])
    for moment in moments:
        folder = f"{store}/{moment}"
        script = KILLED.format(tests=FOLDERS, out=f"{folder}/{name}", moment=moment)
        environment = os.environ | {"TMPDIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        left = objects(folder)
        assert name not in left or left[name] == whole[name]
        assert f"{name}.manifest.json" not in left or set(whole) <= set(left)
        finished = [place for place in left if ".partial/part-" in place]
        written.clear()
        if stores.target_of(f"{folder}/{name}").check(resume=True, overwrite=False) is None:
            make_all(f"{folder}/{name}", resume=True)
            assert len([place for place in written if place.startswith("part-")]) == 3 - len(finished)
        assert objects(folder) == whole


def test_a_command_killed_after_its_first_part_goes_on(store: str, server: Proxy, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((17_000, 4)).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 4)
    table = pa.table({"label": pa.array(np.arange(17_000) % 500), "embedding": column})
    same_tree(tmp_path, store, {"a.parquet": as_parquet(table)})
    process: list[subprocess.Popen[bytes]] = []

    def kill(method: str, path: str) -> None:
        if method == "PUT" and path.endswith("part-00000.json"):
            process[0].kill()

    server.answered = kill
    command = ["mine", f"{store}/a.parquet", "-o", f"{store}/out.parquet", "--progress", "none", "--threads", "1"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process.append(subprocess.Popen([sys.executable, "-m", "minestream", *command], env=environment))
    assert process[0].wait(timeout=120) == -signal.SIGKILL
    assert not [name for name in objects(store) if not name.startswith(("a.parquet", "out.parquet.partial/"))]
    server.seen.clear()
    assert main([*command, "--resume"]) == 0
    written = [path.rpartition("/")[2] for method, path in server.seen if method == "PUT"]
    assert "part-00001.parquet" in written
    assert "part-00000.parquet" not in written
    assert mine(str(tmp_path / "a.parquet"), "-o", str(tmp_path / "out.parquet")) == 0
    assert objects(store)["out.parquet"] == (tmp_path / "out.parquet").read_bytes()


def test_the_folders_of_killed_runs_are_removed_after_a_day(tmp_path: Path) -> None:
    """Whatever is left in them: a lock, unfinished work, or the output that was being sent."""
    for name in ("old", "sent", "new", "running"):
        folder = tmp_path / f"{stores.STAGED}{name}"
        (folder / "out.parquet.partial").mkdir(parents=True)
        (folder / "out.parquet.partial" / ("single.tmp" if name == "sent" else "lock")).touch()
    with open(tmp_path / f"{stores.STAGED}running" / "out.parquet.partial" / "lock", "rb") as lock:
        take_lock(lock.fileno(), tmp_path)
        for name in ("old", "sent", "running"):
            os.utime(tmp_path / f"{stores.STAGED}{name}", (0, 0))
        made = stores.stage(tmp_path)
    left = [tmp_path / f"{stores.STAGED}{name}" for name in ("new", "running")]
    assert sorted(tmp_path.iterdir()) == sorted([made, *left])


# ---------------------------------------------------------------- two runs, one output


def write_part(run: Run, index: int) -> None:
    run.write_part(index, [rows_table(5, 100 * index)], lambda: {"rows": 5})


def test_a_run_that_another_took_over_stops_and_leaves_everything_to_it(store: str) -> None:
    make_all(f"{store}/whole/out.parquet")
    with begin(f"{store}/out.parquet") as first:
        write_part(first, 0)
        with pytest.raises(OutputError, match="unfinished work lies in s3://") as caught:
            begin(f"{store}/out.parquet")
        assert "still writes it stops then" in caught.value.hint
        with begin(f"{store}/out.parquet", resume=True) as second:
            with pytest.raises(OutputError, match=r"another run took over s3://.*/out\.parquet") as caught:
                write_part(first, 1)
            assert "resume=True" in caught.value.hint
            assert "out.parquet.partial/parts/part-00001.parquet" not in objects(store)
            assert second.finished(0)
            with pytest.raises(OutputError, match="took over"):
                first.collect(0)
            first.__exit__(None, None, None)
            for index in (1, 2):
                write_part(second, index)
            second.publish(counts=lambda: COUNTS, extra=dict)
        with pytest.raises(OutputError, match="is over"):
            write_part(first, 1)
    with pytest.raises(OutputError, match=r"another run has completed s3://.*/out\.parquet meanwhile"):
        begin(f"{store}/out.parquet", resume=True)
    assert {f"whole/{name}": data for name, data in objects(store).items() if "/" not in name} == {
        f"whole/{name}": data for name, data in objects(f"{store}/whole").items()
    }


def test_a_run_without_parts_removes_nothing_of_the_run_that_took_over(store: str) -> None:
    with begin(f"{store}/out"):
        second = begin(f"{store}/out", overwrite=True)
    assert list(objects(store)) == ["out.partial/manifest.json"]
    second.check()
    second.__exit__(None, None, None)
    assert objects(store) == {}


@pytest.mark.parametrize(
    ("name", "under_way"),
    [("out.parquet", ""), ("out", ""), ("out", "part-00001"), ("out", "part-00002"), ("out.parquet", "out.parquet")],
)
def test_a_run_that_is_taken_over_while_it_publishes_does_not_finish(
    store: str, monkeypatch: pytest.MonkeyPatch, name: str, under_way: str
) -> None:
    """Taken over before it sends the output, or with an object of it under way."""
    make_all(f"{store}/whole/{name}")
    whole, out, others, upload = objects(f"{store}/whole"), f"{store}/{name}", [], RemotePath.upload

    def taken_over(self: RemotePath, path: Path) -> None:
        upload(self, path)
        if not others and self.name.startswith(under_way):
            others.append(begin(out, resume=True))

    make_all(out, margin=0.3)
    old = {key: data for key, data in objects(store).items() if not key.startswith("whole/")}
    with begin(out, overwrite=True) as first:
        for index in range(3):
            write_part(first, index)
        if not under_way:
            others.append(begin(out, resume=True))
        monkeypatch.setattr(RemotePath, "upload", taken_over)
        with pytest.raises(OutputError, match="another run took over"):
            first.publish(counts=lambda: COUNTS, extra=dict)
    left = {key: data for key, data in objects(store).items() if not key.startswith(("whole/", f"{name}.partial/"))}
    if not under_way:
        assert left == old, "what stood there is not removed"
    else:
        assert (f"{name}.manifest.json" in left) == (name == "out.parquet"), "half a folder does not look complete"
        assert ("out/part-00002.parquet" in left) == (under_way == "part-00002")
    (second,) = others
    with second:
        second.publish(counts=lambda: COUNTS, extra=dict)
    assert {key: data for key, data in objects(store).items() if not key.startswith("whole/")} == whole


def test_of_two_runs_that_begin_at_once_one_makes_the_output(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_all(f"{store}/whole/out")
    both, check, ended = Barrier(2, timeout=60), stores.RemoteOutput.check, []

    def check_together(self: stores.RemoteOutput, **how: bool) -> Any:
        found = check(self, **how)
        both.wait()
        return found

    def work() -> None:
        try:
            make_all(f"{store}/out")
            ended.append("done")
        except OutputError as error:
            ended.append(error.message)

    monkeypatch.setattr(stores.RemoteOutput, "check", check_together)
    runs = [Thread(target=work) for _ in range(2)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    assert sorted(map("done".__eq__, ended)) == [False, True], ended
    found = objects(store)
    assert {name: data for name, data in found.items() if not name.startswith("whole/")} == objects(f"{store}/whole")


@pytest.mark.parametrize(
    ("name", "sent"), [("out.parquet", "out.parquet"), ("out", "part-00000"), ("out", "part-00001")]
)
def test_a_run_that_sends_its_output_is_not_stopped_by_one_that_began_with_it(
    store: str, monkeypatch: pytest.MonkeyPatch, name: str, sent: str
) -> None:
    """Whose first look found nothing, and which may replace nothing: one of the two has to make the output."""
    make_all(f"{store}/whole/{name}")
    out, others, upload = f"{store}/{name}", [], RemotePath.upload
    with begin(out) as first, monkeypatch.context() as patched:
        for index in range(3):
            write_part(first, index)

        def begun_late(self: RemotePath, path: Path) -> None:
            upload(self, path)
            if not others and self.name.startswith(sent):
                patched.setattr(stores.RemoteOutput, "check_unfinished", lambda self, **_: None)
                others.append(begin(out))
                write_part(others[0], 0)

        patched.setattr(RemotePath, "upload", begun_late)
        first.publish(counts=lambda: COUNTS, extra=dict)
    (second,) = others
    with second, pytest.raises(OutputError, match="is over"):
        write_part(second, 1)
    found = objects(store)
    assert {key: data for key, data in found.items() if not key.startswith("whole/")} == objects(f"{store}/whole")


def test_what_a_run_that_was_taken_over_wrote_last_counts_for_the_same_work_alone(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = stores.target_of(f"{store}/out")
    with begin(f"{store}/out", margin=0.3) as first, monkeypatch.context() as patched:
        second = begin(f"{store}/out", overwrite=True)
        patched.setattr(first, "check", lambda: None)  # it looked just before it was taken over
        write_part(first, 0)
    write_part(second, 1)
    worker = PartWriter(out, second.plan)
    assert (worker.finished(0), worker.finished(1) is not None) == (None, True)
    second.__exit__(None, None, None)
    with begin(f"{store}/out", resume=True) as third:
        assert (third.finished(0), third.finished(1) is not None) == (None, True)
        out.partial.remove_all()  # another run has published meanwhile
        patched.setattr(third, "check", lambda: None)
        write_part(third, 2)
    assert sorted(objects(store)) == ["out.partial/part-00002.json", "out.partial/parts/part-00002.parquet"]
    make_all(f"{store}/out")
    assert not [name for name in objects(store) if ".partial" in name]


# ---------------------------------------------------------------- other stores, and what is never said


def test_no_credentials_are_told(store: str, server: Proxy, capsys: pytest.CaptureFixture[str]) -> None:
    put(f"{store}/a.parquet", as_parquet(embeddings()))
    secret = store.replace("s3://", "s3://my-user:my-secret@")
    query = f"?endpoint_override=127.0.0.1:{server.port}&scheme=http&region=us-east-1"
    given = (f"{secret}/a.parquet{query}", "-o", f"{secret}/out.parquet{query}")
    assert mine(*given, "--json") == 0
    assert mine(*given) == 5
    assert mine(f"{secret}/gone{query}", "-o", f"{secret}/x.parquet{query}") == 3
    server.faults[:] = [Fault(500)]
    assert mine(*given, "--overwrite") == 75
    server.faults.clear()
    captured = capsys.readouterr()
    told = captured.out + captured.err + "".join(map(str, objects(store).values()))
    assert f"{store}/out.parquet" in told
    for word in ("my-user", "my-secret", "endpoint_override", ENVIRONMENT["AWS_SECRET_ACCESS_KEY"]):
        assert word not in told


def test_another_scheme_through_fsspec(expected: bytes) -> None:
    put("memory://folder/a.parquet", as_parquet(embeddings()))
    for name in ("out.parquet", "out"):
        assert mine("memory://folder/*.parquet", "-o", f"memory://results/{name}") == 0
        assert mine("memory://folder/*.parquet", "-o", f"memory://results/{name}") == 5
        assert minestream.describe(f"memory://results/{name}")["output"] == f"memory://results/{name}"
    assert at("memory://results/out.parquet").read_bytes() == expected


def test_local_work_opens_no_connection(store: str, server: Proxy, tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(as_parquet(embeddings()))
    server.seen.clear()
    assert mine(str(tmp_path / "a.parquet"), "-o", str(tmp_path / "out.parquet")) == 0
    assert server.seen == []
