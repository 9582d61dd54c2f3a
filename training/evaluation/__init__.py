"""Scoring answers against references."""
