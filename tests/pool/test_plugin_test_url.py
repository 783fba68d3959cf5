# SPDX-License-Identifier: BSD-3-Clause
"""What an execution point says of the plugin that ``configs/htcondor`` gives to all its users."""

import pytest

from tests.fix_pool import PersonalPool
from transfer_plugins.object_store import open_store

pytestmark = pytest.mark.pool


def test_scheme_is_offered_only_where_its_test_object_can_be_fetched(
    pool: PersonalPool, datastore: str, s3_settings: dict[str, str]
) -> None:
    """HTCondor's starter is asked as the daemons of an execution point ask it."""
    open_store(datastore).put("small-object", b"small\n")
    settings = [f"{name}={value}" for name, value in s3_settings.items()]

    def offered(key: str) -> set[str]:
        url = f"_CONDOR_QS3_TEST_URL=qs3://{datastore.removeprefix('s3://')}/{key}"
        ad = pool.tool("env", *settings, url, "condor_starter", "-classad").stdout
        told = [li for li in ad.splitlines() if li.startswith("HasFileTransferPluginMethods")]
        return set(told[0].split('"')[1].split(","))

    assert {"qs3", "qs3job"} <= offered("small-object")
    assert {"qs3", "qs3job"} & offered("not-there") == {"qs3job"}
