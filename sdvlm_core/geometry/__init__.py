"""Region of a frame -> 3-D measurements, from depth alone."""
