"""`python -m training.simulate`."""

from training.simulate.run import main

if __name__ == "__main__":
    main()
