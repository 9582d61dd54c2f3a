"""How nano, the embedded default model, is made: see `training.nano.__main__`."""
