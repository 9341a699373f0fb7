"""Both dialects of the ``q`` parameter, parsed into one small tree.

Version 1 is query by example: conditions joined by semicolons. From version 2 on it is an expression language with
and, or, parentheses, in, between, like. Evaluating the tree is the business of ``selection``.
"""

import re
from dataclasses import dataclass


class QuerySyntaxError(Exception):
    """The text of ``q`` cannot be read; Fusion answers 400 with code 29140."""


@dataclass(frozen=True, slots=True)
class Literal:
    text: str
    quoted: bool


@dataclass(frozen=True, slots=True)
class Operand:
    """A dotted attribute path, or UPPER/LOWER of one."""

    path: tuple[str, ...]
    function: str | None = None


@dataclass(frozen=True, slots=True)
class Compare:
    operand: Operand
    operator: str
    value: Literal


@dataclass(frozen=True, slots=True)
class Like:
    operand: Operand
    pattern: str


@dataclass(frozen=True, slots=True)
class InList:
    operand: Operand
    values: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Between:
    operand: Operand
    low: Literal
    high: Literal


@dataclass(frozen=True, slots=True)
class IsNull:
    operand: Operand


@dataclass(frozen=True, slots=True)
class Not:
    part: "Node"


@dataclass(frozen=True, slots=True)
class And:
    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Or:
    parts: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Nothing:
    """A condition that no row meets: what version 1 makes of an expression it does not know."""


Node = Compare | Like | InList | Between | IsNull | Not | And | Or | Nothing

_TOKEN = re.compile(
    r"\s*(?:(?P<string>'(?:[^']|'')*')|(?P<number>-?\d+(?:\.\d+)?(?![\w.]))|(?P<operator><=|>=|!=|<>|=|<|>)"
    r"|(?P<mark>[(),])|(?P<name>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*))"
)
_KEYWORDS = {"and", "or", "not", "like", "in", "between", "is", "null"}


@dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str


def tokens(text: str) -> list[Token]:
    """Splits an expression of version 2 or later; a semicolon or a stray quote is an error there."""
    found: list[Token] = []
    position = 0
    end = len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            msg = f"unexpected {text[position:].strip()[:20]!r} at position {position}"
            raise QuerySyntaxError(msg)
        value = match[match.lastgroup]
        if match.lastgroup == "string":
            found.append(Token("string", value[1:-1].replace("''", "'")))
        elif match.lastgroup == "name" and value.lower() in _KEYWORDS:
            found.append(Token("keyword", value.lower()))
        else:
            found.append(Token(match.lastgroup, value))
        position = match.end()
    return found


class _Expression:
    """Recursive descent over the tokens: or binds weakest, then and, then not."""

    def __init__(self, text: str) -> None:
        self.tokens = tokens(text)
        self.place = 0

    def parse(self) -> Node:
        node = self.disjunction()
        if self.place < len(self.tokens):
            msg = f"unexpected {self.tokens[self.place].text!r}"
            raise QuerySyntaxError(msg)
        return node

    def peek(self) -> Token:
        return self.tokens[self.place] if self.place < len(self.tokens) else Token("end", "end of the expression")

    def take(self, kind: str, *texts: str) -> Token | None:
        token = self.peek()
        if token.kind != kind or (texts and token.text not in texts):
            return None
        self.place += 1
        return token

    def need(self, kind: str, *texts: str) -> Token:
        token = self.take(kind, *texts)
        if token is None:
            wanted = " or ".join(texts) or kind
            msg = f"expected {wanted}, found {self.peek().text!r}"
            raise QuerySyntaxError(msg)
        return token

    def disjunction(self) -> Node:
        parts = [self.conjunction()]
        while self.take("keyword", "or"):
            parts.append(self.conjunction())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def conjunction(self) -> Node:
        parts = [self.negation()]
        while self.take("keyword", "and"):
            parts.append(self.negation())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def negation(self) -> Node:
        if self.take("keyword", "not"):
            return Not(self.negation())
        if self.take("mark", "("):
            node = self.disjunction()
            self.need("mark", ")")
            return node
        return self.condition()

    def condition(self) -> Node:
        operand = self.operand()
        if operator := self.take("operator"):
            return Compare(operand, "!=" if operator.text == "<>" else operator.text, self.literal())
        if self.take("keyword", "is"):
            negated = self.take("keyword", "not") is not None
            self.need("keyword", "null")
            return Not(IsNull(operand)) if negated else IsNull(operand)
        negated = self.take("keyword", "not") is not None
        node = self.predicate(operand, self.need("keyword", "like", "in", "between").text)
        return Not(node) if negated else node

    def predicate(self, operand: Operand, keyword: str) -> Node:
        if keyword == "like":
            return Like(operand, self.need("string").text)
        if keyword == "between":
            low = self.literal()
            self.need("keyword", "and")
            return Between(operand, low, self.literal())
        self.need("mark", "(")
        values = [self.literal()]
        while self.take("mark", ","):
            values.append(self.literal())
        self.need("mark", ")")
        return InList(operand, tuple(values))

    def operand(self) -> Operand:
        name = self.need("name").text
        if name.upper() in {"UPPER", "LOWER"} and self.take("mark", "("):
            path = self.need("name").text
            self.need("mark", ")")
            return Operand(tuple(path.split(".")), name.upper())
        return Operand(tuple(name.split(".")))

    def literal(self) -> Literal:
        if token := self.take("string"):
            return Literal(token.text, quoted=True)
        if token := self.take("number"):
            return Literal(token.text, quoted=False)
        name = self.peek()
        if name.kind == "name" and name.text.lower() in {"true", "false"}:
            self.place += 1
            return Literal(name.text.lower(), quoted=False)
        msg = f"expected a value, found {name.text!r}"
        raise QuerySyntaxError(msg)


