"""Data is read from this machine, from a store and over HTTP; a URL holds no credentials."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.training.written_data import write_data
from training.data.content import contents_of
from training.data.conversations import load
from training.data.sources import SourceError, files_of
from training.data.tables import RowReader, read_rows, rows_in

PARQUET = (".parquet",)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp("stored") / "msmu", 10)


class _Ranges(SimpleHTTPRequestHandler):
    """Serves ranges, as stores do; counts the bytes."""

    sent = 0

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not asked or not path.is_file():
            super().do_GET()
            return
        content = path.read_bytes()[int(asked[1]) : int(asked[2]) + 1]
        type(self).sent += len(content)
        self.send_response(206)
        self.send_header("Content-Length", str(len(content)))
        self.send_header(
            "Content-Range", f"bytes {asked[1]}-{int(asked[1]) + len(content) - 1}/"
            f"{path.stat().st_size}",
        )  # fmt: skip
        self.end_headers()
        self.wfile.write(content)

    def end_headers(self) -> None:
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()


@pytest.fixture
def served(tmp_path, monkeypatch) -> Iterator[str]:
    pytest.importorskip("aiohttp", reason="aiohttp reads http:// URLs")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Ranges, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_store_lists_and_reads_as_a_folder_does(data):
    fsspec.filesystem("memory").put(str(data), "/bucket/msmu", recursive=True)
    local, stored = files_of(data, PARQUET), files_of("memory://bucket/msmu", PARQUET)
    assert [file.name for file in stored] == [file.name for file in local]
    assert [file.size for file in stored] == [file.size for file in local]
    assert [file.sha256() for file in stored] == [file.sha256() for file in local]
    ours, theirs = list(load(data, "train")), list(load("memory://bucket/msmu", "train"))
    assert len(ours) == len(theirs) == 20
    for one, other in zip(ours, theirs, strict=True):
        assert one.turns == other.turns
        np.testing.assert_array_equal(one.rgb, other.rgb)
    (single,) = files_of("memory://bucket/msmu/train-00001.parquet", PARQUET)
    assert (single.name, rows_in(single)) == ("train-00001.parquet", 10)


def test_data_is_read_over_http_and_only_what_is_asked_for_is_transferred(served, data, tmp_path):
    (tmp_path / "msmu").mkdir()
    for file in data.iterdir():
        os.link(file, tmp_path / "msmu" / file.name)
    assert len(list(load(f"{served}/msmu", "train"))) == 20
    noise = np.random.default_rng(0)
    with pq.ParquetWriter(tmp_path / "train.parquet", pa.schema([("a", pa.binary())])) as writer:
        for _ in range(20):
            writer.write_table(pa.table({"a": [noise.bytes(1 << 16) for _ in range(16)]}))
    (file,) = files_of(f"{served}/train.parquet", PARQUET)
    _Ranges.sent = 0
    assert len(next(read_rows(file, start=50))["a"]) == 1 << 16
    assert 0 < _Ranges.sent < file.size / 2


def test_a_package_that_is_absent_is_named_when_its_protocol_is_used():
    try:
        import s3fs  # noqa: F401
    except ImportError:
        with pytest.raises(SourceError, match="s3:// needs: pip install s3fs"):
            files_of("s3://bucket/msmu", PARQUET)
    else:
        pytest.skip("s3fs is installed")


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:secret@bucket/msmu",
        "https://user@host/msmu",
        "https://host/msmu?X-Amz-Signature=abc",
        "hf://datasets/a/b#token",
    ],
)
def test_a_url_that_may_hold_credentials_is_refused_without_repeating_them(url):
    with pytest.raises(SourceError, match="in the environment") as caught:
        files_of(url, PARQUET)
    assert not re.search("secret|abc|token", str(caught.value))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("ftp://host/msmu", "ftp:// is not read; known: file, memory, s3"),
        ("simplecache::s3://bucket/msmu", "simplecache::s3:// is not read"),
        ("memory://nowhere/at/all", "memory://nowhere/at/all holds no .parquet"),
        ("/no/such/folder", "/no/such/folder does not exist"),
    ],
)
def test_a_place_that_cannot_be_read_is_named(place, message):
    with pytest.raises(SourceError, match=re.escape(message)):
        list(load(place, "train"))


@pytest.mark.parametrize("form", ["parquet", "arrow", "arrow file"])
def test_rows_are_found_by_number_forward_and_backward(tmp_path, form):
    table = pa.table({"a": range(50)})
    path = tmp_path / f"train.{form.split()[0]}"
    if form == "parquet":
        pq.write_table(table, path, row_group_size=7)
    else:
        new = pa.ipc.new_file if form == "arrow file" else pa.ipc.new_stream
        with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=9)
    (file,) = files_of(path, PARQUET)
    reader = RowReader(file)
    assert rows_in(file) == 50
    for start, stop in [(0, 5), (5, 16), (30, 44), (14, 20), (49, 60), (50, 60)]:
        found = [row["a"] for row in reader.rows(start, stop)]
        assert found == list(range(start, min(stop, 50)))


def test_the_content_of_a_file_is_read_once_until_the_file_changes(data, tmp_path):
    file = tmp_path / "train.parquet"
    file.write_bytes((data / "train-00000.parquet").read_bytes())
    first = contents_of(files_of(tmp_path, PARQUET), tmp_path / "cache")
    (record,) = (tmp_path / "cache").iterdir()
    written = record.stat().st_mtime_ns
    assert contents_of(files_of(tmp_path, PARQUET), tmp_path / "cache") == first
    assert record.stat().st_mtime_ns == written
    file.write_bytes((data / "train-00001.parquet").read_bytes())
    assert contents_of(files_of(tmp_path, PARQUET), tmp_path / "cache") != first
