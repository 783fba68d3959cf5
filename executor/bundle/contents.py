# SPDX-License-Identifier: BSD-3-Clause
"""What goes into an archive: our packages, boto3 trimmed to S3, and the licences of it."""

import gzip
import importlib.metadata
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from executor.bundle.byte_code import byte_code, without_texts
from registry.errors import QuantumExecError

PACKAGES_DIR = "packages"
"""Where the packages of others are: a task finds its own boto3 before the trimmed one."""

_OURS = ("registry", "transfer_plugins", "executor")
# What access points need, and workers do not have the packages for.
_NOT_ON_WORKERS = (
    *("registry/structs.py", "registry/tables.py", "transfer_plugins/s3_bulk_reading.py"),
    *("transfer_plugins/database_token.py", "executor/cli.py", "executor/command_options.py"),
    *("executor/submit/", "executor/graph/", "executor/demo/", "executor/bundle/"),
)
_BOTO3 = ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3", "six")
_DISTRIBUTIONS = (*_BOTO3[:4], "python-dateutil", *_BOTO3[5:])
_NOT_FOR_S3 = (
    *("boto3/data/", "boto3/examples/", "botocore/data/", "dateutil/zoneinfo/"),
    *("urllib3/contrib/emscripten/", "urllib3/contrib/pyopenssl.py", "urllib3/http2/connection.py"),
    *("boto3/dynamodb/", "boto3/ec2/", "boto3/crt.py", "botocore/crt/auth.py", "botocore/stub.py"),
    *("s3transfer/crt.py", "s3transfer/processpool.py", "dateutil/rrule.py", "dateutil/easter.py"),
    *("dateutil/tz/win.py", "dateutil/tzwin.py", "dateutil/utils.py"),
)
# S3 itself, and what the credentials of a role or of single sign-on are asked from.
_SERVICES = ("s3", "sts", "sso", "sso-oidc")
_SETTINGS = ("endpoints", "partitions", "sdk-default-configuration", "_retry")

Members = dict[str, bytes]


class PackageNotFoundError(QuantumExecError):
    """A package that a bundle is made of is not installed here, or has another form."""

    error_type = "package_not_found"


def own_members(*packages: str) -> Members:
    """Our packages, without what only access points need."""
    found: Members = {}
    for package in packages or _OURS:
        for name, content in _sources(package):
            if not name.startswith(_NOT_ON_WORKERS):
                found |= _module(name, content)
    if "registry" in (packages or _OURS):
        name = "registry/private_registry.sql"
        found[name] = (_directory("registry").parent / name).read_bytes()
    return found


def boto3_members() -> Members:
    """boto3 and what it imports, with the models of S3 alone, below `PACKAGES_DIR`."""
    found: Members = {}
    for package in _BOTO3:
        for name, content in _sources(package):
            if not name.startswith(_NOT_FOR_S3):
                found |= _module(name, without_texts(content))
    root = _directory("botocore")
    found["botocore/cacert.pem"] = (root / "cacert.pem").read_bytes()
    for name, content in _models(root / "data"):
        found[f"botocore/data/{name}"] = content
    found |= _licences()
    return {f"{PACKAGES_DIR}/{name}": content for name, content in found.items()}


def start_members(module: str) -> Members:
    """A module of this package as the ``__main__`` of an archive."""
    return _module("__main__.py", Path(__file__).with_name(module).read_bytes())


def _module(name: str, content: bytes) -> Members:
    return {name: content, f"{name}c": byte_code(content, name)}


def _directory(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or not found.origin or not Path(found.origin).is_file():
        raise PackageNotFoundError(
            f"expected the Python package {package!r} in a directory, found none; "
            "'pip install quantum-exec' brings it"
        )
    return Path(found.origin).parent


def _sources(package: str) -> Iterator[tuple[str, bytes]]:
    directory = _directory(package)
    if package == "six":
        yield "six.py", (directory / "six.py").read_bytes()
        return
    for path in sorted(directory.rglob("*.py")):
        yield path.relative_to(directory.parent).as_posix(), path.read_bytes()


def _models(data: Path) -> Iterator[tuple[str, bytes]]:
    """botocore's models, each as plain JSON without spaces, and a list of what is there."""
    index: dict[str, list[str]] = {}
    for name in _SETTINGS:
        yield f"{name}.json", _minimal(data / f"{name}.json")
    for service in _SERVICES:
        # botocore takes the last version, too.
        version = max(path.name for path in (data / service).iterdir())
        index[service] = [version]
        for path in sorted((data / service / version).iterdir()):
            if not path.name.startswith("examples"):
                name = path.name.removesuffix(".gz")
                yield f"{service}/{version}/{name}", _minimal(path)
    yield "index.json", json.dumps(index).encode()


def _minimal(path: Path) -> bytes:
    content = path.read_bytes()
    read = json.loads(gzip.decompress(content) if path.suffix == ".gz" else content)
    if path.stem == "endpoints":
        for partition in read["partitions"]:
            services = partition["services"]
            partition["services"] = {n: services[n] for n in _SERVICES if n in services}
    return json.dumps(_without_documentation(read), separators=(",", ":")).encode()


def _without_documentation(model: object) -> object:
    if isinstance(model, dict):
        return {
            # A member of a shape may be called so; then its value is no text.
            name: ""
            if name == "documentation" and isinstance(value, str)
            else _without_documentation(value)
            for name, value in model.items()
        }
    if isinstance(model, list):
        return [_without_documentation(value) for value in model]
    return model


def _licences() -> Members:
    found: Members = {}
    for name in _DISTRIBUTIONS:
        try:
            files = importlib.metadata.files(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if PurePosixPath(file).name.upper().startswith(("LICENSE", "NOTICE", "LICENCE")):
                found[f"licences/{name}/{file.name}"] = file.read_binary()
    return found
