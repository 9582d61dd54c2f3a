"""`python -m training.finetune`."""

from training.finetune.run import main

if __name__ == "__main__":
    main()
