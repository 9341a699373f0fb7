"""What is said when a layout or a crosswalk cannot be used: file, key, value and what to do."""

from mlc_dagster.expected import Expected, FailureKind


class LayoutError(Expected, ValueError):
    """The layout cannot be used. ``problems`` holds one line per fault: key or line, value, remedy."""

    kind = FailureKind.CONFIGURATION

    def __init__(self, source_file: str, problems: list[str]) -> None:
        self.source_file = source_file
        self.problems = problems
        super().__init__(f"{source_file}: " + "; ".join(problems))