def parse_expression(text: str) -> Node:
    """Reads ``q`` of framework version 2 and later."""
    return _Expression(text).parse()


_OUTSIDE_QUOTES = r"(?=(?:[^']*'[^']*')*[^']*$)"
_SEMICOLON = re.compile(";" + _OUTSIDE_QUOTES)
_OR = re.compile(r"\s+or\s+" + _OUTSIDE_QUOTES, re.IGNORECASE)
_AND = re.compile(r"\s+and\s+" + _OUTSIDE_QUOTES, re.IGNORECASE)
_EXAMPLE = re.compile(
    r"\s*(?P<name>[A-Za-z_][\w.]*)\s*(?:(?P<operator><=|>=|!=|<>|=|<|>)\s*|\s(?P<word>not\s+like|like)\s+)(?P<value>.*)$",
    re.IGNORECASE | re.DOTALL,
)
_NULL = re.compile(r"\s*(?P<name>[A-Za-z_][\w.]*)\s+is\s+(?P<negated>not\s+)?null\s*$", re.IGNORECASE)
_RANGE_END = re.compile(r"(?P<operator><=|>=|<|>)\s*(?P<value>.+)$", re.DOTALL)


def parse_example(text: str, *, narrow: bool) -> Node:
    """Reads ``q`` of framework version 1.

    ``narrow`` resources (the lists of values) know semicolons only: ``A=1 and B=2`` there is a value that no row has,
    and the answer is 200 with no rows rather than an error.
    """
    parts = [part for part in _SEMICOLON.split(text) if part.strip()]
    if not parts:
        msg = "it holds no condition"
        raise QuerySyntaxError(msg)
    nodes = [_example_part(part, narrow=narrow) for part in parts]
    return nodes[0] if len(nodes) == 1 else And(tuple(nodes))


def _example_part(part: str, *, narrow: bool) -> Node:
    if part.count("'") % 2:
        msg = f"a quote is not closed in {part.strip()!r}"
        raise QuerySyntaxError(msg)
    alternatives = [part] if narrow else _OR.split(part)
    nodes = [_example(alternative) for alternative in alternatives]
    return nodes[0] if len(nodes) == 1 else Or(tuple(nodes))


def _example(text: str) -> Node:
    if null := _NULL.match(text):
        node = IsNull(Operand(tuple(null["name"].split("."))))
        return Not(node) if null["negated"] else node
    match = _EXAMPLE.match(text)
    if match is None:
        msg = f"{text.strip()!r} is not a condition"
        raise QuerySyntaxError(msg)
    operand = Operand(tuple(match["name"].split(".")))
    value = match["value"].strip()
    if not value:
        msg = f"{text.strip()!r} has no value"
        raise QuerySyntaxError(msg)
    if match["word"]:
        like = Like(operand, _unquote(value).text)
        return Not(like) if match["word"].lower().startswith("not") else like
    operator = "!=" if match["operator"] == "<>" else match["operator"]
    pieces = _AND.split(value)
    if len(pieces) == 1 and not _OR.search(value):
        return Compare(operand, operator, _unquote(value))
    end = _RANGE_END.match(pieces[-1].strip())
    if len(pieces) == 2 and end is not None:
        low = Compare(operand, operator, _unquote(pieces[0].strip()))
        return And((low, Compare(operand, end["operator"], _unquote(end["value"].strip()))))
    return Nothing()


def _unquote(value: str) -> Literal:
    if len(value) >= 2 and value[0] == value[-1] == "'":
        return Literal(value[1:-1].replace("''", "'"), quoted=True)
    return Literal(value, quoted=False)


def operands(node: Node) -> list[Operand]:
    """Every attribute that a query names."""
    if isinstance(node, And | Or):
        return [operand for part in node.parts for operand in operands(part)]
    if isinstance(node, Not):
        return operands(node.part)
    return [] if isinstance(node, Nothing) else [node.operand]
