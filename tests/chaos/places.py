# SPDX-License-Identifier: BSD-3-Clause
"""Where things are: the checkout, and the datastore of a seed in a directory or a bucket."""

import os
from pathlib import Path

from tests.chaos.survey import PlannedObject
from transfer_plugins.object_store import DirectoryObjectStore, ObjectStore

ROOT = Path(__file__).parents[2]

S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "chaos",
    "AWS_SECRET_ACCESS_KEY": "secret-of-the-chaos",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def write_files(directory: Path, objects: list[PlannedObject]) -> None:
    """Write objects as files, not forced to disk: nobody reads them yet."""
    for each in objects:
        path = directory / each.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(each.content)


def link_files(source: Path, target: Path, keys: list[str]) -> None:
    """Let objects of one directory be in another one, too."""
    for key in keys:
        path = target / key
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(source / key, path)


class Datastore:
    """The datastore of a seed: a directory that has everything, and perhaps a bucket like it."""

    def __init__(self, directory: Path, bucket: ObjectStore | None) -> None:
        self.mirror = DirectoryObjectStore(directory)
        self._bucket = bucket

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a process that uses it past all proxies."""
        endpoint = self._bucket.endpoint_url if self._bucket is not None else None
        return S3_ENVIRONMENT | ({"AWS_ENDPOINT_URL": endpoint} if endpoint else {})

    @property
    def uri(self) -> str:
        """URI that the mergers are given."""
        return (self._bucket or self.mirror).uri

    def put(self, objects: list[PlannedObject]) -> None:
        """Write objects as workers do."""
        for each in objects:
            self.mirror.put(each.key, each.content)
            if self._bucket is not None:
                self._bucket.put(each.key, each.content)
