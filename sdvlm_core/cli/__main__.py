"""`python -m sdvlm_core.cli`, the same as the console script `sdvlm`."""

from sdvlm_core.cli.app import main

if __name__ == "__main__":
    main()
