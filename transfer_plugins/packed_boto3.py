# SPDX-License-Identifier: BSD-3-Clause
"""Sessions of boto3, also where it lies in a zip archive and its models are no files."""

import json
import os
import pkgutil
from functools import cache
from typing import TYPE_CHECKING, Any
from zipimport import zipimporter

if TYPE_CHECKING:
    from boto3.session import Session


def new_session() -> "Session":
    """Make a session that finds botocore's models and certificates wherever they are."""
    import boto3.session
    import botocore

    found = botocore.__spec__.loader if botocore.__spec__ else None
    if not isinstance(found, zipimporter):
        return boto3.session.Session()
    root = os.path.dirname(str(botocore.__file__))
    return boto3.session.Session(botocore_session=_packed_session(found, root))


def _packed_session(archive: zipimporter, root: str) -> Any:
    import botocore.httpsession
    import botocore.session
    from botocore.exceptions import DataNotFoundError
    from botocore.loaders import Loader

    class PackedLoader(Loader):
        """Models from the archive; of each service there is one version."""

        @cache  # noqa: B019 - one loader in a process
        def list_available_services(self, type_name: str) -> list[str]:
            return sorted(self.load_data("index"))

        def list_api_versions(self, service_name: str, type_name: str) -> list[str]:
            versions: list[str] = self.load_data("index").get(service_name, [])
            return versions

        @cache  # noqa: B019
        def load_data_with_path(self, name: str) -> tuple[Any, str]:
            path = os.path.join(root, "data", name)
            try:
                return json.loads(archive.get_data(f"{path}.json")), path
            except OSError as error:
                raise DataNotFoundError(data_path=name) from error

        def is_builtin_path(self, path: str) -> bool:
            return True

    session = botocore.session.Session()
    session.register_component("data_loader", PackedLoader())
    if botocore.httpsession.where() == botocore.httpsession.DEFAULT_CA_BUNDLE:
        botocore.httpsession.where = lambda: _certificates(archive, root)
    return session


def authorities() -> str:
    """The certificates of public authorities that come with botocore; empty if it is not there."""
    try:
        content = pkgutil.get_data("botocore", "cacert.pem")
    except (ImportError, OSError):
        content = None
    return (content or b"").decode()


@cache
def _certificates(archive: zipimporter, root: str) -> str:
    """Path of botocore's certificates: OpenSSL wants a file, so they get one in memory."""
    memory = os.memfd_create("cacert.pem")
    content = archive.get_data(os.path.join(root, "cacert.pem"))
    with os.fdopen(memory, "wb", closefd=False) as file:
        file.write(content)
    return f"/proc/self/fd/{memory}"
