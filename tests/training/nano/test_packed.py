"""The packed forward pass is the language model's own, question by question."""

import torch
from transformers import LlamaConfig, LlamaModel

from training.nano.packed import packed_forward

BEFORE, WIDTH = 5, 32


def _model() -> LlamaModel:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        attn_implementation="eager",
    )
    return LlamaModel(config).eval()


def _pack(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rows = torch.randn(1, 1, sum(lengths) + 2, WIDTH)
    places = torch.cat([*map(torch.arange, lengths), torch.zeros(2, dtype=torch.int64)])
    segments = torch.cat(
        [torch.full((n,), i) for i, n in enumerate(lengths)] + [torch.full((2,), -1)]
    )
    return rows, places.view(1, 1, -1), segments.view(1, 1, -1)


@torch.inference_mode()
def test_every_packed_question_has_the_states_it_has_alone_after_the_prefix():
    model = _model()
    prefix = torch.randn(1, BEFORE, WIDTH)
    lengths = [4, 7, 2]
    rows, places, segments = _pack(lengths)
    packed = packed_forward(
        model, prefix, rows, places, segments, torch.float32, hidden_of=(1,), attention_of=(1,)
    )
    first = 0
    for length in lengths:
        own = rows[:, 0, first : first + length]
        alone = model(
            inputs_embeds=torch.cat([prefix, own], dim=1),
            output_hidden_states=True,
            output_attentions=True,
        )
        part = slice(first, first + length)
        torch.testing.assert_close(
            packed.final[:, 0, part], alone.last_hidden_state[:, BEFORE:], atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(
            packed.hidden[1][:, 0, part], alone.hidden_states[2][:, BEFORE:], atol=1e-5, rtol=1e-4
        )
        torch.testing.assert_close(
            packed.attention[1][:, :, 0, part],
            alone.attentions[1][:, :, BEFORE:, :BEFORE],
            atol=1e-5,
            rtol=1e-4,
        )
        first += length
