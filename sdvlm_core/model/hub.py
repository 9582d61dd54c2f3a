"""Names of models -> the local cache of the hub; `download` is the only thing that goes online.

Knows names, licences, commits and checksums, not what is in a model. What is downloaded lies in
the hub's own cache (`HF_HOME`), where every tool finds it; a revision is registered there only
after all its files have been checked, so `cached` never finds half a model of ours.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sdvlm_core.errors import CheckpointError, DownloadError

_NONCOMMERCIAL = "CC-BY-NC-4.0: NOT for commercial use"
_LLAMA = "LLaMA 2 Community License (Meta)"
#: What can be needed; never code. Pickles (.bin, .pth) only where there is nothing else: `sdvlm
#: convert` reads them as plain weights, nothing else reads them at all.
_WANTED = re.compile(
    r"(config|(pre)?processor|tokenizer|vocab|merges|special|added|generation|adapter|sdvlm).*"
    r"\.(json|txt|model)|.*\.index\.json"
)
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?(@[\w./-]+)?")


@dataclass(frozen=True)
class Release:
    """A published model: where it is, what its licence allows, and what it is for here."""

    repository: str
    licence: str
    use: str


def _depth_anything(size: str, range_: str = "") -> Release:
    licence = "Apache-2.0" if size == "Small" else _NONCOMMERCIAL
    gives = f"depth in metres, {range_.lower()}s" if range_ else "relative depth"
    variant = f"Metric-{range_}-" if range_ else ""
    repository = f"depth-anything/Depth-Anything-V2-{variant}{size}-hf"
    return Release(repository, licence, f"--estimate-depth: {gives}")


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
    """One commit of a repository and those of its files that are of use here."""

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
        """The name that stays this commit for ever, as `--model` takes it."""
        return f"{self.repository}@{self.commit}"


def is_name(name: str) -> bool:
    """Whether this is a name of ours or owner/name, with or without @revision; not a path."""
    short, _, _ = name.partition("@")
    return bool(_NAME.fullmatch(name)) and (short in RELEASES or "/" in short)


def _split(name: str) -> tuple[str, str]:
    """(repository, revision) of a name."""
    short, _, revision = name.partition("@")
    if not is_name(name):
        known = ", ".join(RELEASES)
        raise DownloadError(
            f"{name!r} is not known; give owner/name, owner/name@revision, or one of: {known}"
        )
    return RELEASES[short].repository if short in RELEASES else short, revision or "main"


def _store(repository: str) -> Path:
    """Where the hub's library keeps a repository: snapshots, and references to them by name."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")


