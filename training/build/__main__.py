"""`python -m training.build`."""

from training.build.run import main

if __name__ == "__main__":
    main()
