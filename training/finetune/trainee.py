"""The model that learns: LoRA on the language model, projector in full, one forward to the loss.

Knows which parameters learn and how samples become a loss. Does not know optimisers or processes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from sdvlm_core.model.backbones.llava import encoding_settings
from sdvlm_core.model.checkpoint import ADAPTER_SETTINGS, Checkpoint
from sdvlm_core.model.depth_encoding import encode
from training.finetune.config import Config
from training.finetune.samples import IGNORED

#: The release's suffixes also hit its depth estimator's layers; the path keeps to the language
#: model, and lm_head stays as it is.
_TARGETS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
_PROJECTOR = "multi_modal_projector"


class Trainee(nn.Module):
    """A batch of samples -> the sum of the loss over answer tokens.

    All of the model's work is inside `forward`, where DDP and fully_shard can see it.
    """

    def __init__(self, checkpoint: Checkpoint, config: Config) -> None:
        super().__init__()
        base = checkpoint.model
        base.config.use_cache = False
        lora = LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            bias="none",
            target_modules=_TARGETS,
            modules_to_save=[_PROJECTOR],
        )
        # New weights come from the seed, on whichever process.
        torch.manual_seed(config.seed)
        self.model: Any = get_peft_model(base, lora)
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        if config.gradient_checkpointing:
            base.model.language_model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )

    def groups(self, config: Config) -> list[dict[str, Any]]:
        """Parameter groups: adapters and projector with a rate each."""
        learning = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
        rates = {True: config.projector_rate, False: config.lora_rate}
        return [
            {"params": [p for n, p in learning if (_PROJECTOR in n) is full], "lr": rate}
            for full, rate in rates.items()
        ]

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum of the cross-entropy over the labels that count, float32."""
        base = self.model.get_base_model()
        settings = encoding_settings(base.config)
        code = None
        if settings.kind != "none":
            width = base.config.text_config.hidden_size
            code = encode(batch["coordinates"], batch["valid"], settings, width)
        pixels = batch["pixels"].to(next(base.model.vision_tower.parameters()).dtype)
        features = base.get_image_features(pixels, depth_code=code, return_dict=True)
        hidden = base.model(
            input_ids=batch["ids"],
            attention_mask=batch["mask"],
            mm_encoder_outputs={"image": features},
            use_cache=False,
        ).last_hidden_state
        wanted = batch["labels"][:, 1:] != IGNORED
        # Logits only where something is learnt: of 6,000 tokens half are questions and picture.
        logits = base.lm_head(hidden[:, :-1][wanted]).float()
        return F.cross_entropy(logits, batch["labels"][:, 1:][wanted], reduction="sum")


def save_adapter(
    trainee: Trainee, tensors: dict[str, torch.Tensor], base: str, directory: Path
) -> None:
    """Write adapters and projector as `sdvlm_core.model.checkpoint.load` takes them.

    Args:
        tensors: what has been learnt, by the trainee's parameter names, whole and on the CPU.
        base: name or directory of the model it belongs on.
    """
    directory.mkdir(parents=True, exist_ok=True)
    learnt = {name.removeprefix("model."): value for name, value in tensors.items()}
    adapter = get_peft_model_state_dict(trainee.model, state_dict=learnt)
    config = trainee.model.get_base_model().config
    settings = {
        "depth_encoding": encoding_settings(config).to_mapping(),
        "prompt_template": getattr(config, "prompt_template", "vicuna_v1"),
    }
    trainee.model.peft_config["default"].base_model_name_or_path = base
    trainee.model.peft_config["default"].save_pretrained(directory)
    temporary = directory / "adapter_model.tmp"
    save_file({k: v.contiguous() for k, v in adapter.items()}, temporary, {"format": "pt"})
    text = json.dumps(settings, indent=1) + "\n"
    (directory / ADAPTER_SETTINGS).write_text(text, encoding="utf-8")
    temporary.replace(directory / "adapter_model.safetensors")
