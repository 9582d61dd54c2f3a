"""Names of models -> directories in the local cache of the Hugging Face hub.

Handles names, licences, commits and checksums; does not know what a model contains. `look_up` and
`download` are the only functions that use the network. Files are stored in the hub's own cache
(`HF_HOME`), where every tool finds them. A revision is registered there only after all its files
have been verified, so `cached` never finds an incomplete download of ours.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sdvlm_core.errors import CheckpointError, DownloadError
from sdvlm_core.files import sha256, write_text

_NONCOMMERCIAL = "CC-BY-NC-4.0: NOT for commercial use"
_LLAMA = "LLaMA 2 Community License (Meta)"
#: Files to download besides the weights; never code. Pickled weights (.bin, .pth) are downloaded
#: only if there are no others. Only `sdvlm convert` reads them, as plain weights.
_SMALL_FILES = re.compile(
    r"(config|(pre)?processor|tokenizer|vocab|merges|special|added|generation|adapter|sdvlm).*"
    r"\.(json|txt|model)|.*\.index\.json"
)
_SHA256_DIGITS = 64
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")


@dataclass(frozen=True)
class Release:
    """A published model: its repository, its licence, and the option or command that uses it."""

    repository: str
    licence: str
    use: str


def _depth_anything(size: str, range_: str = "") -> Release:
    licence = "Apache-2.0" if size == "Small" else _NONCOMMERCIAL
    output = f"depth in metres, {range_.lower()}s" if range_ else "relative depth"
    variant = f"Metric-{range_}-" if range_ else ""
    repository = f"depth-anything/Depth-Anything-V2-{variant}{size}-hf"
    return Release(repository, licence, f"--estimate-depth: {output}")


RELEASES = {
    "sd-vlm-7b": Release(
        "cpystan/SD-VLM-7B",
        f"none stated on its card; its base has the {_LLAMA}; the depth network inside is "
        + _NONCOMMERCIAL,
        "sdvlm convert DIR OUT, then --model OUT",
    ),
    "llava-1.5-7b": Release(
        "llava-hf/llava-1.5-7b-hf", _LLAMA, "--model, the base of LoRA adapters"
    ),
    "clip-vit-large-patch14-336": Release(
        "openai/clip-vit-large-patch14-336",
        "none stated on its card",
        "sdvlm convert --vision-tower, for an SD-VLM saved without its tower",
    ),
    **{
        f"depth-anything-v2-{size.lower()}": _depth_anything(size)
        for size in ("Small", "Base", "Large")
    },
    **{
        f"depth-anything-v2-metric-{range_.lower()}-{size.lower()}": _depth_anything(size, range_)
        for range_ in ("Indoor", "Outdoor")
        for size in ("Small", "Base", "Large")
    },
    "depth-pro": Release(
        "apple/DepthPro-hf",
        "Apple Machine Learning Research License: research only, NOT for commercial use",
        "--estimate-depth: depth in metres, and the focal length if the camera's is unknown",
    ),
}


@dataclass(frozen=True)
class File:
    """One file of a repository, as the hub lists it.

    Attributes:
        path: inside the repository.
        size: bytes.
        digest: hexadecimal; sha256 of the content for large files, git's sha1 for the others.
    """

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Snapshot:
    """One commit of a repository, with the files that loading or converting reads."""

    repository: str
    revision: str
    commit: str
    licence: str
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def pinned(self) -> str:
        """The name of exactly this commit, as `--model` takes it."""
        return f"{self.repository}@{self.commit}"


def is_name(name: str) -> bool:
    """Whether this is one of `RELEASES` or owner/name, with or without @revision; not a path."""
    short, _, _ = name.partition("@")
    return bool(_NAME.fullmatch(name)) and (short in RELEASES or "/" in short)


def _split(name: str) -> tuple[str, str]:
    """(repository, revision) of a name."""
    short, _, revision = name.partition("@")
    if not is_name(name):
        known = ", ".join(RELEASES)
        raise DownloadError(
            f"{name!r} is unknown; give owner/name, owner/name@revision, or one of: {known}"
        )
    return RELEASES[short].repository if short in RELEASES else short, revision or "main"


def _store(repository: str) -> Path:
    """The directory of a repository in the hub's cache: snapshots, and references to them."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")


