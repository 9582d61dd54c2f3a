"""Lets vLLM's build for CPUs import a torchvision that was built for CUDA.

The operators of that torchvision do not load beside torch for CPUs, and its import fails because it
describes two of them. They are declared here. Nothing calls them: a served frame comes as features.
"""

import sys


class _Declare:
    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            library = torch.library.Library("torchvision", "FRAGMENT")
            for operator in ("nms", "qnms"):
                library.define(f"{operator}(Tensor dets, Tensor scores, float iou) -> Tensor")
            _Declare.kept = library
        return


sys.meta_path.insert(0, _Declare())
