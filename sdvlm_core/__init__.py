"""The part of sdvlm that needs no ROS: frames, depth encoding, the model, answers.

Importing this package loads neither torch nor transformers; the modules that run a model
(`model`, `checkpoint`, `engine`) import them when they are themselves imported.
"""

__version__ = "0.1.0"
