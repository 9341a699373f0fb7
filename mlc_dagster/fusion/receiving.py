"""The body of an answer, read up to a limit.

What belongs here: sizes as they arrive and unpacked, and the one compression that is asked for. What does not: what a
body means. A few kilobytes can unpack to gigabytes, so unpacking stops at the limit and not after it.
"""

import zlib

import aiohttp

ACCEPTED = "gzip"
"""For Accept-Encoding; nothing else is unpacked."""

_GZIP = 31  # zlib's word for "with gzip's header and checksum".


class BodyRefused(Exception):
    """The body is not taken. ``too_large`` tells whether for its size: asking again would bring the same."""

    def __init__(self, reason: str, *, too_large: bool = False) -> None:
        self.too_large = too_large
        super().__init__(reason)


async def receive(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The whole body, unpacked; ``limit`` is in bytes and counts for both forms.

    Raises:
        BodyRefused: larger than the limit, damaged, or packed in a way that was not asked for.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower() or "identity"
    unpack = None
    if encoding in ("gzip", "x-gzip"):
        unpack = zlib.decompressobj(_GZIP)
    elif encoding != "identity":
        raise BodyRefused(f"its Content-Encoding {encoding[:40]!r} was not asked for")
    announced = response.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    arrived = size = 0
    async for chunk in response.content.iter_any():
        arrived += len(chunk)
        if arrived > limit:
            raise _too_large(limit)
        try:
            part = chunk if unpack is None else unpack.decompress(chunk, limit - size + 1)
        except zlib.error:
            raise BodyRefused("its compressed body is damaged") from None
        size += len(part)
        if size > limit:
            raise _too_large(limit)
        parts.append(part)
    if unpack is not None and arrived and (not unpack.eof or unpack.unused_data):
        raise BodyRefused("its compressed body is cut off or goes on after its end")
    return b"".join(parts)


def _too_large(limit: int) -> BodyRefused:
    return BodyRefused(f"the answer is larger than {limit} bytes", too_large=True)
