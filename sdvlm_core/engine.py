"""SpatialEngine: a loaded model that encodes frames.

`open` runs the image encoder, the projector, the depth encoding and the prompt prefix once, and
keeps their key/value cache in a session (`session`), which is asked many questions. Does not know
ROS, threads (one caller at a time), questions or answers.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from sdvlm_core import threads
from sdvlm_core.errors import CheckpointError, FrameError
from sdvlm_core.frame import CameraIntrinsics, RgbdFrame
from sdvlm_core.model import slots
from sdvlm_core.model.checkpoint import NANO, Checkpoint, load_for_server, mergeless
from sdvlm_core.model.checkpoint import load as load_checkpoint
from sdvlm_core.model.coded_features import token_features
from sdvlm_core.model.frame_features import depth_code, frame_features
from sdvlm_core.model.generation import Decoder, memory_guard
from sdvlm_core.model.generation_options import UNLIMITED, GenerationOptions, Limits
from sdvlm_core.model.local_decoder import LocalDecoder
from sdvlm_core.model.own_settings import context_tokens, encoding_settings
from sdvlm_core.model.prefix import read_prefix
from sdvlm_core.model.prompt import prefix_ids
from sdvlm_core.model.slots import Slot
from sdvlm_core.session import FrameSession

if TYPE_CHECKING:
    from sdvlm_core.model.depth_estimation import DepthEstimator
    from sdvlm_core.model.server import Server

#: Height and width of the largest frames whose answers are decoded in captured steps.
_LARGEST_CAPTURED = (1080, 1920)


@dataclass(frozen=True)
class LoadOptions:
    """Which model to load, and how to run it.

    Attributes:
        model: `nano`, a model directory, or the name of a downloaded model.
        device: `auto` (the CPU for a small model, else CUDA if available), `cpu`, `cuda`,
            `cuda:1`, ... or `balanced`; see `model.devices.resolve`.
        dtype: `auto`, `float32`, `float16` or `bfloat16`.
        quantization: `none`, `bnb-int8` or `bnb-nf4`.
        attention: `auto`, `eager`, `sdpa` or `flash_attention_2`.
        depth_estimator: a directory or the name of a downloaded estimator for frames without
            depth; None or "" = such frames keep no depth.
        server: URL of a vLLM server (`model.served`) that holds the language model; only the image
            encoder and the projector of `model` are then loaded. "" = all of it runs here.
        served_model: the model's name on that server; "" = as `model`.
    """

    model: str = NANO
    device: str = "auto"
    dtype: str = "auto"
    quantization: str = "none"
    attention: str = "auto"
    depth_estimator: str | None = None
    server: str = ""
    served_model: str = ""


def load_engine(options: LoadOptions) -> SpatialEngine:
    """Load a model, and its depth estimator if one is named, from local files.

    Raises:
        CheckpointError: a model is missing, incomplete, cannot run on this machine, or is of a
            family that is not served; or quantization or attention is chosen with a server.
        ServerError: the server is not there, refuses the key, or has no such model, or one with
            other weights.
    """
    if not options.server:
        checkpoint = load_checkpoint(
            options.model, options.device, options.dtype, options.quantization, options.attention
        )
        return SpatialEngine(checkpoint, _estimator(options, checkpoint))
    if (options.quantization, options.attention) != ("none", "auto"):
        raise CheckpointError(
            f"quantization {options.quantization} and attention {options.attention} are of the "
            "language model, which the server has: leave them at none and auto"
        )
    from sdvlm_core.model.image_half import language_mark
    from sdvlm_core.model.server import Server, key_from_environment

    name = options.served_model or options.model
    mark = language_mark(mergeless(options.model))
    server = Server(options.server, name, key_from_environment(), mark)
    try:
        server.check()
        checkpoint = load_for_server(options.model, options.device, options.dtype)
        return SpatialEngine(checkpoint, _estimator(options, checkpoint), server)
    except BaseException:
        server.close()
        raise


def _estimator(options: LoadOptions, checkpoint: Checkpoint) -> DepthEstimator | None:
    if not options.depth_estimator:
        return None
    from sdvlm_core.model.depth_estimation import load_estimator

    return load_estimator(options.depth_estimator, checkpoint.device)


def load(model: str = NANO, device: str = "auto") -> SpatialEngine:
    """`load_engine` for the two options that most programs need.

    Raises:
        CheckpointError: as `load_engine`.
    """
    return load_engine(LoadOptions(model, device))


class SpatialEngine:
    """A loaded model that opens frames. With an estimator it also opens frames without depth.

    With a server, `checkpoint` is the image half of the model (`checkpoint.load_for_server`).
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        estimator: DepthEstimator | None = None,
        server: Server | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.estimator = estimator
        self.server = server
        self.model_id = checkpoint.model_id
        self._slot: Slot | None = None

    def open(self, frame: RgbdFrame, limits: Limits = UNLIMITED) -> FrameSession:
        """Encode a frame once; the session answers any number of questions about it.

        A model whose depth encoding is `optional` also answers about a frame without depth; the
        answers then have the status NO_DEPTH and an empty `depth_source`.

        Args:
            limits: deadline and cancellation; checked before the image encoder, after it, and
                between two chunks of the prompt's prefix.

        Raises:
            FrameError: the image has a shape, or as many tokens, as the model cannot take.
            DepthError: the model's encoding needs depth and the frame has no usable reading.
            IntrinsicsError: the encoding needs intrinsics and the frame has none, or they give
                rays that the encoding cannot express.
            QueryTimeout, QueryCanceled: a limit was reached.
            ModelMemoryError: out of memory.
        """
        started = time.perf_counter()
        with (
            memory_guard(f"encoding a {frame.width}x{frame.height} frame"),
            torch.inference_mode(),
        ):
            limits.check("decoding the frame")
            frame = self._with_depth(frame)
            decoder = self._encode(frame, limits)
        seconds = time.perf_counter() - started
        return FrameSession(self.checkpoint, frame, decoder, seconds)

    def capture(self, compiled: bool = False) -> float:
        """Capture the decode step on a GPU (`model.slots`): a 7B model decodes three times as fast.

        Args:
            compiled: compile the step first; minutes the first time, kept on disk.

        Returns the seconds that it took; 0 where decoding cannot be captured, as on the CPU or on a
        server.
        """
        if self.server is not None:
            return 0.0
        started = time.perf_counter()
        tokens = len(self._prefix_ids(*_LARGEST_CAPTURED))
        self._slot = None
        with memory_guard("capturing the decode step"):
            slot = slots.made_for(self.checkpoint, tokens, compiled)
            if slot is None:
                return 0.0
            slot.capture()
        self._slot = slot
        return time.perf_counter() - started

    def close(self) -> None:
        """Close the connections to the server, if there is one; no question can be asked after."""
        if self.server is not None:
            self.server.close()

    def problem(self) -> str:
        """Why no question can be answered now: the server is down. "" = one can. Never waits."""
        return "" if self.server is None else self.server.problem()

    def use_threads(self, wanted: int = 0) -> int:
        """Bound the threads of this process for the model (`threads.use`); for its owner only."""
        device = self.checkpoint.device
        return threads.use(wanted, self.checkpoint.model.num_parameters(), device.type == "cpu")

    def warm_up(self) -> None:
        """Answer once about an empty scene, so that the first real question is not slower."""
        frame = RgbdFrame(
            rgb=np.full((48, 64, 3), 128, np.uint8),
            depth=np.full((48, 64), 1.0, np.float32) if self.estimator is None else None,
            intrinsics=CameraIntrinsics(60.0, 60.0, 31.5, 23.5, 64, 48),
        )
        self.open(frame).ask("How far is the wall?", GenerationOptions(max_new_tokens=2))

    def _with_depth(self, frame: RgbdFrame) -> RgbdFrame:
        """The frame; with estimated depth if the encoding needs depth and the frame has none."""
        wanted = encoding_settings(self.checkpoint.model.config).kind != "none"
        if self.estimator is None or frame.depth is not None or not wanted:
            return frame
        from sdvlm_core.model.depth_estimation import with_estimated_depth

        return with_estimated_depth(frame, self.estimator)

    def depth_code(self, frame: RgbdFrame) -> torch.Tensor | None:
        """The depth code (tokens, channels) float32 of a frame.

        None: the model has no depth encoding, or its encoding is optional and the frame has no
        depth.

        Raises:
            DepthError, IntrinsicsError: as `open`.
        """
        checkpoint = self.checkpoint
        return depth_code(checkpoint.model, checkpoint.backbone, frame, checkpoint.device)

    def image_features(self, frame: RgbdFrame) -> Any:
        """The projected image features plus depth code: transformers' output object.

        Raises:
            DepthError, IntrinsicsError: as `open`.
        """
        checkpoint = self.checkpoint
        return frame_features(checkpoint.model, checkpoint.backbone, frame, checkpoint.device)

    def _encode(self, frame: RgbdFrame, limits: Limits) -> Decoder:
        """The prompt prefix with the image, read here or to be read by the server."""
        checkpoint, size = self.checkpoint, (frame.height, frame.width)
        ids = self._prefix_ids(*size)
        context = context_tokens(checkpoint.model.config)
        if context is not None and len(ids) >= context:
            raise FrameError(
                f"a {frame.width}x{frame.height} frame takes {len(ids)} tokens; the model's "
                f"context has {context}: give a smaller frame"
            )
        features = self.image_features(frame)
        limits.check("encoding the image")
        if self.server is not None:
            from sdvlm_core.model.served import ServedDecoder, served_prefix

            sent = served_prefix(checkpoint, ids, size, token_features(features))
            return ServedDecoder(checkpoint, sent, self.server)
        prefix = read_prefix(checkpoint.model, checkpoint.backbone, ids, features, size, limits)
        return LocalDecoder(checkpoint, prefix, self._slot)

    def _prefix_ids(self, height: int, width: int) -> list[int]:
        checkpoint = self.checkpoint
        return prefix_ids(
            checkpoint.tokenizer,
            checkpoint.prompt_template,
            checkpoint.model.config.image_token_id,
            checkpoint.backbone.image_pieces(height, width),
        )
