"""Words <-> meaning: numerals, quantities, statements, readings of answers."""
