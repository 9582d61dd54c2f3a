"""Simulated household scenes: RGB-D frames with exact scene graphs."""
