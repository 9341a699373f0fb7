"""A process that reads or writes secrets until it is told to stop: one of many, while keys are rotated.

``python busy.py read|write FOLDER NAME`` prints a line when it has begun; its standard input closing ends it, and the
last line says how often it did its work. Anything else than a value ends it with a traceback.
"""

import select
import sys
from pathlib import Path

from mlc_dagster_tests.vault.rooms import AT, resolver_in, store_in


def main(work: str, folder: Path, name: str) -> None:
    store, done = store_in(folder), 0
    while True:
        if work == "write":
            store.put(name, f"value-of-{name}-{done}", by="busy", at=AT)
        else:
            value = resolver_in(folder).resolve(f"store:{name}")
            assert value.startswith(f"value-of-{name}"), "not the value that was put"
        done += 1
        if done == 1:
            print("begun", flush=True)  # noqa: T201
        if select.select([sys.stdin], [], [], 0)[0]:
            print(done)  # noqa: T201
            return


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
