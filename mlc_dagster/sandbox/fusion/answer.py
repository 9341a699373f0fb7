"""One HTTP answer, before it is sent."""

from dataclasses import dataclass, field


@dataclass
class Answer:
    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict[str, str])
