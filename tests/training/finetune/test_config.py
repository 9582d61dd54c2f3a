"""The configuration of a fine-tuning run: mistakes are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
import yaml

from training.finetune.config import read_config
from training.finetune.run import finetune


@pytest.fixture
def config(tmp_path):
    """A configuration file; values may be changed."""

    def write(**values) -> Path:
        file = tmp_path / "config.yaml"
        file.write_text(yaml.safe_dump({"model": "nano", "data": "data", "out": "out"} | values))
        return file

    return write


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 3}, "unknown keys"),
        ({"batch": "many"}, "batch must be int"),
        ({"lora_rank": -1}, "lora_rank must be at least 0"),
        ({"without_depth": 1.5}, "without_depth must be from 0 to 1"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"save_every": 0}, "save_every must be at least 1"),
        ({"dtype": "float16", "sharding": "zero2"}, "float16 needs sharding copy, not zero2"),
        ({"dtype": "int8"}, "dtype is one of"),
        ({"depth": "guessed"}, "depth is one of"),
        ({"depth": "mixed"}, "depth mixed needs the key estimator"),
        ({"encoding": {"kind": "magic"}}, "depth_encoding.kind"),
        ({"gradient_checkpointing": 1}, "must be bool"),
    ],
)
def test_a_configuration_with_a_mistake_is_refused_by_name(config, change, message):
    with pytest.raises(ValueError, match=message):
        read_config(config(**change))


def test_float16_is_refused_with_the_option_that_shards(config, capsys):
    with pytest.raises(typer.Exit):
        finetune(config(dtype="float16"), sharding="fsdp")
    assert "float16 needs sharding copy, not fsdp" in capsys.readouterr().err
