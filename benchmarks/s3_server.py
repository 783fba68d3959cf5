# SPDX-License-Identifier: BSD-3-Clause
"""An S3 server that only reads, fast enough not to be what limits a merge.

moto answers some 230 GETs a second, less than a client can ask for. This one holds a directory in
memory as one bucket, with every answer ready made, and serves ListObjectsV2 and GetObject over
keep-alive connections from one thread: about 15,000 GETs a second. It checks no signatures and
takes no writes; its answers have the header fields that boto3 looks at.

``python -m benchmarks.s3_server DIRECTORY BUCKET`` prints its port, and ends when stdin does.
"""

import asyncio
import bisect
import hashlib
import os
import sys
from email.utils import formatdate
from pathlib import Path
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

_PAGE = 1000


class Objects:
    """The objects of a bucket, sorted by key, as whole answers."""

    def __init__(self, directory: Path, bucket: str) -> None:
        self.bucket = bucket
        self._contents: dict[str, bytes] = {}
        for above, _, names in os.walk(directory):
            for name in names:
                path = Path(above, name)
                self._contents[path.relative_to(directory).as_posix()] = path.read_bytes()
        self._keys = sorted(self._contents)
        self._modified = formatdate(usegmt=True)

    def get(self, key: str) -> bytes:
        """Answer a GetObject."""
        content = self._contents.get(key)
        if content is None:
            body = b"<Error><Code>NoSuchKey</Code></Error>"
            return _head("404 Not Found", len(body)) + body
        etag = hashlib.md5(content, usedforsecurity=False).hexdigest()
        fields = f'ETag: "{etag}"\r\nLast-Modified: {self._modified}\r\n'
        return _head("200 OK", len(content), fields) + content

    def list_page(self, query: dict[str, list[str]]) -> bytes:
        """Answer a ListObjectsV2."""
        prefix = query.get("prefix", [""])[0]
        after = query.get("continuation-token", query.get("start-after", [""]))[0]
        start = bisect.bisect_left(self._keys, prefix)
        if after:
            start = bisect.bisect_right(self._keys, after)
        page = [k for k in self._keys[start : start + _PAGE] if k.startswith(prefix)]
        is_cut = len(page) == _PAGE and start + _PAGE < len(self._keys)
        token = ""
        if is_cut:
            token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self._contents[key])}</Size>"
            "<LastModified>2026-01-02T03:04:05.000Z</LastModified></Contents>"
            for key in page
        )
        body = (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult '
            f'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>{self.bucket}</Name>'
            f"<IsTruncated>{str(is_cut).lower()}</IsTruncated>{token}"
            f"<KeyCount>{len(page)}</KeyCount>{contents}</ListBucketResult>"
        ).encode()
        return _head("200 OK", len(body), "Content-Type: application/xml\r\n") + body


def _head(status: str, n_bytes: int, fields: str = "") -> bytes:
    date = formatdate(usegmt=True)
    return (
        f"HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: {n_bytes}\r\n{fields}\r\n".encode()
    )


class _Connection(asyncio.Protocol):
    """One client; requests without a body only."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            line = self._received[: self._received.index(b"\r\n")].decode()
            self._received = self._received[end + 4 :]
            self._transport.write(self._answer(line.split(" ")[1]))

    def _answer(self, target: str) -> bytes:
        path, _, query = target.partition("?")
        key = unquote(path).removeprefix(f"/{self._objects.bucket}").removeprefix("/")
        if not key:
            return self._objects.list_page(parse_qs(query))
        return self._objects.get(key)


async def _serve(directory: Path, bucket: str) -> None:
    objects = Objects(directory, bucket)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(objects), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), sys.argv[2]))
