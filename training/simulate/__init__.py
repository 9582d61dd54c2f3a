"""A small household world: what things are made of, where they stand, how a camera sees them."""
