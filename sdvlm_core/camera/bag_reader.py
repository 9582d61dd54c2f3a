"""`rosbags`' reader with bounds: what a bag expands to is limited before and while it expands.

A bag of 428 kB can expand to gigabytes. Sizes that files declare are checked first; where nothing
is declared, bytes are counted while they are decompressed. Loads `rosbags`, so it is imported by
the functions that use it. Does not know topics or the content of messages.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

import apsw
from lz4.frame import LZ4FrameDecompressor  # type: ignore[import-untyped]
from rosbags.interfaces import Connection
from rosbags.rosbag2 import Reader, storage_mcap

from sdvlm_core.camera.bag_files import ZSTD_MAGIC, BagLayout
from sdvlm_core.errors import BagError

try:
    from compression import zstd  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # before Python 3.14
    from backports import zstd

#: Compressed files may expand to 64 times their size, and to 256 MiB in any case. Recorded images
#: expand 2 to 10 times.
MAX_EXPANSION = 64
MIN_EXPANDED_BYTES = 256 << 20
#: Largest message or chunk after decompression; 40 megapixels of 32FC1 have 160 MB.
MAX_MESSAGE_BYTES = 256 << 20
#: Largest sum of the chunks that overlap in time, which are in memory at the same time.
MAX_OPEN_CHUNKS_BYTES = 1 << 30
_BLOCK_BYTES = 1 << 20
# Largest header of a zstd frame (RFC 8878, 3.1.1).
_FRAME_HEADER_BYTES = 18


class BoundedReader(Reader):
    """A reader whose messages are decompressed here, each to at most `MAX_MESSAGE_BYTES`."""

    def __init__(self, path: Path, compressed_messages: bool) -> None:
        super().__init__(path)
        self._compressed = compressed_messages

    def messages(
        self,
        connections: Collection[Connection] = (),
        start: int | None = None,
        stop: int | None = None,
    ) -> Generator[tuple[Connection, int, bytes], None, None]:
        """As `rosbags`, in the order of the bag.

        Raises:
            BagError: a message is compressed but the bag does not state it, or it is too large.
        """
        for connection, bag_ns, data in super().messages(connections, start, stop):
            if self._compressed:
                yield connection, bag_ns, _decompressed(data, MAX_MESSAGE_BYTES)
            elif data[:4] == ZSTD_MAGIC:  # CDR begins with two bytes 0x00, 0x00 to 0x0b
                raise BagError(
                    f"{self.path}: its messages are compressed one by one (zstd), which only "
                    "metadata.yaml states; give the directory of the bag instead of the file"
                )
            else:
                yield connection, bag_ns, data


@contextmanager
def opened(path: Path, layout: BagLayout) -> Iterator[BoundedReader]:
    """An open reader of the bag at `path`.

    Raises:
        BagError: the bag expands to more than the limits.
        Exception: it cannot be read; `rosbags` does not limit the types.
    """
    # rosbags decompresses a chunk to any size, and compares it with the declared one afterwards.
    storage_mcap.DECOMPRESSORS.update(zstd=_decompressed, lz4=_lz4_decompressed)
    with _uncompressed(path, layout) as folder:
        reader = BoundedReader(folder, layout.compression == "message")
        with reader:
            reader.path = path  # for messages; the storage is open
            _bound_storages(reader)
            yield reader


@contextmanager
def _uncompressed(path: Path, layout: BagLayout) -> Iterator[Path]:
    """The bag without compression of files, and without a statement of compression.

    A folder with metadata.yaml, and decompressed files or links, removed at the end.
    """
    if not layout.compression:
        yield path
        return
    with TemporaryDirectory(prefix="sdvlm_bag_") as name:
        folder = Path(name)
        if layout.compression == "file":
            files = _decompress_files(layout.files, folder)
        else:
            files = [folder / file.name for file in layout.files]
            for link, file in zip(files, layout.files, strict=True):
                link.symlink_to(file.resolve())
        plain = {
            "relative_file_paths": [file.name for file in files],
            "compression_mode": "",
            "compression_format": "",
        }
        document = {"rosbag2_bagfile_information": (layout.information or {}) | plain}
        # JSON is YAML.
        (folder / "metadata.yaml").write_text(json.dumps(document, default=str))
        yield folder


def _decompress_files(files: Collection[Path], folder: Path) -> list[Path]:
    """Decompress into `folder`; writes nothing if the declared sizes exceed the limit."""
    compressed = sum(file.stat().st_size for file in files)
    limit = max(MIN_EXPANDED_BYTES, MAX_EXPANSION * compressed)
    free = shutil.disk_usage(folder).free
    advice = f"decompress it yourself if you trust it: zstd -d {next(iter(files))}"
    declared = sum(_declared_bytes(file) for file in files)
    if declared > limit:
        raise BagError(
            f"the bag's {compressed} bytes expand to {declared}, more than {MAX_EXPANSION} times "
            f"and more than {MIN_EXPANDED_BYTES}; {advice}"
        )
    if declared > free:
        raise BagError(
            f"the bag expands to {declared} bytes; {folder.parent} has {free} free: free some "
            "space, or set TMPDIR"
        )
    written = []
    for file in files:
        target = folder / file.stem
        with file.open("rb") as stored, zstd.open(stored, "rb") as source, target.open("wb") as out:
            room = limit - _copy(source, out, limit)
        if room < 0:
            raise BagError(
                f"the bag's {compressed} bytes expand to more than {MAX_EXPANSION} times and more "
                f"than {MIN_EXPANDED_BYTES}; {advice}"
            )
        limit = room
        written.append(target)
    return written


def _copy(source: BinaryIO, target: BinaryIO, limit: int) -> int:
    """Copy at most `limit` bytes; the number of bytes, or more than `limit` if there are more."""
    count = 0
    while block := source.read(_BLOCK_BYTES):
        count += len(block)
        if count > limit:
            break
        target.write(block)
    return count


def _declared_bytes(file: Path) -> int:
    """The size that the first frame of a zstd file declares; 0 = not declared."""
    with file.open("rb") as stored:
        return zstd.get_frame_info(stored.read(_FRAME_HEADER_BYTES)).decompressed_size or 0


def _decompressed(data: bytes, limit: int) -> bytes:
    """One zstd frame of at most `limit` bytes."""
    declared = zstd.get_frame_info(data[:_FRAME_HEADER_BYTES]).decompressed_size or 0
    limit = min(limit, MAX_MESSAGE_BYTES)
    decompressor = zstd.ZstdDecompressor()
    raw = b"" if declared > limit else decompressor.decompress(data, max_length=limit + 1)
    if declared > limit or len(raw) > limit:
        raise _too_large(len(data), limit)
    if not decompressor.eof:
        raise BagError(f"{len(data)} compressed bytes end in the middle of a zstd frame")
    return raw


def _lz4_decompressed(data: bytes, limit: int) -> bytes:
    """One lz4 frame of at most `limit` bytes."""
    limit = min(limit, MAX_MESSAGE_BYTES)
    raw: bytes = LZ4FrameDecompressor().decompress(data, max_length=limit + 1)
    if len(raw) > limit:
        raise _too_large(len(data), limit)
    return raw


def _too_large(compressed: int, limit: int) -> BagError:
    return BagError(f"a message or chunk of {compressed} bytes expands to more than {limit} bytes")


def _bound_storages(reader: Reader) -> None:
    """Bound what the open storages keep in memory.

    Raises:
        BagError: chunks that overlap in time are too large together.
    """
    for storage in getattr(reader.storage, "storages", [reader.storage]):
        if (database := getattr(storage, "dbconn", None)) is not None:
            database.limit(apsw.SQLITE_LIMIT_LENGTH, MAX_MESSAGE_BYTES)
        edges = []
        for chunk in getattr(storage, "chunks", ()):
            edges.append((chunk.message_start_time, 0, chunk.uncompressed_size))
            edges.append((chunk.message_end_time, 1, -chunk.uncompressed_size))
        together = 0
        for _, _, size in sorted(edges):
            together += size
            if together > MAX_OPEN_CHUNKS_BYTES:
                raise BagError(
                    f"{reader.path}: chunks of {together} bytes overlap in time, more than "
                    f"{MAX_OPEN_CHUNKS_BYTES}; sort them: mcap sort"
                )
