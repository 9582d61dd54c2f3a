"""The language model's forward pass over one image prefix and rows of packed questions.

Gives what transformers' Llama gives for each question after the same prefix (a test compares the
two), but runs the prefix once, masks questions from each other, and returns the attention of
question tokens to the prefix, which training supervises. Training only; does not know losses.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb


@dataclass(frozen=True, eq=False)
class Packed:
    """hidden: states (B, R, L, D) after each requested layer, by layer index, un-normalised;
    attention: probabilities (B, H, R, L, P) on the prefix, by layer index;
    final: (B, R, L, D) after the last norm."""

    hidden: dict[int, torch.Tensor]
    attention: dict[int, torch.Tensor]
    final: torch.Tensor


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scaled dot-product attention with an additive mask, and its probabilities."""
    # Scale the queries, not the scores: the scores are the largest tensors.
    weights = ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2) + mask).softmax(-1)
    return weights @ v, weights


def packed_forward(
    model: LlamaModel,
    prefix: torch.Tensor,
    rows: torch.Tensor,
    places: torch.Tensor,
    segments: torch.Tensor,
    dtype: torch.dtype,
    hidden_of: tuple[int, ...] = (),
    attention_of: tuple[int, ...] = (),
) -> Packed:
    """Run all layers.

    Args:
        prefix: (B, P, D) embeddings before every question.
        rows: (B, R, L, D) embeddings; a row holds several questions one after the other.
        places: (B, R, L) int64, position of a token within its own question.
        segments: (B, R, L) int64, which question of the row a token belongs to.
        dtype: data type of the matrix products; the residual stream is float32.
    """
    batch, before, width = prefix.shape
    count, length = rows.shape[1:3]
    heads = model.config.num_attention_heads
    size = width // heads
    split = batch * before
    device = prefix.device
    cos_p, sin_p = model.rotary_emb(prefix, torch.arange(before, device=device).unsqueeze(0))
    cos_r, sin_r = model.rotary_emb(rows, before + places.flatten(1))
    cos_p, sin_p, cos_r, sin_r = (table.to(dtype) for table in (cos_p, sin_p, cos_r, sin_r))
    shut = torch.finfo(torch.float32).min / 2
    past = torch.ones(before, before, dtype=torch.bool, device=device).tril()
    prefix_mask = torch.zeros(before, before, dtype=dtype, device=device).masked_fill_(~past, shut)
    own = (segments.unsqueeze(-1) == segments.unsqueeze(-2)) & past.new_ones(length, length).tril()
    shape = (batch, 1, count, length, before + length)
    row_mask = torch.zeros(shape, dtype=dtype, device=device)
    row_mask[..., before:].masked_fill_(~own.unsqueeze(1), shut)

    def linear(x: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
        return F.linear(x, layer.weight.to(dtype))

    def norm(x: torch.Tensor, layer: LlamaRMSNorm) -> torch.Tensor:
        return F.rms_norm(x, (width,), layer.weight, layer.variance_epsilon).to(dtype)

    # One flat row of tokens through every linear layer: large products are the fast ones.
    flat = torch.cat([prefix.flatten(0, 1), rows.flatten(0, 2)])
    hidden: dict[int, torch.Tensor] = {}
    attention: dict[int, torch.Tensor] = {}
    for index, layer in enumerate(model.layers):
        block, mlp = layer.self_attn, layer.mlp
        normed = norm(flat, layer.input_layernorm)
        projected = [linear(normed, part) for part in (block.q_proj, block.k_proj, block.v_proj)]
        qp, kp, vp = (x[:split].view(batch, before, heads, size).transpose(1, 2) for x in projected)
        qr, kr, vr = (x[split:].view(batch, -1, heads, size).transpose(1, 2) for x in projected)
        qp, kp = apply_rotary_pos_emb(qp, kp, cos_p, sin_p)
        qr, kr = apply_rotary_pos_emb(qr, kr, cos_r, sin_r)
        prefix_out, _ = _attend(qp, kp, vp, prefix_mask)

        def in_rows(x: torch.Tensor) -> torch.Tensor:  # (B, H, R L, d) -> (B, H, R, L, d)
            return x.reshape(batch, heads, count, length, size)

        def with_prefix(own: torch.Tensor, shared: torch.Tensor) -> torch.Tensor:
            repeated = shared.unsqueeze(2).expand(-1, -1, count, -1, -1)
            return torch.cat([repeated, in_rows(own)], dim=-2)

        rows_out, weights = _attend(in_rows(qr), with_prefix(kr, kp), with_prefix(vr, vp), row_mask)
        if index in attention_of:
            attention[index] = weights[..., :before]
        mixed = torch.cat(
            [
                prefix_out.transpose(1, 2).reshape(split, width),
                rows_out.permute(0, 2, 3, 1, 4).reshape(-1, width),
            ]
        )
        flat = flat + linear(mixed, block.o_proj)
        normed = norm(flat, layer.post_attention_layernorm)
        gated = F.silu(linear(normed, mlp.gate_proj)) * linear(normed, mlp.up_proj)
        flat = flat + linear(gated, mlp.down_proj)
        if index in hidden_of:
            hidden[index] = flat[split:].view(batch, count, length, width)
    final = model.norm(flat[split:]).view(batch, count, length, width)
    return Packed(hidden, attention, final)
