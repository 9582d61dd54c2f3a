"""The ablation of the paper, at the size of nano: how depth gets in, and what it is worth."""
