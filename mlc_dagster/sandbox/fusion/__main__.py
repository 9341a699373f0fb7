"""``python -m mlc_dagster.sandbox.fusion``: the embedded Fusion as a process of its own."""

from mlc_dagster.sandbox.server import main

if __name__ == "__main__":
    main()
