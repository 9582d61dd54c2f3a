"""The files of a data set, on this machine or in a store that fsspec reads: listed, opened, named.

A place is a folder or a file: a local path, or a URL of one of `PROTOCOLS`. A file of a store is
streamed: only the parts that are read are transferred, and nothing is kept on disk. A URL holds no
credentials; each store's own client finds them in its environment (AWS_PROFILE, HF_TOKEN). Does not
know what a file contains.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast
from urllib.parse import urlsplit

import fsspec

#: Protocol of a URL -> the package that reads it; "" = fsspec alone.
PROTOCOLS = {
    "file": "",
    "memory": "",
    "s3": "s3fs",
    "hf": "huggingface_hub",
    "http": "aiohttp",
    "https": "aiohttp",
}
_CHUNK_BYTES = 1 << 22


class SourceError(ValueError):
    """A place that cannot be read; the message says why and what to do."""


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    Attributes:
        url: its own address: a local path, or a URL.
        name: its path below the place that was listed, with forward slashes.
        size: bytes.
        stamp: changes when the file does (time, inode or tag); "" = the store has none.
    """

    url: str
    name: str
    size: int
    stamp: str

    def __str__(self) -> str:
        return self.url

    @property
    def suffix(self) -> str:
        """Such as .parquet."""
        return PurePosixPath(self.name).suffix

    @property
    def local(self) -> bool:
        """Whether it is a file of this machine."""
        return "://" not in self.url

    def open(self) -> IO[bytes]:
        """The file, for reading at any position.

        Raises:
            SourceError: the package of its protocol is absent.
            OSError: it cannot be read.
        """
        if self.local:
            return Path(self.url).open("rb")
        system, path = _system(self.url)
        return cast("IO[bytes]", system.open(path, "rb"))

    def sha256(self) -> str:
        """Hexadecimal SHA-256 of the content.

        The hub states it for large files; elsewhere the file is read once.
        """
        if self.url.startswith("hf://"):
            system, path = _system(self.url)
            stated = (system.info(path).get("lfs") or {}).get("sha256")
            if stated:
                return str(stated)
        digest = hashlib.sha256()
        with self.open() as stored:
            while chunk := stored.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()


def is_url(place: str | Path) -> bool:
    """Whether a place has a protocol; a local path has none."""
    return "://" in str(place)


def files_of(place: str | Path, suffixes: tuple[str, ...]) -> list[DataFile]:
    """The files with one of `suffixes` in a folder at any depth, by name; of a file, that file.

    A local file that is named itself may have any suffix.

    Raises:
        SourceError: the place does not exist, its protocol is unknown or its package absent, or the
            URL has a user, a password or a query, which may be credentials.
    """
    if not is_url(place):
        return _local_files(Path(place), suffixes)
    url = str(place).rstrip("/")
    system, root = _system(url)
    if url.startswith("file://"):
        return _local_files(Path(root), suffixes)
    try:
        # The page that lists a folder is a file for HTTP: the suffix decides first.
        if PurePosixPath(root).suffix in suffixes and system.isfile(root):
            return [_file(url, PurePosixPath(root).name, system.info(root))]
        found = {path: system.info(path) for path in system.find(root) if _fits(path, suffixes)}
    # The clients of the stores raise errors of any type.
    except Exception as error:
        raise SourceError(f"cannot list {url}: {type(error).__name__}: {error}") from error
    start = str(system._strip_protocol(root))
    files = []
    for path, info in found.items():
        name = str(system._strip_protocol(path)).removeprefix(start).lstrip("/")
        files.append(_file(system.unstrip_protocol(path), name, info))
    return sorted(files, key=lambda file: file.name)


def _fits(path: str, suffixes: tuple[str, ...]) -> bool:
    return PurePosixPath(path).suffix in suffixes


def _local_files(path: Path, suffixes: tuple[str, ...]) -> list[DataFile]:
    if path.is_file():
        found = {path.name: path}
    elif path.is_dir():
        inside = (file for suffix in suffixes for file in path.rglob(f"*{suffix}"))
        found = {file.relative_to(path).as_posix(): file for file in inside if file.is_file()}
    else:
        raise SourceError(f"{path} does not exist: give a file, a folder or a URL")
    files = []
    for name, file in sorted(found.items()):
        status = file.stat()
        stamp = f"{status.st_mtime_ns}-{status.st_ino}"
        files.append(DataFile(str(file.resolve()), name, status.st_size, stamp))
    return files


def _file(url: str, name: str, info: dict[str, Any]) -> DataFile:
    keys = ("ETag", "Last-Modified", "LastModified", "blob_id", "created")
    stamp = " ".join(f"{key}={info[key]}" for key in keys if info.get(key) is not None)
    return DataFile(url, name, int(info["size"] or 0), stamp)


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    protocol = url.partition("://")[0]
    if protocol not in PROTOCOLS:
        raise SourceError(f"{protocol}:// is not read; known: {', '.join(PROTOCOLS)}")
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment:
        raise SourceError(
            f"the {protocol} URL of the data has a user, a password or a query: leave them out, "
            "and set the credentials in the environment (docs/data.md)"
        )
    try:
        return cast("tuple[Any, str]", fsspec.core.url_to_fs(url))
    except ImportError as error:
        package = PROTOCOLS[protocol]
        raise SourceError(f"{protocol}:// needs: pip install {package}") from error
