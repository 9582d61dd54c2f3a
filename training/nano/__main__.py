"""`python -m training.nano`."""

from training.nano.run import main

if __name__ == "__main__":
    main()
