"""What a path is that should be a ROS 2 bag, and what to do if it cannot be read.

Recognises files by their first and last bytes, because names can be wrong. Does not read messages
and does not decompress (`camera.bag_reader`).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from sdvlm_core.errors import BagError, shown
from sdvlm_core.files import parse_yaml, read_yaml

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_MCAP_MAGIC = b"\x89MCAP0\r\n"
_SQLITE_MAGIC = b"SQLite format 3\0"
_ROS1_MAGIC = b"#ROSBAG V"
_ARCHIVES = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"PK\x03\x04": "zip",
    b"\x04\x22\x4d\x18": "lz4",
}
_SUFFIXES = {"mcap": ".mcap", "sqlite3": ".db3"}
_INFORMATION = "rosbag2_bagfile_information"
_MAX_FILES = 10_000


@dataclass(frozen=True)
class BagLayout:
    """The storage files of a bag and how they are compressed.

    Attributes:
        files: in the order of the recording; compressed ones if `compression` is "file".
        compression: "" | "file" | "message".
        information: the content of metadata.yaml; None = a single file.
    """

    files: tuple[Path, ...]
    compression: str = ""
    information: dict[str, Any] | None = None


def examine(path: Path) -> BagLayout:
    """The layout of the bag at a path.

    Raises:
        BagError: not a readable ROS 2 bag; says what it is and what to do.
    """
    if not path.exists():
        raise BagError(f"{path} does not exist")
    if path.is_dir():
        return _directory(path)
    if path.name == "metadata.yaml":
        raise BagError(f"{path} describes a bag; give its directory: {path.parent}")
    storage = _storage(path)
    if path.suffix != _SUFFIXES[storage]:
        raise BagError(
            f"{path} is a {storage} file with another suffix; rename it to "
            f"{path.with_suffix(_SUFFIXES[storage]).name}"
        )
    return BagLayout((path,))


def repair_hint(path: Path) -> str:
    """How to save what is left of a damaged bag, as the end of a sentence; "" = unknown."""
    files = [path]
    if path.is_dir():
        files = [file for suffix in _SUFFIXES.values() for file in sorted(path.glob(f"*{suffix}"))]
    for file in files[:1]:
        if file.suffix == ".mcap":
            return f"; save what is intact: mcap recover {file} -o recovered.mcap"
        if file.suffix == ".db3":
            return f"; save what is intact: sqlite3 {file} .recover | sqlite3 recovered.db3"
    return ""


def _storage(path: Path) -> str:
    """`mcap` or `sqlite3`: the storage of an uncompressed, complete file.

    Raises:
        BagError: another kind of file, or an incomplete one.
    """
    size = path.stat().st_size
    with path.open("rb") as stored:
        head = stored.read(100)
        stored.seek(max(0, size - len(_MCAP_MAGIC)))
        tail = stored.read()
    if not head:
        raise BagError(f"{path} is empty (0 bytes): nothing was recorded, or the disk was full")
    if head.startswith(_MCAP_MAGIC):
        if size < 2 * len(_MCAP_MAGIC) or tail != _MCAP_MAGIC:
            raise BagError(
                f"{path} cannot be read: it ends in the middle of a record ({size} bytes); the "
                "recording was interrupted, or the copy is incomplete"
                f"{repair_hint(path.with_suffix('.mcap'))}"
            )
        return "mcap"
    if head.startswith(_SQLITE_MAGIC):
        _check_sqlite(path, head, size)
        return "sqlite3"
    raise BagError(f"{path} {_foreign(path, head)}")


def _foreign(path: Path, head: bytes) -> str:
    """What a file is that is neither mcap nor sqlite3, and what to do."""
    if head.startswith(_ROS1_MAGIC):
        return f"is a ROS 1 bag; convert it: rosbags-convert --src {path} --dst DIRECTORY"
    if head.startswith(ZSTD_MAGIC):
        return (
            "is compressed (zstd); give the directory with its metadata.yaml, or decompress it: "
            f"zstd -d {path}"
        )
    for magic, name in _ARCHIVES.items():
        if head.startswith(magic):
            return f"is a {name} archive; unpack it and give the bag inside"
    return f"is not a bag: it begins with {head[:8]!r}, which is neither mcap nor sqlite3"


def _check_sqlite(path: Path, head: bytes, size: int) -> None:
    """The header of a database states its number of pages; sqlite itself reports only the symptom.

    Source: https://www.sqlite.org/fileformat.html, offsets 16 (page size) and 28 (pages).
    """
    page = int.from_bytes(head[16:18], "big")
    page = 65536 if page == 1 else page
    pages = int.from_bytes(head[28:32], "big")
    if len(head) < 100 or size < page * pages:
        raise BagError(
            f"{path} cannot be read: it is incomplete; it has {size} bytes, its header "
            f"states {page * pages}"
            f"{repair_hint(path.with_suffix('.db3'))}"
        )
    log = path.with_name(path.name + "-wal")
    # Opened read-only and immutable, a database shows nothing of its write-ahead log.
    if log.is_file() and log.stat().st_size:
        raise BagError(
            f"{path} was not closed: part of its messages are in {log.name}; add them: "
            f"sqlite3 {path} 'PRAGMA wal_checkpoint(TRUNCATE)'"
        )


def _directory(path: Path) -> BagLayout:
    metadata = path / "metadata.yaml"
    if not metadata.is_file():
        raise BagError(
            f"{path} cannot be read as a ROS 2 bag: it has no metadata.yaml{_directory_hint(path)}"
        )
    renew = f"write a new one: ros2 bag reindex {path}"
    try:
        information = _information(metadata)
        names = [PurePath(name).name for name in information["relative_file_paths"]]
        storage, mode = information["storage_identifier"], information.get("compression_mode", "")
        mode = mode.lower().replace("none", "")
    except (KeyError, TypeError, AttributeError) as error:
        raise BagError(f"{metadata} is incomplete ({error!r:.80}); {renew}") from error
    if not 0 < len(names) <= _MAX_FILES or len(set(names)) < len(names):
        raise BagError(f"{metadata} lists {len(names)} files, or one of them twice; {renew}")
    files = tuple(path / name for name in names)
    missing = [shown(name) for name, file in zip(names, files, strict=True) if not file.is_file()]
    if missing:
        raise BagError(
            f"{path} lacks {', '.join(missing[:5])}, which metadata.yaml lists; copy the whole "
            f"directory, or {renew}"
        )
    if mode not in ("", "file", "message"):
        raise BagError(f"{metadata}: compression_mode {shown(mode)!r} is neither file nor message")
    if mode and (coding := information.get("compression_format")) != "zstd":
        raise BagError(
            f"{metadata}: compression_format {coding!r:.80} is not supported, only zstd; convert "
            "the bag: ros2 bag convert"
        )
    if mode == "file":
        for file in files:
            with file.open("rb") as stored:
                if (head := stored.read(8))[:4] != ZSTD_MAGIC:
                    raise BagError(
                        f"{file} should be compressed (zstd), as metadata.yaml states, but begins "
                        f"with {head!r}; {renew}"
                    )
    else:
        _check_storage(metadata, storage, files, renew)
    return BagLayout(files, mode, information)


def _check_storage(metadata: Path, stated: object, files: tuple[Path, ...], renew: str) -> None:
    for file in files:
        found = _storage(file)
        if found != stated:
            raise BagError(
                f"{metadata}: storage_identifier is {stated!r:.80}, but {file.name} is {found}; "
                f"correct the line to `storage_identifier: {found}`, or {renew} -s {found}"
            )


def _information(metadata: Path) -> dict[str, Any]:
    document = read_yaml(metadata, BagError)
    information = document[_INFORMATION]
    if not isinstance(information, dict):
        raise TypeError(f"{_INFORMATION} is not a mapping")
    if not isinstance(information.get("files", []), list):
        raise TypeError("files is not a list")
    if not isinstance(information["message_count"], int):
        raise TypeError("message_count is not a number")
    for topic in information["topics_with_message_count"]:
        fields = topic["topic_metadata"]
        if not (isinstance(fields["name"], str) and isinstance(fields["type"], str)):
            raise TypeError("the name of a topic is not text")
        profiles = fields.get("offered_qos_profiles")
        if isinstance(profiles, str):  # YAML in YAML, up to version 8
            try:
                parse_yaml(profiles)
            except Exception as error:
                raise TypeError("offered_qos_profiles is not YAML of a bounded size") from error
    return information


def _directory_hint(path: Path) -> str:
    """What to do about a directory without metadata.yaml."""
    inside = sorted(path.iterdir())
    files = [file for file in inside if file.suffix in _SUFFIXES.values()]
    if files:
        return (
            "; the recording was interrupted, or the copy is incomplete: write it with ros2 bag "
            f"reindex {path}, or give the file {files[0]}"
        )
    for suffixes, what in (((".zstd",), "compressed files"), ((".bag",), "a ROS 1 bag")):
        found = [file for file in inside if file.suffix in suffixes]
        if found:
            command = (
                f"decompress them: zstd -d {found[0]}"
                if suffixes == (".zstd",)
                else f"convert it: rosbags-convert --src {found[0]} --dst DIRECTORY"
            )
            return f" but {what}; {command}"
    below = [folder for folder in inside if (folder / "metadata.yaml").is_file()]
    if below:
        return f"; the bag is in {below[0]}"
    return " and no .mcap or .db3 file"
