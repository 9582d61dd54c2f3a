"""Benchmarks, a model's answers to them, and their scores."""
