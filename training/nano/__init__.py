"""Training of nano, the default model in the package: see `training.nano.run`."""
