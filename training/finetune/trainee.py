"""The trained model: LoRA or the whole of it, one forward to the loss, and how it is saved.

With LoRA the language model gets adapters and the projector trains in full; which modules these
are, a backbone says. Knows which parameters train and how samples become a loss. Does not know
optimisers or processes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from torch import nn
from torch.nn import functional as F

from sdvlm_core.files import write_json
from sdvlm_core.language.question import Dialect
from sdvlm_core.model.backbones.contract import Backbone
from sdvlm_core.model.checkpoint import ADAPTER_SETTINGS, Checkpoint, write_model
from sdvlm_core.model.coded_features import coded_features
from sdvlm_core.model.depth_encoding import encode
from sdvlm_core.model.model_config import PREPROCESSOR
from sdvlm_core.model.own_settings import encoding_settings
from training.finetune.batches import Batch
from training.finetune.config import Config
from training.finetune.samples import IGNORED
from training.loop.checkpoints import write_tensors


class Trainee(nn.Module):
    """A batch of samples -> the sum of the loss over answer tokens.

    All computation is inside `forward`, which DDP and fully_shard wrap.
    """

    def __init__(self, checkpoint: Checkpoint, config: Config) -> None:
        super().__init__()
        self.checkpoint = checkpoint
        base: Any = checkpoint.model
        base.config.use_cache = False
        # New weights depend on the seed only, not on the process.
        torch.manual_seed(config.seed)
        self.projector = _projector_names(base, checkpoint.backbone)
        self.model: Any = base
        if config.lora_rank:
            self.model = get_peft_model(base, _lora(checkpoint.backbone, self.projector, config))
        else:
            base.requires_grad_(True)
        for parameter in self.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        if config.gradient_checkpointing:
            # With LoRA nothing trains before the language model but the projector.
            trained = base.get_decoder() if config.lora_rank else base
            trained.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )

    def groups(self, config: Config) -> list[dict[str, Any]]:
        """Parameter groups: the projector and the others, each with its learning rate."""
        rates = {True: config.projector_rate, False: config.lora_rate}
        trainable = [(n, p) for n, p in self.named_parameters() if p.requires_grad]
        return [
            {"params": [p for n, p in trainable if self._of_projector(n) is full], "lr": rate}
            for full, rate in rates.items()
        ]

    def _of_projector(self, parameter: str) -> bool:
        return any(f"{name}." in parameter for name in self.projector)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Sum of the cross-entropy over the labels that are not IGNORED, float32."""
        base: Any = self.checkpoint.model
        settings = encoding_settings(base.config)
        code = None
        if settings.kind != "none":
            width = base.config.text_config.hidden_size
            code = encode(batch.coordinates, batch.valid, settings, width)
        types = {} if batch.token_types is None else {"token_type_ids": batch.token_types}
        hidden = base.model(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            mm_encoder_outputs={"image": coded_features(base, batch.images, code)},
            use_cache=False,
            **types,
        ).last_hidden_state
        wanted = batch.labels[:, 1:] != IGNORED
        # Logits of labelled tokens only: of 6,000 tokens half are questions and image tokens.
        logits = base.lm_head(hidden[:, :-1][wanted]).float()
        bound = getattr(base.config.text_config, "final_logit_softcapping", None)
        if bound is not None:  # the language model of PaliGemma 2
            logits = bound * torch.tanh(logits / bound)
        return F.cross_entropy(logits, batch.labels[:, 1:][wanted], reduction="sum")


def _projector_names(model: Any, backbone: Backbone) -> list[str]:
    """The modules between image encoder and language model; of a list of modules, its members."""
    found = []
    for name, module in model.named_modules():
        if any(name == one or name.endswith(f".{one}") for one in backbone.projector):
            parts = isinstance(module, nn.ModuleList)
            found += [f"{name}.{at}" for at in range(len(module))] if parts else [name]
    return found


def _lora(backbone: Backbone, projector: list[str], config: Config) -> LoraConfig:
    """The release's suffixes also hit its depth estimator's layers; a backbone names its own.

    `lm_head` and the embeddings stay as they are.
    """
    return LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        bias="none",
        target_modules=backbone.lora_targets,
        modules_to_save=projector,
    )


def save_trained(
    trainee: Trainee, tensors: dict[str, torch.Tensor], base: str, directory: Path
) -> None:
    """Write adapters and projector, or the whole model, as `checkpoint.load` reads them.

    Args:
        tensors: trained parameters by the trainee's names, unsharded, on the CPU.
        base: name or directory of the base model.
    """
    directory.mkdir(parents=True, exist_ok=True)
    trained = {name.removeprefix("model."): value for name, value in tensors.items()}
    checkpoint = trainee.checkpoint
    config: Any = checkpoint.model.config
    settings = {
        "depth_encoding": encoding_settings(config).to_mapping(),
        "prompt_template": getattr(config, "prompt_template", checkpoint.backbone.template),
        # The questions of the training are MSMU's, whatever the base model was asked.
        "dialect": Dialect.MSMU.value,
        # That of the base model is of its own answers.
        "calibration": {},
    }
    if trainee.model is checkpoint.model:
        for key, value in settings.items():
            setattr(config, key, value)
        config.use_cache = True
        write_model(checkpoint, directory, trained)
        return
    adapter = get_peft_model_state_dict(trainee.model, state_dict=trained)
    trainee.model.peft_config["default"].base_model_name_or_path = base
    trainee.model.peft_config["default"].save_pretrained(directory)
    write_json(directory / ADAPTER_SETTINGS, settings, indent=1)
    if checkpoint.preprocessor:
        write_json(directory / PREPROCESSOR, checkpoint.preprocessor, indent=1)
    # Written last: if it exists, the adapter is complete.
    write_tensors(directory / "adapter_model.safetensors", adapter, format="pt")
