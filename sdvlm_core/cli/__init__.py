"""The command `sdvlm`."""
