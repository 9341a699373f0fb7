"""The account combination of a line: the company's template filled with the line's coding.

Belongs here: building combinations and comparing them with the dimensions of the line. Does not: whether Fusion has
the combination (``mapping``).

A template is the chart's segments in order, joined by its delimiter. A segment is a literal or a placeholder:
``{account}``, ``{cost_center}``, ``{location}`` (column dim_location); ``{cost_center:000}`` has a default.
"""

import datetime as dt
import re
from functools import cache

import msgspec

from mlc_dagster.settings import ChartSettings, CompanySettings
from mlc_dagster.stampli.crosswalks import Crosswalk, Crosswalks
from mlc_dagster.stampli.model import InvoiceLine
from mlc_dagster.stampli.reasons import Problem, problem

ACCOUNT = "account"
COST_CENTER = "cost_center"

_PLACEHOLDER = re.compile(r"\{(?:dim_)?([A-Za-z0-9_]+)(?::([^{}]*))?\}")


class TemplateFault(ValueError):
    """An account template that does not fit its chart: the template and what is wrong."""

    def __init__(self, template: str, text: str) -> None:
        self.template = template
        super().__init__(f"account_template {template!r}: {text}")


class Segment(msgspec.Struct, frozen=True):
    """One segment of a template: ``name`` is a placeholder's; a literal has none and its value as ``fallback``."""

    name: str | None
    fallback: str | None


class Combination(msgspec.Struct, frozen=True):
    """A combination that a line asks for."""

    segments: tuple[str, ...]
    cost_center: str | None
    """The cost centre that the line itself names, in Fusion's code."""
    cost_center_defaulted: bool
    """The template's default stands in for the cost centre that the line does not name."""


@cache
def parse_template(template: str, delimiter: str, segments: int) -> tuple[Segment, ...]:
    """The template's segments.

    Raises:
        TemplateFault: wrong number of segments, or braces that are no placeholder.
    """
    # Split outside braces: a default may hold the delimiter's character only by mistake, and is then told.
    parts = template.split(delimiter)
    if len(parts) != segments:
        raise TemplateFault(template, f"has {len(parts)} segments, the chart has {segments}")
    found: list[Segment] = []
    for part in parts:
        match = _PLACEHOLDER.fullmatch(part)
        if match is not None:
            found.append(Segment(match[1], match[2] or None))
        elif "{" in part or "}" in part or not part:
            raise TemplateFault(template, f"segment {part!r} is neither a value nor a placeholder such as {{account}}")
        else:
            found.append(Segment(None, part))
    return tuple(found)


def template_of(company: CompanySettings, chart: ChartSettings) -> tuple[Segment, ...]:
    """The company's template; raises TemplateFault when it does not fit the chart."""
    return parse_template(company.account_template, chart.delimiter, len(chart.segments))


def own_balancing_values(company: CompanySettings, chart: ChartSettings) -> tuple[str, ...]:
    """Balancing segment values of the company itself; empty when nothing restricts them."""
    if company.balancing_values:
        return tuple(company.balancing_values)
    segment = template_of(company, chart)[chart.segments.index(chart.balancing_segment)]
    return (segment.fallback,) if segment.name is None and segment.fallback is not None else ()


def translate(crosswalk: Crosswalk, code: str, on: dt.date) -> str | None:
    """The code in Fusion; None when the crosswalk knows the code and no row holds on this date."""
    target = crosswalk.lookup(code, on)
    if target is not None:
        return target.fusion
    return None if crosswalk.lapsed(code, on) else code


def full_combination(account: str, chart: ChartSettings) -> tuple[str, ...] | None:
    """The segments when ``account`` is a whole combination, None when it is a natural account."""
    return tuple(account.split(chart.delimiter)) if chart.delimiter in account else None


def natural_account(account: str, chart: ChartSettings) -> str | None:
    """The natural account of what a line (after crosswalk) or a setting names; None when it fits no combination."""
    segments = full_combination(account, chart)
    if segments is None:
        return account
    if len(segments) != len(chart.segments):
        return None
    return segments[chart.segments.index(chart.natural_account)]


