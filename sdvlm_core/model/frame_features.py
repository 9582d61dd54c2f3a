"""A frame -> the image tokens that the language model sees: features of the picture + depth code.

The half of a model that a robot can run alone: it needs the image encoder and the projector, not
the language model (`load_encoder`). Does not know prompts or questions.

    encoder = load_encoder("qwen3-vl-dpe", device="cuda")
    encoder.features(frame).pooler_output    # as `forward(mm_encoder_outputs={"image": ...})` takes
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from sdvlm_core.errors import DepthError
from sdvlm_core.frame import RgbdFrame
from sdvlm_core.model.backbones import backbone_for
from sdvlm_core.model.backbones.contract import Backbone
from sdvlm_core.model.checkpoint import load_image_half, mergeless
from sdvlm_core.model.coded_features import coded_features
from sdvlm_core.model.depth_encoding import encode, pool_on
from sdvlm_core.model.devices import resolve
from sdvlm_core.model.model_config import read_preprocessor
from sdvlm_core.model.own_settings import encoding_settings


def depth_code(
    model: Any, backbone: Backbone, frame: RgbdFrame, device: torch.device
) -> torch.Tensor | None:
    """The depth code (tokens, channels) float32 of a frame.

    None: the model has no depth encoding, or its encoding is optional and the frame has no depth.

    Raises:
        DepthError: the encoding needs depth and the frame has no usable reading.
        IntrinsicsError: the encoding needs intrinsics and the frame has none, or they give rays
            that the encoding cannot express.
    """
    settings = encoding_settings(model.config)
    if settings.kind == "none" or (settings.optional and frame.depth is None):
        return None
    if frame.depth is None:
        raise DepthError(
            f"the model answers from depth ({settings.kind} encoding) and this frame has none; "
            "give a depth image, or a depth estimator"
        )
    coordinates, valid = pool_on(
        device,
        frame.depth,
        frame.intrinsics,
        settings,
        backbone.token_pixels(frame.height, frame.width),
        frame.depth_source,
    )
    return encode(coordinates, valid, settings, model.config.text_config.hidden_size)


def frame_features(model: Any, backbone: Backbone, frame: RgbdFrame, device: torch.device) -> Any:
    """The projected image features plus depth code: transformers' output object.

    Raises:
        DepthError, IntrinsicsError: as `depth_code`.
    """
    code = depth_code(model, backbone, frame, device)
    return coded_features(model, backbone.prepare(frame.rgb, device), code)


@dataclass(frozen=True, eq=False)
class FrameEncoder:
    """Image encoder, projector and depth code of a model, without its language model.

    Attributes:
        model_id: the name or directory it was loaded by.
        model: of transformers; its language model has no layers.
    """

    model_id: str
    model: PreTrainedModel
    backbone: Backbone
    device: torch.device

    @torch.inference_mode()
    def features(self, frame: RgbdFrame) -> Any:
        """As `frame_features`; raises as `depth_code`."""
        return frame_features(self.model, self.backbone, frame, self.device)


def load_encoder(name: str, device: str = "auto", dtype: str = "auto") -> FrameEncoder:
    """The encoder of a model; its language model is neither read nor held in memory.

    Args: as of `checkpoint.load`.

    Raises:
        CheckpointError: as `checkpoint.load`; or an adapter, whose projector may be its own.
    """
    directory = mergeless(name)
    model = load_image_half(directory, resolve(device, dtype, "none", "auto"))
    backbone = backbone_for(model.config, read_preprocessor(directory))
    return FrameEncoder(name, model, backbone, next(model.parameters()).device)
