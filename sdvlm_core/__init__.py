"""The part of sdvlm that needs no ROS: frames, depth encoding, the model, answers.

Importing this package loads neither torch nor transformers; the modules that run a model
(`model`, `checkpoint`, `engine`) import them when they are themselves imported.
"""

import logging

__version__ = "0.1.0"

# transformers imports torchao wherever it is installed, and both torch and torchao then warn, on
# every start, about kernels and calls that are nothing to do with us.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
