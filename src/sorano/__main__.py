"""`python -m sorano` is the `sorano` command."""

from sorano.cli import main

if __name__ == "__main__":
    main()
