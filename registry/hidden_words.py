# SPDX-License-Identifier: BSD-3-Clause
"""Secrets in texts that come from outside: told by their form, and left out of what is shown.

Programs that we call quote addresses in their errors, and people type addresses with a password
where none is expected. Standard library only.
"""

import re

# The user part of a URL that has a password; a port is none, and an empty password neither.
_IN_URL = re.compile(r"(://[^\s/@:'\"]*:)(?!@)(?!\d{1,5}(?:[/?#\s]|\Z))\S+@")
# Services take a token as the user.
_TOKEN_IN_URL = re.compile(r"(https?://)[^\s/@:'\"]+@")
_NAMED = re.compile(
    r"\b((?:pg|ssl)?password|client_secret|secret_access_key|session_token"
    r"|x-amz-(?:signature|security-token))(\s*=\s*)('(?:[^'\\]|\\.)*'?|[^\s&'\"]+)",
    re.IGNORECASE,
)


def has_secret(text: str) -> bool:
    """Tell whether a text has an address with a password, or a setting that is one."""
    return any(form.search(text) for form in (_IN_URL, _TOKEN_IN_URL, _NAMED))


def without_secrets(text: str) -> str:
    """Return a text with what is secret in it left out."""
    text = _IN_URL.sub(r"\1…@", text)
    return _NAMED.sub(r"\1\2…", _TOKEN_IN_URL.sub(r"\1…@", text))
