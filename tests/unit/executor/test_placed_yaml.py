# SPDX-License-Identifier: BSD-3-Clause
"""YAML whose values know their lines."""

from pathlib import Path

import pytest

from executor.graph.placed_yaml import GraphError, PlacedDocument, read_placed_yaml, show_trail


def placed(tmp_path: Path, text: str) -> PlacedDocument:
    """Read a text."""
    path = tmp_path / "x.yaml"
    path.write_text(text, "utf-8")
    return read_placed_yaml(path)


def test_values_are_plain_and_know_their_lines(tmp_path: Path) -> None:
    document = placed(
        tmp_path, "# comment\na: 1\nb:\n  - x\n  - {c: 1.5, d: null}\ne: [yes, 'yes']\n"
    )
    assert document.value == {"a": 1, "b": ["x", {"c": 1.5, "d": None}], "e": [True, "yes"]}
    lines = {("a",): 2, ("b",): 4, ("b", 0): 4, ("b", 1, "c"): 5, ("e", 1): 6}
    assert {trail: document.lines[trail] for trail in lines} == lines


def test_line_of_what_is_not_there_is_that_of_its_holder(tmp_path: Path) -> None:
    document = placed(tmp_path, "a:\n  b:\n    c: 1\n")
    assert str(document.error(("a", "b", "x", 0), "oh")) == f"{tmp_path}/x.yaml:3: a.b.x[0]: oh"
    assert str(document.error((), "oh")) == f"{tmp_path}/x.yaml:1: oh"


def test_empty_file_has_no_value(tmp_path: Path) -> None:
    for text in ("", "\n# nothing\n", "---\n"):
        assert placed(tmp_path, text).value is None


def test_anchors_stand_for_their_values(tmp_path: Path) -> None:
    assert placed(tmp_path, "a: &x [1, 2]\nb: *x\n").value == {"a": [1, 2], "b": [1, 2]}


# Each line is ten times the one above: a billion values in 300 characters.
MULTIPLYING = "a: &a [x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{above}'] * 10)}]\n"
    for above, name in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1", "x.yaml: expected YAML, found while parsing a flow sequence"),
        ("a: 1\n---\nb: 2\n", "expected YAML, found .*but found another document"),
        ("a: *nothing\n", "expected YAML, found undefined alias|found undefined alias"),
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3: a: is there twice"),
        (
            "a:\n  b: !python/object:os.system x\n",
            "x.yaml:2: a.b: expected a plain value, could not determine a constr",
        ),
        (
            "a:\n  b: !!int seven\n",
            "x.yaml:2: a.b: expected a plain value, invalid literal for int",
        ),
        ("a:\n  b: 2026-13-45\n", "x.yaml:2: a.b: expected a plain value, month must be in 1..12"),
        ("a:\n  ? [1, 2]\n  : x\n", "x.yaml:2: a: expected plain text as a key"),
        ("a: {b: 1}\nc:\n  <<: {d: 1}\n", "x.yaml:3: c.*<<"),
        ("a: &x [*x]\n", "x.yaml: expected a document of finite depth"),
        ("a: " + "[" * 3000 + "]" * 3000, "x.yaml: expected a document of finite depth"),
        ('a: "\\ud800"', "expected YAML, found"),
        ("a: \x01", "expected YAML, found"),
        (MULTIPLYING, r"x.yaml:\d+: .*expected few aliases, found that they multiply"),
    ],
)
def test_what_is_no_plain_yaml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        placed(tmp_path, text)


def test_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"a: \xe9")
    for name, message in [("none", "No such file"), (".", "directory")]:
        with pytest.raises(GraphError, match=f"cannot be read: .*{message}"):
            read_placed_yaml(tmp_path / name)
    with pytest.raises(GraphError, match=r"expected a graph file, YAML or .*decode byte"):
        read_placed_yaml(tmp_path / "latin")


def test_trail_as_people_write_it() -> None:
    assert show_trail(("quanta", 3, "inputs", "raw")) == "quanta[3].inputs.raw: "
    assert show_trail(()) == ""
