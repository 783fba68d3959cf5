# SPDX-License-Identifier: BSD-3-Clause
"""What the doctor looks at in the datastore."""

import itertools
import uuid
from collections.abc import Callable, Iterator

from merger.check import Check, Standing
from registry import names
from transfer_plugins.credential_source import credential_source
from transfer_plugins.object_store import ObjectStore, TransferError

_CONTENT = b"registry-merge doctor --write: may be removed\n"


def datastore_checks(store: ObjectStore, run: str | None, *, write: bool) -> Iterator[Check]:
    """List, read and, if asked to, write.

    Raises
    ------
    transfer_plugins.object_store.TransferError
        If it cannot even be listed.
    """
    place = names.control_prefix(run) if run else ""
    some = list(itertools.islice(store.list_objects(place), 1))
    source = credential_source(store)
    text = f"{store.uri}/{place}: {'objects' if some else 'nothing'}"
    text += f", credential: {source}" if source else ""
    remedy = "is the RUN, or the datastore, the right one?"
    standing = Standing.OK if some else Standing.WARNING
    yield Check("listing", standing, "objects", text, None if some else remedy)
    if some:
        key = some[0].key
        yield _tried("reading", "s3:GetObject", store, lambda: store.get_range(key, 0, 1), key)
    if write and run:
        key = f"{place}doctor/{uuid.uuid4()}"
        yield _tried("writing", "s3:PutObject", store, lambda: store.put(key, _CONTENT), key)
        yield _tried("removing", "s3:DeleteObject", store, lambda: store.delete(key), key)
    else:
        yield Check("writing", Standing.OK, "for archive and sweep only", "not tried: --write")


def _tried(
    subject: str, right: str, store: ObjectStore, act: Callable[[], object], key: str
) -> Check:
    where = f"{store.uri}/{key}"
    try:
        act()
    except TransferError as error:
        text = " ".join(str(error).split())
        return Check(f"object {subject}", Standing.BAD, "allowed", text, f"allow {right}")
    return Check(f"object {subject}", Standing.OK, "allowed", where)
