"""Reads numbers from text: numerals, quantities, statements, measurements of an answer."""
