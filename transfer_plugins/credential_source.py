# SPDX-License-Identifier: BSD-3-Clause
"""Where boto3 found the credentials of a datastore: the name of the place, never a value."""

from transfer_plugins.object_store import ObjectStore


def credential_source(store: ObjectStore) -> str | None:
    """Return the name that boto3 has for the place; None for a directory.

    Such as ``env``, ``shared-credentials-file``, ``iam-role``.
    """
    if not store.uri.startswith("s3://"):
        return None
    import boto3

    found = boto3.session.Session().get_credentials()
    return "none found" if found is None else str(found.method)
