"""Every backbone's picture against the library's own processor with torchvision, by hand.

    python tests/parity/pictures.py [FAMILY ...]

Needs torchvision, which this project does not take: run it in an environment of its own that has
torch, torchvision and transformers. Prints one line for each family and size: the largest
difference in grey levels, and the share of values that differ. Pictures are noise, the worst case
of a resampling filter. `prepare` equals Pillow to the bit, or to its roundings; torchvision has
16-bit weights for 8-bit pictures where Pillow has 32-bit ones, and rounds a few values otherwise.
Exit status 1 if a value differs by more levels, or more values differ, than the case states, or if
shapes or whole-number arguments differ.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig

from sdvlm_core.model.backbones.contract import Backbone
from sdvlm_core.model.backbones.gemma3 import Gemma3
from sdvlm_core.model.backbones.internvl import InternVL
from sdvlm_core.model.backbones.llava_next import LlavaNext
from sdvlm_core.model.backbones.llava_onevision import LlavaOneVision
from sdvlm_core.model.backbones.paligemma import PaliGemma
from sdvlm_core.model.backbones.picture import IMAGENET
from sdvlm_core.model.backbones.qwen_vl import QwenVL
from sdvlm_core.model.backbones.smolvlm import SmolVLM

#: Height and width.
SIZES = ((480, 640), (640, 480), (720, 1280), (1080, 1920), (17, 23), (30, 1900), (1201, 77))


@dataclass(frozen=True)
class Case:
    """One family.

    Attributes:
        make: of the backbone: config, preprocessor.
        model_type: of transformers' config.
        processor: module under transformers.models, and class, of the image processor.
        preprocessor: the published preprocessor_config.json, as far as it differs from the class.
        config: what differs from the config's defaults.
        levels: the largest difference allowed, grey levels; a second and a third resize widen the
            roundings of the first.
        share: the part of the values that may differ.
    """

    make: Callable[[Any, Mapping[str, Any]], Backbone]
    model_type: str
    processor: tuple[str, str]
    preprocessor: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    levels: float = 2.2
    share: float = 0.01


_QWEN = ("qwen2_vl.image_processing_qwen2_vl", "Qwen2VLImageProcessor")
_SIGLIP = ("siglip.image_processing_siglip", "SiglipImageProcessor")
_SMOLVLM = ("smolvlm.image_processing_smolvlm", "SmolVLMImageProcessor")
_GEMMA3 = ("gemma3.image_processing_gemma3", "Gemma3ImageProcessor")
_GEMMA3_SIZE = {"size": {"height": 896, "width": 896}}
_GEMMA3_TOWER = {
    "vision_config": {"model_type": "siglip_vision_model", "image_size": 896, "patch_size": 14}
}
_NEXT = ("llava_next.image_processing_llava_next", "LlavaNextImageProcessor")
_ONEVISION = ("llava_onevision.image_processing_llava_onevision", "LlavaOnevisionImageProcessor")
_INTERNVL = ("got_ocr2.image_processing_got_ocr2", "GotOcr2ImageProcessor")
_NEXT_CANVASES = {
    "image_grid_pinpoints": [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
}
_ONEVISION_CANVASES = {
    "image_grid_pinpoints": [
        [384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)
    ]
}
CASES = {
    "llava_next": Case(
        LlavaNext.of,
        "llava_next",
        _NEXT,
        {
            **_NEXT_CANVASES,
            "size": {"shortest_edge": 336},
            "crop_size": {"height": 336, "width": 336},
        },
        _NEXT_CANVASES,
    ),
    "llava_onevision": Case(
        LlavaOneVision.of,
        "llava_onevision",
        _ONEVISION,
        {
            **_ONEVISION_CANVASES,
            "size": {"height": 384, "width": 384},
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        },
        _ONEVISION_CANVASES,
    ),
    "internvl": Case(
        InternVL.of,
        "internvl",
        _INTERNVL,
        {
            "crop_to_patches": True,
            "max_patches": 12,
            "size": {"height": 448, "width": 448},
            "image_mean": list(IMAGENET.mean),
            "image_std": list(IMAGENET.std),
        },
    ),
    "qwen2_5_vl": Case(
        QwenVL.of,
        "qwen2_5_vl",
        _QWEN,
        {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14},
    ),
    "qwen3_vl": Case(
        QwenVL.of,
        "qwen3_vl",
        _QWEN,
        {
            "size": {"longest_edge": 16777216, "shortest_edge": 65536},
            "patch_size": 16,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        },
    ),
    "paligemma": Case(PaliGemma.of, "paligemma", _SIGLIP, {"size": {"height": 224, "width": 224}}),
    "paligemma_448": Case(
        PaliGemma.of,
        "paligemma",
        _SIGLIP,
        {"size": {"height": 448, "width": 448}},
        {"vision_config": {"model_type": "siglip_vision_model", "image_size": 448}},
    ),
    "smolvlm_384": Case(
        SmolVLM.of,
        "smolvlm",
        _SMOLVLM,
        {"size": {"longest_edge": 1536}, "max_image_size": {"longest_edge": 384}},
        {"vision_config": {"image_size": 384, "patch_size": 14}, "scale_factor": 3},
        levels=3.2,
        share=0.03,
    ),
    "smolvlm_512": Case(
        SmolVLM.of,
        "smolvlm",
        _SMOLVLM,
        {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}},
        {"vision_config": {"image_size": 512, "patch_size": 16}, "scale_factor": 4},
        levels=3.2,
        share=0.03,
    ),
    "idefics3": Case(
        SmolVLM.of,
        "idefics3",
        ("idefics3.image_processing_idefics3", "Idefics3ImageProcessor"),
        {"size": {"longest_edge": 1820}, "max_image_size": {"longest_edge": 364}},
        {"vision_config": {"image_size": 364, "patch_size": 14}},
        levels=3.2,
        share=0.03,
    ),
    "gemma3": Case(Gemma3.of, "gemma3", _GEMMA3, _GEMMA3_SIZE, _GEMMA3_TOWER, share=0.03),
    "gemma3_crops": Case(
        Gemma3.of,
        "gemma3",
        _GEMMA3,
        {
            **_GEMMA3_SIZE,
            "do_pan_and_scan": True,
            "pan_and_scan_min_crop_size": 256,
            "pan_and_scan_max_num_crops": 4,
            "pan_and_scan_min_ratio_to_activate": 1.2,
        },
        _GEMMA3_TOWER,
        share=0.03,
    ),
}


def difference(case: Case, rgb: np.ndarray) -> tuple[float, float]:
    """The largest difference in grey levels, and the share of values that differ."""
    processor_type = getattr(
        import_module(f"transformers.models.{case.processor[0]}"), case.processor[1]
    )
    processor = processor_type(**case.preprocessor)
    wanted = processor(images=[rgb], return_tensors="pt")
    config = AutoConfig.for_model(case.model_type, **case.config)
    got = case.make(config, case.preprocessor).prepare(rgb, torch.device("cpu"))
    for name, value in got.items():
        if value.shape != wanted[name].shape:
            raise SystemExit(f"{name} has the shape {value.shape}, not {wanted[name].shape}")
        if not value.is_floating_point() and not value.equal(wanted[name]):
            raise SystemExit(f"{name} is {value}, not {wanted[name]}")
    # By the channel with the largest factor: a level of another one reads as up to 1.06.
    levels = (got["pixel_values"] - wanted["pixel_values"]).abs() * 255 * max(processor.image_std)
    return float(levels.max()), float((levels > 0.01).float().mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("family", nargs="*", help=f"of {', '.join(CASES)}; all without any")
    arguments = parser.parse_args()
    failed = False
    for name in arguments.family or CASES:
        for height, width in SIZES:
            rgb = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
            largest, share = difference(CASES[name], rgb)
            failed |= largest > CASES[name].levels or share > CASES[name].share
            print(f"{name:18}{width:5}x{height:<5}{largest:8.3f} levels {share:8.2%} differ")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