class AccountBuilder:
    """Builds the combinations of one invoice."""

    def __init__(self, company: CompanySettings, chart: ChartSettings, crosswalks: Crosswalks, on: dt.date) -> None:
        self._company = company
        self._chart = chart
        self._crosswalks = crosswalks
        self._on = on
        self._template = template_of(company, chart)
        self._asks_cost_center = any(segment.name == COST_CENTER for segment in self._template)
        self._positions = self._find_positions()

    def combination(self, code: str, line: InvoiceLine | None, field: str) -> tuple[Combination | None, list[Problem]]:
        """The combination that a code and the dimensions of its line ask for, or every reason why there is none.

        Args:
            code: natural account or whole combination, in the sender's code.
            line: whose dimensions fill the template; None for an account of the settings.
            field: name of the cell, for the problems.
        """
        account = code if line is None else translate(self._crosswalks.accounts, code, self._on)
        if account is None:
            return None, [problem("ACCOUNT_UNMAPPED", field=field, value=code, remedy=self._lapsed("account", code))]
        dimensions, problems = self._dimensions(line)
        full = full_combination(account, self._chart)
        if full is not None:
            segments = self._check_full(full, code, dimensions, field, problems)
        else:
            segments = self._fill(account, dimensions, field, problems)
        if segments is None:
            return None, problems
        named = dimensions.get(COST_CENTER)
        return Combination(segments, named, full is None and named is None and self._asks_cost_center), problems

    def _dimensions(self, line: InvoiceLine | None) -> tuple[dict[str, str], list[Problem]]:
        dimensions = {} if line is None else dict(line.dimensions)
        if line is None or COST_CENTER not in dimensions:
            return dimensions, []
        code = dimensions[COST_CENTER]
        value = translate(self._crosswalks.cost_centers, code, self._on)
        if value is None:
            del dimensions[COST_CENTER]
            field = f"dim_cost_center of line {line.number}"
            return dimensions, [
                problem("COST_CENTER_INVALID", field=field, value=code, remedy=self._lapsed("cost centre", code))
            ]
        dimensions[COST_CENTER] = value
        return dimensions, []

    def _lapsed(self, kind: str, code: str) -> str:
        return f"The crosswalk has rows for {kind} {code} and none holds on {self._on}; add one or correct the dates."

    def _find_positions(self) -> dict[str, int]:
        """Segment position by dimension, as far as template and chart tell."""
        positions = {segment.name: at for at, segment in enumerate(self._template) if segment.name is not None}
        if self._chart.cost_center is not None:
            positions[COST_CENTER] = self._chart.segments.index(self._chart.cost_center)
        positions.pop(ACCOUNT, None)
        return positions

    def _check_full(
        self, full: tuple[str, ...], code: str, dimensions: dict[str, str], field: str, problems: list[Problem]
    ) -> tuple[str, ...] | None:
        if len(full) != len(self._chart.segments) or not all(full):
            remedy = f"It has {len(full)} segments, the chart has {len(self._chart.segments)}, each with a value."
            problems.append(problem("ACCOUNT_UNMAPPED", field=field, value=code, remedy=remedy))
            return None
        agreed = True
        for name, position in self._positions.items():
            value = dimensions.get(name)
            if value is not None and value != full[position]:
                agreed = False
                told = f"{self._chart.delimiter.join(full)} has {full[position]}, dim_{name} says {value}"
                problems.append(problem("DIM_CONFLICT", field=field, value=told))
        return full if agreed else None

    def _fill(
        self, account: str, dimensions: dict[str, str], field: str, problems: list[Problem]
    ) -> tuple[str, ...] | None:
        filled: list[str] = []
        for segment in self._template:
            if segment.name is None:
                value = segment.fallback
            elif segment.name == ACCOUNT:
                value = account
            else:
                value = dimensions.get(segment.name) or segment.fallback
            if value is not None:
                filled.append(value)
            elif segment.name == COST_CENTER:
                # A cost centre that was named and could not be translated has been told already.
                if not problems:
                    place = field.replace("gl_account", "dim_cost_center")
                    problems.append(problem("COST_CENTER_MISSING", field=place))
            else:
                remedy = f"The account template needs dim_{segment.name}; code it in Stampli or give it a default."
                place = field.replace("gl_account", f"dim_{segment.name}")
                problems.append(problem("ACCOUNT_UNMAPPED", field=place, remedy=remedy))
        if len(filled) < len(self._template):
            return None
        position, named = self._positions.get(COST_CENTER), dimensions.get(COST_CENTER)
        if position is not None and named is not None and filled[position] != named:
            # The template has a fixed cost centre: what the line says would be lost without a word.
            told = f"the account template has {filled[position]}, dim_cost_center says {named}"
            problems.append(problem("DIM_CONFLICT", field=field, value=told))
            return None
        return tuple(filled)
