"""`python -m training.ablate`."""

from training.ablate.run import main

if __name__ == "__main__":
    main()
