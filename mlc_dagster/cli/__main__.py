"""``python -m mlc_dagster.cli``: the command where its script is not on the PATH."""

from mlc_dagster.cli import main

if __name__ == "__main__":
    main()
