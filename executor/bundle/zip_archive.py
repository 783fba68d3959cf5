# SPDX-License-Identifier: BSD-3-Clause
"""Zip archives that Python runs; the same members always give the same bytes."""

import io
import zipfile
from collections.abc import Mapping

# The first that the format can tell; any fixed one would do.
_TIME = (1980, 1, 1, 0, 0, 0)
_REGULAR_FILE = 0o100644 << 16


def zip_bytes(members: Mapping[str, bytes], interpreter: str) -> bytes:
    """Return an archive that starts with ``#!<interpreter>``, its members in order of name."""
    file = io.BytesIO()
    file.write(f"#!{interpreter}\n".encode())
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(members):
            member = zipfile.ZipInfo(name, _TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3
            member.external_attr = _REGULAR_FILE
            archive.writestr(member, members[name])
    return file.getvalue()
