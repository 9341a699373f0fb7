"""What a step found, and the order of steps: one that fails leaves out those that need it, the others go on."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import partial
from typing import NamedTuple


class State(Enum):
    OK = "ok"
    WRONG = "WRONG"
    WARN = "warn"
    SKIPPED = "skipped"


class Cause(IntEnum):
    """Who has to act when a step is wrong; the smallest of all decides over the exit code."""

    PRODUCT = 1
    """The step itself failed."""
    HERE = 2
    """Configuration, trust or permissions: a key, a secret, a host key, a login, a role, a folder."""
    REMOTE = 3
    """The other side is down, or refuses without saying why."""


@dataclass(frozen=True)
class Finding:
    """One line. ``fix`` is empty where ``text`` says it all."""

    system: str
    step: str
    state: State
    text: str
    fix: str = ""
    cause: Cause | None = None


class Wrong(Exception):
    """What a step raises when something is wrong: what, what to do, and whose affair it is."""

    def __init__(self, text: str, fix: str = "", cause: Cause = Cause.HERE) -> None:
        self.text = text
        self.fix = fix
        self.cause = cause
        super().__init__(text)


class Warned(NamedTuple):
    """A step that passed, and what somebody should know or do all the same."""

    text: str
    fix: str = ""


class NotNeeded(NamedTuple):
    """A step that has nothing to look at here; what needs it goes on."""

    because: str


Told = str | Warned | NotNeeded
Tell = Callable[[Finding], None]


class Steps:
    """The steps of one system, told as they end."""

    def __init__(self, system: str, tell: Tell, diagnosed: Callable[[Exception], Wrong]) -> None:
        self.system = system
        self._tell = tell
        self._diagnosed = diagnosed
        self._missing: dict[str, str] = {}

    def passed(self, *steps: str) -> bool:
        """Whether none of ``steps`` failed or was left out for one that did."""
        return not any(step in self._missing for step in steps)

    def step(self, name: str, work: Callable[[], Told], *, needs: Collection[str] = ()) -> bool:
        """Run one step, unless one that it needs is missing; whether it passed."""
        for need in needs:
            if need in self._missing:
                self.left_out(name, self._missing[need])
                return False
        try:
            told = work()
        except Exception as error:  # noqa: BLE001 - told as a line of its own; the systems after it are looked at too
            wrong = error if isinstance(error, Wrong) else self._diagnosed(error)
            self._missing[name] = f"{name} is wrong"
            self._say(name, State.WRONG, wrong.text, wrong.fix, wrong.cause)
            return False
        if isinstance(told, Warned):
            self._say(name, State.WARN, told.text, told.fix)
        elif isinstance(told, NotNeeded):
            self._say(name, State.SKIPPED, f"because {told.because}")
        else:
            self._say(name, State.OK, told)
        return True

    def all(self, work: Callable[[], None]) -> None:
        """Run the steps of the system; what is raised between two of them ends this system alone."""
        try:
            work()
        except Exception as error:  # noqa: BLE001 - as above
            self.step("the rest", partial(raised, error))

    def left_out(self, name: str, because: str) -> None:
        """Tell of a step that cannot be taken; those that need it cannot either."""
        self._missing[name] = because
        self._say(name, State.SKIPPED, f"because {because}")

    def _say(self, step: str, state: State, text: str, fix: str = "", cause: Cause | None = None) -> None:
        self._tell(Finding(self.system, step, state, " ".join(text.split()), " ".join(fix.split()), cause))


def raised(error: Exception) -> Told:
    """A step that found ``error`` before it was taken."""
    raise error


def worst(findings: Iterable[Finding]) -> Cause | None:
    """Who has to act first; None when nothing is wrong."""
    return min((finding.cause for finding in findings if finding.cause is not None), default=None)
