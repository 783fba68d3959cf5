# SPDX-License-Identifier: BSD-3-Clause
"""Columnar graph files: a ZIP with stored members, a header of JSON and tables of Parquet.

Members are stored, not compressed, so that a table is read from its place in the file. Each part
has a checksum: the header by the ZIP, a page by Parquet, the end of a table, where its pages are
listed, by the header.
"""

import mmap
import zipfile
import zlib
from pathlib import Path
from typing import Any

from executor.graph.columnar_graph import ColumnarGraph
from executor.graph.graph_header import (
    HEADER_KEYS,
    GraphHeader,
    read_dimension_record,
    read_header,
)
from executor.graph.graph_reader import GraphReader
from executor.graph.graph_tables import INDEX, RECORDS, datasets_schema, quanta_schema
from executor.graph.parquet_rows import ParquetRows
from executor.graph.placed_yaml import GraphError, PlacedDocument
from registry.errors import FormatError
from registry.model import DimensionRecord, format_data_id
from registry.typed_json import canonical, load

COLUMNAR_FORMAT = 1
HEADER = "graph.json"
TABLES = ("quanta", "datasets", "dimension_records", "index")

_TOP = {
    "quantum_graph_columns": True,
    **HEADER_KEYS,
    "derived_graph_id": False,
    "n_rows": True,
    "task_rows": True,
    "footers": True,
}
_LOCAL_HEADER = 30
_TAIL = 8
"""Bytes at the end of a Parquet file: the length of its footer, and a magic word."""


def open_columnar(path: Path, *, run: str | None = None) -> ColumnarGraph:
    """Open a columnar graph file; of its quanta nothing is read yet.

    Parameters
    ----------
    run
        The RUN to write into, instead of the one that the file names.

    Raises
    ------
    GraphError
        If it is damaged, truncated or of a newer format; names the member.
    """
    members = _members(path)
    reader = GraphReader(PlacedDocument(f"{path}: {HEADER}", None))
    top = _read_top(reader, members[HEADER])
    header = read_header(reader, top, run)
    is_same_run = run is None or run == top["run"]
    schemas = {
        "quanta": quanta_schema(header.dimensions),
        "datasets": datasets_schema(header.dimensions),
        "dimension_records": RECORDS,
        "index": INDEX,
    }
    tables = {}
    for name in TABLES:
        footers = reader.mapping(top["footers"], ("footers",))
        n_rows = reader.mapping(top["n_rows"], ("n_rows",)).get(name)
        if footer_checksum(members[name]) != footers.get(name):
            raise GraphError(f"{path}: {name}: expected a whole table, found its end damaged")
        tables[name] = ParquetRows(members[name], f"{path}: {name}", schemas[name], n_rows)
    return ColumnarGraph(
        str(path),
        header,
        _read_task_rows(reader, header, top["task_rows"]),
        tables["quanta"],
        tables["datasets"],
        lambda: _read_records(path, reader, tables["dimension_records"]),
        reader.optional_uuid(top.get("derived_graph_id"), ("derived_graph_id",))
        if is_same_run
        else None,
        tables["index"] if is_same_run else None,
    )


def _members(path: Path) -> dict[str, memoryview]:
    try:
        with path.open("rb") as file, zipfile.ZipFile(file) as archive:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            found = {entry.filename: entry for entry in archive.infolist()}
            for name in (HEADER, *TABLES):
                if name not in found:
                    raise GraphError(f"{path}: expected a graph file, found a ZIP without {name!r}")
            return {name: _stored(path, content, found[name]) for name in (HEADER, *TABLES)}
    except OSError as error:
        raise GraphError(f"{path}: cannot be read: {error}") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError) as error:
        raise GraphError(
            f"{path}: expected a columnar graph file, found it truncated or damaged: {error}"
        ) from error


def _stored(path: Path, content: memoryview, entry: zipfile.ZipInfo) -> memoryview:
    """The bytes of a stored member, whose place its local header tells."""
    local = content[entry.header_offset : entry.header_offset + _LOCAL_HEADER]
    if len(local) < _LOCAL_HEADER or entry.compress_type != zipfile.ZIP_STORED:
        raise GraphError(f"{path}: {entry.filename}: expected a stored member, found another")
    lengths = int.from_bytes(local[26:28], "little") + int.from_bytes(local[28:30], "little")
    start = entry.header_offset + _LOCAL_HEADER + lengths
    member = content[start : start + entry.file_size]
    if len(member) != entry.file_size:
        raise GraphError(f"{path}: {entry.filename}: expected {entry.file_size} bytes, found fewer")
    # Tables have checksums of their own, so that reading one quantum does not read them whole.
    if entry.filename == HEADER and zlib.crc32(member) != entry.CRC:
        raise GraphError(f"{path}: {entry.filename}: the checksum is wrong, it is damaged")
    return member


def _read_top(reader: GraphReader, member: memoryview) -> dict[str, Any]:
    try:
        value = load(bytes(member), reader.document.name)
    except FormatError as error:
        raise GraphError(str(error)) from error
    found = value.get("quantum_graph_columns") if isinstance(value, dict) else None
    if type(found) is int and found > COLUMNAR_FORMAT:
        raise reader.error(
            ("quantum_graph_columns",),
            f"expected format {COLUMNAR_FORMAT} or older, found {found}; upgrade quantum-exec",
        )
    if type(found) is not int or found < 1:
        raise reader.error(
            ("quantum_graph_columns",), f"expected format {COLUMNAR_FORMAT}, found {found!r}"
        )
    return reader.document.mapping(value, (), _TOP)


def _read_task_rows(
    reader: GraphReader, header: GraphHeader, value: object
) -> dict[str, tuple[int, int]]:
    found = {}
    for label, bounds in reader.mapping(value, ("task_rows",)).items():
        reader.one_of(label, header.tasks, ("task_rows", label))
        listed = reader.sequence(bounds, ("task_rows", label))
        if len(listed) != 2 or not all(type(bound) is int and bound >= 0 for bound in listed):
            raise reader.error(("task_rows", label), f"expected two rows, found {listed!r}")
        found[label] = (listed[0], listed[1])
    return found


def _read_records(path: Path, reader: GraphReader, rows: ParquetRows) -> list[DimensionRecord]:
    found: dict[tuple[str, str], DimensionRecord] = {}
    document = PlacedDocument(f"{path}: dimension_records", None)
    records = GraphReader(document, dimensions=reader.dimensions)
    for index, row in enumerate(rows.whole().to_pylist()):
        trail = (index,)
        dimension = records.one_of(row["dimension"], reader.dimensions, trail)
        try:
            data_id, facts = (load(row[name] or "", name) for name in ("data_id", "record"))
        except FormatError as error:
            raise records.error(trail, str(error)) from error
        both = {**records.mapping(facts, trail), **records.mapping(data_id, trail)}
        record = read_dimension_record(records, dimension, both, trail)
        key = (dimension, canonical(record.data_id))
        if found.setdefault(key, record) is not record:
            raise records.error(trail, f"{format_data_id(record.data_id)} is there twice")
    return list(found.values())


def footer_checksum(member: memoryview) -> int:
    """Checksum of the end of a Parquet file, where its pages are listed."""
    length = int.from_bytes(member[-_TAIL:-4], "little") + _TAIL
    return zlib.crc32(member[-length:])
