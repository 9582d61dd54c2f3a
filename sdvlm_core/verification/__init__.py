"""Verification: what a model claims against what the depth image shows, like with like."""

from sdvlm_core.verification.answers import verify
from sdvlm_core.verification.check import Check, StatedVerdict, checked_document

__all__ = ["Check", "StatedVerdict", "checked_document", "verify"]
