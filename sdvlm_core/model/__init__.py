"""Frame and words -> tokens -> text: checkpoints, backbones, depth code, generation."""
