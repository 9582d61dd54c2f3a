"""The offline side of sdvlm, run from a checkout: data, training, evaluation. Never on a robot."""
