"""The plugin of lmms-eval: the model `sdvlm`, and RGB-D tasks with depth controls.

`model` answers, `functions` are called by the tasks, `prepare` writes tasks and their tables.
lmms-eval finds the model by the entry point `lmms_eval.models`, and the tasks by `--include_path`.
"""

from __future__ import annotations

from typing import Any


def manifest() -> Any:
    """What lmms-eval registers; it imports the model only if it is asked for."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest("sdvlm", simple_class_path="sdvlm_lmms_eval.model.Sdvlm")