def cached(name: str) -> Path | None:
    """The local directory of a name that has been downloaded, else None. Never goes online."""
    from huggingface_hub import try_to_load_from_cache

    repository, revision = _split(name)
    # A commit's directory is there from the first byte on; its reference is not.
    if not (_store(repository) / "refs" / revision).is_file():
        return None
    found = try_to_load_from_cache(repository, "config.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def find(name: str) -> Path:
    """The directory of a model: a path as it is, or a name that has been downloaded.

    Raises:
        CheckpointError: it is neither; says what to run. Nothing is downloaded here.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if not is_name(name):
        raise CheckpointError(
            f"there is no model directory {name}; give a directory with config.json and "
            "*.safetensors, or a name that `sdvlm download` knows"
        )
    found = cached(name)
    if found is None:
        raise CheckpointError(
            f"{name} is not on this machine, and nothing is downloaded while answering; run: "
            f"sdvlm download {name}"
        )
    return found


def obtain(name: str, say: Callable[[str], object]) -> None:
    """Download a name that is not on this machine, after saying what it is; else do nothing.

    Raises:
        DownloadError: as `look_up` and `download`. Paths and wrong names are left to `find`.
    """
    if Path(name).expanduser().is_dir() or not is_name(name) or cached(name) is not None:
        return
    snapshot = look_up(name)
    say(f"downloading {snapshot.pinned}, {snapshot.size / 1e9:.2f} GB; licence: {snapshot.licence}")
    say(f"downloaded to {download(snapshot)}")


def look_up(name: str) -> Snapshot:
    """Ask the hub once what a name stands for now, before anything is downloaded.

    Raises:
        DownloadError: no such name, no access, no connection, or no weights in it.
    """
    from huggingface_hub import HfApi

    repository, revision = _split(name)
    with _refusals(f"{repository} at {revision}"):
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
    said = found.card_data.get("license") if found.card_data is not None else None
    known = [release.licence for release in RELEASES.values() if release.repository == repository]
    licence = (
        known[0] if known else f"{said} (from its card)" if said else "none stated on its card"
    )
    return Snapshot(repository, revision, found.sha, licence, files)


def _is_weights(path: str) -> bool:
    return path.endswith((".safetensors", ".bin", ".pth"))


def _useful(files: tuple[File, ...]) -> tuple[File, ...]:
    """The files of the top directory that loading or converting reads."""
    top = [file for file in files if "/" not in file.path]
    safe = [file for file in top if file.path.endswith(".safetensors")]
    weights = safe or [file for file in top if _is_weights(file.path)]
    around = [file for file in top if _WANTED.fullmatch(file.path)]
    return tuple(sorted((*weights, *around), key=lambda file: file.path))


def download(snapshot: Snapshot, checking: Callable[[int], None] = lambda _: None) -> Path:
    """Fetch what is not here yet, check every file, and return the directory.

    Interrupted, it keeps the files that are complete; a broken connection goes on where it broke.
    The library shows its progress on stderr.

    Args:
        snapshot: from `look_up`.
        checking: called with the bytes of each file when it has been checked.

    Raises:
        DownloadError: no room, no connection, or a file that is not the one listed: that file is
            removed.
    """
    from huggingface_hub import hf_hub_download

    store = _store(snapshot.repository)
    store.mkdir(parents=True, exist_ok=True)
    place = store / "snapshots" / snapshot.commit
    missing = sum(file.size for file in snapshot.files if not (place / file.path).exists())
    free = shutil.disk_usage(store).free
    if missing > free:
        raise DownloadError(
            f"{snapshot.repository} needs {missing / 1e9:.1f} GB more and {store} has room for "
            f"{free / 1e9:.1f} GB; make room, or set HF_HOME to another disk"
        )
    for file in snapshot.files:
        with _refusals(f"{snapshot.repository}: {file.path}"):
            hf_hub_download(snapshot.repository, file.path, revision=snapshot.commit)
    for file in snapshot.files:
        _check(place / file.path, file)
        checking(file.size)
    # Last, so that both names lead to a complete model or nowhere.
    for name in {snapshot.commit, snapshot.revision}:
        reference = store / "refs" / name
        reference.parent.mkdir(parents=True, exist_ok=True)
        temporary = reference.with_name(f"{reference.name}.{os.getpid()}.tmp")
        temporary.write_text(snapshot.commit)
        temporary.replace(reference)
    return place


def _check(path: Path, file: File) -> None:
    if len(file.digest) == 64:
        digest = hashlib.sha256()
    else:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    if digest.hexdigest() != file.digest:
        path.resolve().unlink()
        path.unlink(missing_ok=True)
        raise DownloadError(
            f"{file.path} is damaged: its checksum is {digest.hexdigest()}, the hub lists "
            f"{file.digest}. It has been removed; run the same command again"
        )


@contextmanager
def _refusals(what: str) -> Iterator[None]:
    """What the hub and the network say -> DownloadError, with what to do."""
    from huggingface_hub import constants, errors

    try:
        yield
    # Its bases are OSError and the HTTP library's own root, which changes between versions.
    except (ValueError, *errors.HfHubHTTPError.__bases__) as error:  # type: ignore[misc]
        if isinstance(error, errors.GatedRepoError):
            advice = "it is behind terms: accept them on its page, then set HF_TOKEN"
        elif isinstance(error, errors.RepositoryNotFoundError):
            advice = "there is no such model, or it is private: then set HF_TOKEN"
        elif isinstance(error, errors.RevisionNotFoundError):
            advice = "the model is there, but not this revision"
        elif isinstance(error, errors.OfflineModeIsEnabled):
            advice = "HF_HUB_OFFLINE forbids it; unset it, or download on another machine and copy "
            advice += str(constants.HF_HUB_CACHE)
        else:
            advice = f"{type(error).__name__}: {error}; run the same command again"
        raise DownloadError(f"{what} cannot be downloaded: {advice}") from error
