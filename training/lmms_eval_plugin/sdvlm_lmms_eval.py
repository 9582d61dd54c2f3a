"""The entry point `lmms_eval.models` of the distribution `sdvlm-lmms-eval`."""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """What lmms-eval registers; it imports the model only if it is asked for.

    Raises:
        ImportError: the checkout of sdvlm, which holds the model, is not installed.
    """
    import importlib.util

    from lmms_eval.models.registry_v2 import ModelManifest

    if importlib.util.find_spec("training.lmms_eval_plugin") is None:
        raise ImportError(
            "the checkout of sdvlm is missing: pip install --editable CHECKOUT in this environment"
        )
    return ModelManifest("sdvlm", simple_class_path="training.lmms_eval_plugin.model.Sdvlm")
