"""A path that is not a readable bag: the error says what it is and what to do."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from backports import zstd

from sdvlm_core.camera.bag_topics import find_topics
from sdvlm_core.camera.bags import open_bag, stream
from sdvlm_core.errors import BagError
from tests import bags
from tests.replays import bag_of


def read_all(path: Path) -> int:
    """Find the topics and read every message; the number of messages."""
    with open_bag(path) as reader:
        find_topics(reader)
        topics = {connection.topic for connection in reader.connections}
        return sum(1 for _ in stream(reader, topics))


def refusal(path: Path) -> str:
    """The text of the error, which is one line; reads the bag to its end."""
    with pytest.raises(BagError) as refused:
        read_all(path)
    text = str(refused.value)
    assert "\n" not in text
    assert len(text) < 700
    return text


@pytest.fixture
def mcap(tmp_path: Path) -> Path:
    return bag_of(tmp_path / "bag", 3)


def changed(bag: Path, **fields: object) -> Path:
    """The bag with other values in metadata.yaml; None removes a key."""
    path = bag / "metadata.yaml"
    document = yaml.safe_load(path.read_text())
    information = document["rosbag2_bagfile_information"]
    information.update(fields)
    for key in [key for key, value in fields.items() if value is None]:
        del information[key]
    path.write_text(yaml.safe_dump(document))
    return bag


def test_a_torn_mcap_file_can_be_recovered(mcap: Path) -> None:
    file = mcap / "bag.mcap"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    for path in (file, mcap):
        text = refusal(path)
        assert "ends in the middle of a record" in text
        assert f"mcap recover {file} -o recovered.mcap" in text


def test_a_torn_database_can_be_recovered(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 3, storage="SQLITE3")
    file = bag / "bag.db3"
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[: size // 2])
    for path in (file, bag):
        text = refusal(path)
        assert f"it has {size // 2} bytes, its header states {size}" in text
        assert f"sqlite3 {file} .recover | sqlite3 recovered.db3" in text


def test_a_database_with_damaged_pages_can_be_recovered(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 3, storage="SQLITE3")
    file = bag / "bag.db3"
    data = bytearray(file.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    file.write_bytes(data)
    assert f"sqlite3 {file} .recover" in refusal(file)


def test_messages_in_a_write_ahead_log_are_not_left_out(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 3, storage="SQLITE3")
    file = bag / "bag.db3"
    database = sqlite3.connect(file)
    database.execute("PRAGMA journal_mode=WAL")
    columns = "topic_id, timestamp, data"
    database.execute(f"INSERT INTO messages ({columns}) SELECT {columns} FROM messages")
    database.commit()
    text = refusal(bag)
    assert "bag.db3-wal" in text
    assert "wal_checkpoint" in text
    database.close()
    with open_bag(file) as reader:
        assert reader.message_count == 18


@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
def test_messages_compressed_one_by_one_need_the_directory(tmp_path: Path, storage: str) -> None:
    bag = bag_of(tmp_path / "bag", 3, storage=storage, compression="MESSAGE")
    file = next(bag.glob("bag.*"))
    assert "give the directory of the bag instead of the file" in refusal(file)
    with open_bag(bag) as reader:
        assert find_topics(reader).color == bags.RGB


def test_a_compressed_file_alone_needs_its_directory_or_decompression(tmp_path: Path) -> None:
    bag = bag_of(tmp_path / "bag", 3, compression="FILE")
    file = bag / "bag.mcap.zstd"
    assert f"give the directory with its metadata.yaml, or decompress it: zstd -d {file}" in (
        refusal(file)
    )
    (bag / "metadata.yaml").unlink()
    assert f"zstd -d {file}" in refusal(bag)


@pytest.mark.parametrize("stated", ["", "sqlite3", "my_storage", 7])
def test_a_wrong_storage_identifier_is_named_with_the_right_one(mcap: Path, stated: object) -> None:
    text = refusal(changed(mcap, storage_identifier=stated))
    assert f"storage_identifier is {stated!r}, but bag.mcap is mcap" in text
    assert "`storage_identifier: mcap`" in text


def test_a_directory_without_metadata_needs_reindexing(mcap: Path) -> None:
    (mcap / "metadata.yaml").unlink()
    text = refusal(mcap)
    assert f"ros2 bag reindex {mcap}, or give the file {mcap / 'bag.mcap'}" in text


def test_the_directory_above_the_bag_and_the_metadata_file_lead_to_the_bag(mcap: Path) -> None:
    assert f"the bag is in {mcap}" in refusal(mcap.parent)
    assert f"give its directory: {mcap}" in refusal(mcap / "metadata.yaml")


def test_a_ros_1_bag_needs_conversion(tmp_path: Path) -> None:
    file = tmp_path / "old.bag"
    file.write_bytes(b"#ROSBAG V2.0\n" + bytes(100))
    assert f"is a ROS 1 bag; convert it: rosbags-convert --src {file}" in refusal(file)
    assert f"rosbags-convert --src {file}" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty (0 bytes)"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is not a bag: it begins with"),
        (b"\x1f\x8b\x08" + bytes(100), "is a gzip archive; unpack it"),
        (b"PK\x03\x04" + bytes(100), "is a zip archive; unpack it"),
        (b"\x89MCAP0\r\n", "ends in the middle of a record"),
        (b"\x89MCAP0\r\n\x89MCAP0\r\n", "cannot be read"),
        (b"SQLite format 3\0", "it is incomplete"),
    ],
)
@pytest.mark.parametrize("name", ["x.mcap", "x.db3", "x"])
def test_the_content_decides_what_a_file_is_not_its_name(
    tmp_path: Path, content: bytes, reason: str, name: str
) -> None:
    (tmp_path / name).write_bytes(content)
    text = refusal(tmp_path / name)
    assert reason in text or "rename it to" in text


def test_a_bag_with_another_suffix_is_to_be_renamed(mcap: Path) -> None:
    file = shutil.move(mcap / "bag.mcap", mcap.parent / "bag.db3")
    assert "is a mcap file with another suffix; rename it to bag.mcap" in refusal(Path(file))


def test_an_empty_bag_has_no_messages(tmp_path: Path) -> None:
    for storage in ("MCAP", "SQLITE3"):
        bag = bags.write_bag(tmp_path / storage, [], storage=storage)
        for path in (bag, next(bag.glob("*[3p]"))):
            assert "has no messages" in refusal(path)


@pytest.mark.parametrize(
    "text",
    [
        "a: [" * 20_000,
        "&a [" + "*a," * 10 + "]",
        "".join(f"l{n + 1}: &l{n + 1} [{f'*l{n},' * 9}]\n" for n in range(1, 12)).replace(
            "*l1,", "x,"
        ),
        "x" * (9 << 20),
        "rosbag2_bagfile_information: 3",
        "[]",
        "",
        "\x00",
        "rosbag2_bagfile_information: !!int x",
        "rosbag2_bagfile_information: {storage_identifier: mcap, relative_file_paths: 3}",
    ],
)
def test_hostile_metadata_is_refused_at_once(mcap: Path, text: str) -> None:
    (mcap / "metadata.yaml").write_text(text)
    assert "metadata.yaml" in refusal(mcap)


def test_each_missing_or_wrong_field_of_the_metadata_is_refused(mcap: Path) -> None:
    keys = yaml.safe_load((mcap / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    saved = (mcap / "metadata.yaml").read_text()
    needed = {"version", "storage_identifier", "relative_file_paths", "starting_time", "duration"}
    needed |= {"message_count", "topics_with_message_count"}
    wrong: tuple[object, ...] = (None, "text", 3, [], [[]], {}, -1, True)
    for key in keys:
        for value in wrong:
            (mcap / "metadata.yaml").write_text(saved)
            changed(mcap, **{key: value})
            try:
                assert read_all(mcap) == 9
            except BagError as error:
                assert "\n" not in str(error)  # noqa: PT017 - some values are accepted
            else:
                assert value is not None or key not in needed


def test_files_that_the_metadata_lists_must_exist_once(mcap: Path) -> None:
    lost = ["bag.mcap", "part_2.mcap"]
    assert "lacks part_2.mcap" in refusal(changed(mcap, relative_file_paths=lost))
    twice = ["bag.mcap", "bag.mcap"]
    assert "one of them twice" in refusal(changed(mcap, relative_file_paths=twice))
    outside = ["../../etc/passwd"]
    assert "lacks passwd" in refusal(changed(mcap, relative_file_paths=outside))


def test_a_compression_that_is_not_zstd_is_named(mcap: Path) -> None:
    bag = changed(mcap, compression_mode="file", compression_format="lz4")
    assert "compression_format 'lz4' is not supported, only zstd" in refusal(bag)
    bag = changed(mcap, compression_format="zstd")
    assert "should be compressed (zstd)" in refusal(bag)
    assert "neither file nor message" in refusal(changed(mcap, compression_mode="both"))


@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
@pytest.mark.parametrize("compression", ["NONE", "FILE", "MESSAGE"])
def test_a_bag_with_random_damage_is_read_or_refused(
    tmp_path: Path, storage: str, compression: str, damaged: Callable[[bytes, int], bytes]
) -> None:
    bag = bag_of(tmp_path / "bag", 2, storage=storage, compression=compression)
    file = next(bag.glob("bag.*"))
    intact = file.read_bytes()
    for seed in range(60):
        file.write_bytes(damaged(intact, seed))
        try:
            read_all(bag)
        except BagError as error:
            assert "Traceback" not in str(error)  # noqa: PT017 - some damage is not noticed


@pytest.fixture
def damaged() -> Callable[[bytes, int], bytes]:
    """The bytes with a seeded change: cut, zeros, or random values."""
    import numpy as np

    def damage(data: bytes, seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        at = int(rng.integers(len(data)))
        length = int(rng.integers(1, 64))
        new = bytes(length) if seed % 3 else rng.integers(0, 256, length, np.uint8).tobytes()
        return data[:at] if seed % 5 == 0 else data[:at] + new + data[at + length :]

    return damage


def test_zstd_is_the_library_that_reads_the_bag() -> None:
    assert zstd.get_frame_info(zstd.compress(bytes(1000))).decompressed_size == 1000
