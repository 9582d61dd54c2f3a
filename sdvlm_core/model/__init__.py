"""Runs the model on a frame and a question: checkpoints, backbones, depth code, generation."""
