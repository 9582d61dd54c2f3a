"""A bag that expands to gigabytes is refused: by declared sizes first, then while it expands."""

from __future__ import annotations

import io
import json
import sqlite3
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml
from backports import zstd

from sdvlm_core.camera import bag_reader
from sdvlm_core.camera.bags import open_bag, stream
from sdvlm_core.errors import BagError
from tests import bags
from tests.paths import ROOT
from tests.replays import bag_of

GIB = 1 << 30
#: Opens a bag and reads all its messages; prints the error and the growth of memory, MB.
READ = """
import json, resource, sys
from pathlib import Path
from sdvlm_core.camera import bag_reader
from sdvlm_core.camera.bags import open_bag, stream
from sdvlm_core.errors import BagError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_FSIZE, (bag_reader.MIN_EXPANDED_BYTES,) * 2)
error = ""
try:
    with open_bag(Path(sys.argv[1])) as reader:
        for _ in stream(reader, {c.topic for c in reader.connections}):
            pass
except BagError as refused:
    error = str(refused)
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([error, grown // 1024]))
"""


def read(bag: Path, folder: Path) -> str:
    """The error, in a process whose memory and temporary folder are checked."""
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", READ, str(bag)],
        cwd=ROOT,
        env={"TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    error, megabytes = json.loads(done.stdout)
    assert megabytes < 600
    assert not [*folder.iterdir()]
    return str(error)


def zeros(size: int, declared: bool, head: bytes = b"") -> bytes:
    """One zstd frame of `head` and zeros, `size` bytes in all."""
    compressor = zstd.ZstdCompressor(level=1)
    if declared:
        compressor.set_pledged_input_size(size)
    block = bytes(1 << 24)
    parts = [compressor.compress(head)]
    left = size - len(head)
    while left:
        parts.append(compressor.compress(block[:left]))
        left -= min(left, len(block))
    return b"".join([*parts, compressor.flush()])


@pytest.mark.parametrize("declared", [True, False])
def test_a_compressed_file_of_gigabytes_is_refused(tmp_path: Path, declared: bool) -> None:
    bag = bag_of(tmp_path / "bag", 2, compression="FILE")
    bomb = zeros(3 * GIB, declared, b"\x89MCAP0\r\n")
    (bag / "bag.mcap.zstd").write_bytes(bomb)
    assert len(bomb) < 500_000
    error = read(bag, tmp_path / "tmp")
    assert f"{len(bomb)} bytes expand to" in error
    assert (str(3 * GIB) in error) is declared
    assert "zstd -d" in error


def test_several_files_share_one_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    monkeypatch.setattr(bag_reader, "MIN_EXPANDED_BYTES", 8 << 20)
    bag = bag_of(tmp_path / "bag", 2, compression="FILE")
    names = [f"{n}.mcap.zstd" for n in range(5)]
    for name in names:
        (bag / name).write_bytes(zeros(2 << 20, declared=False))
    document = yaml.safe_load((bag / "metadata.yaml").read_text())
    document["rosbag2_bagfile_information"]["relative_file_paths"] = names
    (bag / "metadata.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(BagError, match="expand to more than"), open_bag(bag):
        pass
    assert not [*temporary.iterdir()]


def test_nothing_stays_in_the_temporary_folder(tmp_path: Path, temporary: Path) -> None:
    for compression in ("FILE", "MESSAGE"):
        bag = bag_of(tmp_path / compression, 2, compression=compression)
        with open_bag(bag) as reader:
            assert [*temporary.iterdir()]
            assert reader.path == bag
        assert not [*temporary.iterdir()]


def test_without_space_for_the_declared_size_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    bag = bag_of(tmp_path / "bag", 2, compression="FILE")
    (bag / "bag.mcap.zstd").write_bytes(zeros(1 << 20, declared=True))
    full = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(bag_reader.shutil, "disk_usage", lambda path: full)
    with pytest.raises(BagError, match="1000 free: free some space, or set TMPDIR"), open_bag(bag):
        pass


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
def test_a_compressed_message_of_a_gigabyte_is_refused(
    tmp_path: Path, storage: str, declared: bool
) -> None:
    bomb = zeros(GIB, declared)
    bag = bags.write_bag(
        tmp_path / "bag",
        [bags.Record(bags.RGB, bags.IMAGE, bags.START_NS, bomb)],
        storage=storage,
    )
    document = yaml.safe_load((bag / "metadata.yaml").read_text())
    compressed = {"compression_mode": "MESSAGE", "compression_format": "zstd"}
    document["rosbag2_bagfile_information"].update(compressed)
    (bag / "metadata.yaml").write_text(yaml.safe_dump(document))
    error = read(bag, tmp_path / "tmp")
    assert f"of {len(bomb)} bytes expands to more than {bag_reader.MAX_MESSAGE_BYTES}" in error


def with_chunks(path: Path, chunks: list[tuple[bytes, int, str]]) -> Path:
    """An mcap file of one channel, no index, and these chunks: data, declared size, compression."""
    intact = bag_of(path, 1, compression="NONE") / "bag.mcap"
    original = intact.read_bytes()
    (length,) = struct.unpack_from("<Q", original, 9)
    out = io.BytesIO()
    out.write(original[: 17 + length])
    for data, declared, compression in chunks:
        name = compression.encode()
        body = struct.pack("<QQQII", 1, 2, declared, 0, len(name)) + name
        body += struct.pack("<Q", len(data)) + data
        out.write(b"\x06" + struct.pack("<Q", len(body)) + body)
    out.write(b"\x02" + struct.pack("<QQQI", 20, 0, 0, 0) + b"\x89MCAP0\r\n")
    target = path / "chunks.mcap"
    target.write_bytes(out.getvalue())
    return target


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize("declared", [1000, GIB])
def test_a_chunk_of_a_gigabyte_is_refused_whatever_it_declares(
    tmp_path: Path, compression: str, declared: int
) -> None:
    if compression == "zstd":
        bomb = zeros(GIB, declared=False)
    else:
        import lz4.frame

        compressor = lz4.frame.LZ4FrameCompressor()
        parts = [compressor.begin()]
        parts += [compressor.compress(bytes(1 << 24)) for _ in range(64)]
        bomb = b"".join([*parts, compressor.flush()])
    error = read(with_chunks(tmp_path / "bag", [(bomb, declared, compression)]), tmp_path / "tmp")
    limit = min(declared, bag_reader.MAX_MESSAGE_BYTES)
    assert f"of {len(bomb)} bytes expands to more than {limit} bytes" in error


def test_chunks_that_overlap_in_time_are_bounded_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = bag_of(tmp_path / "bag", 3, compression="STORAGE")
    monkeypatch.setattr(bag_reader, "MAX_OPEN_CHUNKS_BYTES", 10_000)
    reason = "overlap in time, more than 10000; sort them: mcap sort"
    with pytest.raises(BagError, match=reason), open_bag(bag):
        pass


def test_a_database_that_computes_its_messages_is_bounded(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 1, storage="SQLITE3")
    database = sqlite3.connect(bag / "bag.db3")
    database.executescript(
        "DROP TABLE messages; CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER, "
        "timestamp INTEGER, data BLOB GENERATED ALWAYS AS (zeroblob(900000000)));"
        "INSERT INTO messages(topic_id, timestamp) SELECT id, 5 FROM topics;"
    )
    database.close()
    assert "too big" in read(bag, tmp_path / "tmp")


def test_a_large_but_ordinary_bag_is_read(tmp_path: Path, temporary: Path) -> None:
    """A picture of one colour expands 1000 times; a small bag may."""
    import numpy as np

    rgb = np.full((1080, 1920, 3), 90, np.uint8)
    depth = np.full((1080, 1920), 900, np.uint16)
    records = [r for n in range(2) for r in bags.frame(n, rgb=rgb, depth=depth)]
    for mode in ("FILE", "MESSAGE", "STORAGE"):
        bag = bags.write_bag(tmp_path / mode, records, compression=mode)
        with open_bag(bag) as reader:
            data = [bytes(d) for _, _, d in stream(reader, {c.topic for c in reader.connections})]
        assert sorted(map(len, data)) == sorted(len(r.data) for r in records)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, empty."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder
