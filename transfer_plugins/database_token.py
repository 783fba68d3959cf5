# SPDX-License-Identifier: BSD-3-Clause
"""Tokens that AWS takes in place of a database password (RDS IAM).

Here, because boto3 and its chain of credentials belong to this package; no worker imports it.
"""

import functools
import threading
from typing import Any

from transfer_plugins.object_store import TransferRefusedError

_lock = threading.Lock()


def make_token(host: str, port: int, user: str, region: str | None) -> str:
    """Sign a token; nothing is sent, unless boto3's chain asks somebody for credentials.

    Parameters
    ----------
    region
        Where the database runs; None: as AWS is set up here.

    Raises
    ------
    TransferRefusedError
        If there are no credentials, or no region.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        with _lock:
            client = _client(region)
        token: str = client.generate_db_auth_token(DBHostname=host, Port=port, DBUsername=user)
    except (BotoCoreError, ClientError) as error:
        raise TransferRefusedError(
            f"no RDS IAM token for user {user!r} at {host!r}: {error}; set up credentials of AWS, "
            "and 'rds_region' in --config"
        ) from error
    return token


@functools.cache
def _client(region: str | None) -> Any:
    import boto3

    # Its credentials renew themselves; a client takes as long to make as several connections.
    return boto3.session.Session().client("rds", region_name=region)