def cached(name: str) -> Path | None:
    """The directory of a downloaded name, else None. Does not use the network."""
    from huggingface_hub import try_to_load_from_cache

    repository, revision = _split(name)
    # A commit's directory exists from the first byte; its reference exists only after completion.
    if not (_store(repository) / "refs" / revision).is_file():
        return None
    found = try_to_load_from_cache(repository, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def find(name: str) -> Path:
    """The directory of a model: an existing path, or the name of a downloaded model.

    Raises:
        CheckpointError: it is neither; the message contains the command to run. Nothing is
            downloaded.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if not is_name(name):
        raise CheckpointError(
            f"the model directory {name} does not exist; give a directory with config.json and "
            "*.safetensors, or a name that `sdvlm download` lists"
        )
    found = cached(name)
    if found is None:
        raise CheckpointError(
            f"{name} is not in the local cache, and answering never downloads; run: "
            f"sdvlm download {name}"
        )
    return found


def obtain(name: str, log: Callable[[str], object]) -> None:
    """Download a name that is not in the local cache; log its size and licence first.

    Args:
        log: receives one line at a time.

    Raises:
        DownloadError: as `look_up` and `download`. Paths and unknown names are left to `find`.
    """
    if Path(name).expanduser().is_dir() or not is_name(name) or cached(name) is not None:
        return
    snapshot = look_up(name)
    log(f"downloading {snapshot.pinned}, {snapshot.size / 1e9:.2f} GB; licence: {snapshot.licence}")
    log(f"downloaded to {download(snapshot)}")


def look_up(name: str) -> Snapshot:
    """Query the hub once for the current commit of a name. Downloads nothing.

    Raises:
        DownloadError: an unknown name, no access, no connection, or no usable weights.
    """
    from huggingface_hub import HfApi

    repository, revision = _split(name)
    with _download_errors(f"{repository} at {revision}"):
        found = HfApi().model_info(repository, revision=revision, files_metadata=True)
    listed = tuple(
        File(
            entry.rfilename,
            entry.size or 0,
            entry.lfs.sha256 if entry.lfs is not None else entry.blob_id or "",
        )
        for entry in found.siblings or ()
    )
    files = _useful(listed)
    if found.sha is None or not any(file.size and _is_weights(file.path) for file in files):
        raise DownloadError(f"{repository} at {revision} has no weights that can be used")
    stated = found.card_data.get("license") if found.card_data is not None else None
    return Snapshot(repository, revision, found.sha, _licence(repository, stated), files)


def _licence(repository: str, stated: str | None) -> str:
    """The licence of a repository, from its model card's statement."""
    for release in RELEASES.values():
        if release.repository == repository:
            return release.licence
    return f"{stated} (from its card)" if stated else "none stated on its card"


def _is_weights(path: str) -> bool:
    return path.endswith((".safetensors", ".bin", ".pth"))


def _useful(files: tuple[File, ...]) -> tuple[File, ...]:
    """The files of the top directory that loading or converting reads, by path."""
    top = [file for file in files if "/" not in file.path]
    safe = [file for file in top if file.path.endswith(".safetensors")]
    weights = safe or [file for file in top if _is_weights(file.path)]
    others = [file for file in top if _SMALL_FILES.fullmatch(file.path)]
    return tuple(sorted((*weights, *others), key=lambda file: file.path))


def download(snapshot: Snapshot, on_verified: Callable[[int], None] = lambda _: None) -> Path:
    """Download missing files, verify every file, and return the directory.

    Complete files survive an interruption, and a broken connection resumes where it stopped. The
    hub's library shows its progress on stderr.

    Args:
        snapshot: from `look_up`.
        on_verified: called with the size of each verified file, bytes.

    Raises:
        DownloadError: not enough disk space, no connection, or a wrong checksum; the wrong file
            is removed.
    """
    from huggingface_hub import hf_hub_download

    store = _store(snapshot.repository)
    store.mkdir(parents=True, exist_ok=True)
    directory = store / "snapshots" / snapshot.commit
    missing = sum(file.size for file in snapshot.files if not (directory / file.path).exists())
    free = shutil.disk_usage(store).free
    if missing > free:
        raise DownloadError(
            f"{snapshot.repository} needs {missing / 1e9:.1f} GB more and {store} has "
            f"{free / 1e9:.1f} GB free; free some space, or set HF_HOME to another disk"
        )
    for file in snapshot.files:
        with _download_errors(f"{snapshot.repository}: {file.path}"):
            hf_hub_download(snapshot.repository, file.path, revision=snapshot.commit)
    for file in snapshot.files:
        _verify(directory / file.path, file)
        on_verified(file.size)
    # References are written last, so that a name never leads to an incomplete model.
    for name in {snapshot.commit, snapshot.revision}:
        reference = store / "refs" / name
        reference.parent.mkdir(parents=True, exist_ok=True)
        write_text(reference, snapshot.commit)
    return directory


def _verify(path: Path, file: File) -> None:
    """Remove the file and raise DownloadError if its content differs from the hub's listing."""
    if len(file.digest) == _SHA256_DIGITS:
        digest = sha256(path)
    else:
        content = path.read_bytes()
        blob = b"blob %d\0" % len(content) + content
        digest = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
    if digest != file.digest:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise DownloadError(
            f"{file.path} is damaged: its checksum is {digest}, the hub lists "
            f"{file.digest}. It has been removed; run the same command again"
        )


@contextmanager
def _download_errors(what: str) -> Iterator[None]:
    """Raise DownloadError, with what to do, for an error of the hub or the network."""
    from huggingface_hub import constants, errors

    try:
        yield
    # The bases are OSError and the HTTP library's base error, which changes between versions.
    except (ValueError, *errors.HfHubHTTPError.__bases__) as error:  # type: ignore[misc]
        if isinstance(error, errors.GatedRepoError):
            advice = "access is gated: accept the terms on its page, then set HF_TOKEN"
        elif isinstance(error, errors.RepositoryNotFoundError):
            advice = "the model does not exist, or is private; for a private one set HF_TOKEN"
        elif isinstance(error, errors.RevisionNotFoundError):
            advice = "the model exists, but this revision does not"
        elif isinstance(error, errors.OfflineModeIsEnabled):
            advice = (
                "HF_HUB_OFFLINE is set; unset it, or download on another machine and copy "
                f"{constants.HF_HUB_CACHE}"
            )
        else:
            advice = f"{type(error).__name__}: {error}; run the same command again"
        raise DownloadError(f"{what} cannot be downloaded: {advice}") from error
