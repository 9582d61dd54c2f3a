"""The trained model: LoRA on the language model, the projector in full, one forward to the loss.

Knows which parameters train and how samples become a loss. Does not know optimisers or processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from torch import nn
from torch.nn import functional as F

from sdvlm_core.files import write_json
from sdvlm_core.model.checkpoint import ADAPTER_SETTINGS, Checkpoint
from sdvlm_core.model.coded_features import coded_features
from sdvlm_core.model.depth_encoding import encode
from sdvlm_core.model.own_settings import encoding_settings
from training.finetune.config import Config
from training.finetune.samples import IGNORED
from training.loop.checkpoints import write_tensors

#: The release's suffixes also hit its depth estimator's layers; the path keeps to the language
#: model, and lm_head stays as it is.
_TARGETS = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"
_PROJECTOR = "multi_modal_projector"


class Trainee(nn.Module):
    """A batch of samples -> the sum of the loss over answer tokens.

    All computation is inside `forward`, which DDP and fully_shard wrap.
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
        # New weights depend on the seed only, not on the process.
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
        """Parameter groups: adapters and projector, each with its learning rate."""
        trainable = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
        rates = {True: config.projector_rate, False: config.lora_rate}
        return [
            {"params": [p for n, p in trainable if (_PROJECTOR in n) is full], "lr": rate}
            for full, rate in rates.items()
        ]

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sum of the cross-entropy over the labels that are not IGNORED, float32."""
        base = self.model.get_base_model()
        settings = encoding_settings(base.config)
        code = None
        if settings.kind != "none":
            width = base.config.text_config.hidden_size
            code = encode(batch["coordinates"], batch["valid"], settings, width).flatten(0, 1)
        features = coded_features(base, {"pixel_values": batch["pixels"]}, code)
        hidden = base.model(
            input_ids=batch["ids"],
            attention_mask=batch["mask"],
            mm_encoder_outputs={"image": features},
            use_cache=False,
        ).last_hidden_state
        wanted = batch["labels"][:, 1:] != IGNORED
        # Logits of labelled tokens only: of 6,000 tokens half are questions and image tokens.
        logits = base.lm_head(hidden[:, :-1][wanted]).float()
        return F.cross_entropy(logits, batch["labels"][:, 1:][wanted], reduction="sum")


def save_adapter(
    trainee: Trainee, tensors: dict[str, torch.Tensor], base: str, directory: Path
) -> None:
    """Write adapters and projector as `sdvlm_core.model.checkpoint.load` reads them.

    Args:
        tensors: trained parameters by the trainee's names, unsharded, on the CPU.
        base: name or directory of the base model.
    """
    directory.mkdir(parents=True, exist_ok=True)
    trained = {name.removeprefix("model."): value for name, value in tensors.items()}
    adapter = get_peft_model_state_dict(trainee.model, state_dict=trained)
    config = trainee.model.get_base_model().config
    settings = {
        "depth_encoding": encoding_settings(config).to_mapping(),
        "prompt_template": getattr(config, "prompt_template", "vicuna_v1"),
    }
    trainee.model.peft_config["default"].base_model_name_or_path = base
    trainee.model.peft_config["default"].save_pretrained(directory)
    write_json(directory / ADAPTER_SETTINGS, settings, indent=1)
    # Written last: if it exists, the adapter is complete.
    write_tensors(directory / "adapter_model.safetensors", adapter, format="pt")
