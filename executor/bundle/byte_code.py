# SPDX-License-Identifier: BSD-3-Clause
"""Modules compiled beforehand: without, the plugin compiled botocore anew for each job.

Only for the Python that builds: another one passes over byte code that is not its own, and takes
the source beside it.
"""

import ast
import importlib.util
import marshal
import tokenize

# No time of a source and no comparison with it (PEP 552): it is in the same archive.
_UNCHECKED = (0b01).to_bytes(4, "little")


def byte_code(source: bytes, name: str) -> bytes:
    """Return the content of a ``.pyc``."""
    code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    # What else refers to an object decides how it is written; once read back, nothing does.
    stable = marshal.dumps(marshal.loads(marshal.dumps(code)))
    source_hash = importlib.util.source_hash(source)
    return importlib.util.MAGIC_NUMBER + _UNCHECKED + source_hash + stable


def without_texts(source: bytes) -> bytes:
    """Return a module without docstrings and comments, a third of botocore's source."""
    lines = source.splitlines(keepends=True)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            first, last = text.lineno - 1, (text.end_lineno or text.lineno) - 1
            before, after = lines[first][: text.col_offset], lines[last][text.end_col_offset :]
            # Empty lines stay in its place, so that those of a traceback are right.
            kept = [before + b"''" + after, *[b"\n"] * (last - first)]
            lines[first : last + 1] = kept
    return b"".join(_without_comments(lines))


def _without_comments(lines: list[bytes]) -> list[bytes]:
    found = list(lines)
    for token in tokenize.tokenize(iter([*lines, b""]).__next__):
        number, column = token.start
        if token.type == tokenize.COMMENT and not lines[number - 1][:column].strip():
            found[number - 1] = b"\n"
    return found
