"""`python -m training.evaluate`."""

from training.evaluate.run import main

if __name__ == "__main__":
    main()
