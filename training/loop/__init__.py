"""What every training loop shares: learning-rate schedule, step loop, metrics and checkpoints."""
