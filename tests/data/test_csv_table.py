from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill_cli.data.csv_table import csv_table
from distill_cli.data.table import read_table
from distill_cli.data.validation import check_dataset
from distill_cli.errors import UserError

BASE = "a,b,y\n" + "".join(f"{2 * i},{i + 0.5},{'pq'[i % 2]}\n" for i in range(10))
cells = st.floats(width=32, allow_nan=False, allow_infinity=False)
NUMERIC = set("+-._eE infatyINFATY")
names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z", "N")), min_size=1, max_size=8).filter(
    lambda s: not set(s) <= NUMERIC
)


def put(tmp_path: Path, text: str, name: str = "t.csv") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def fault(call) -> str:
    with pytest.raises(UserError) as e:
        call()
    assert "\n" not in str(e.value)
    return str(e.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.integers(1, 4), st.integers(2, 12), st.booleans())
def test_what_pandas_writes_is_read_back(tmp_path: Path, data: st.DataObject, columns: int, rows: int, header: bool) -> None:
    x = np.array(
        data.draw(st.lists(st.lists(cells, min_size=columns, max_size=columns), min_size=rows, max_size=rows)), np.float32
    )
    labels = data.draw(st.lists(names, min_size=rows, max_size=rows))
    frame = pd.DataFrame(x, columns=[f"f{i}" for i in range(columns)]).assign(label=labels)
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False, header=header)
    table = read_table(path, None, None, header, ",")
    np.testing.assert_array_equal(table.x, x)
    assert table.labels.tolist() == labels


def test_one_file_is_split_and_its_class_names_are_kept(tmp_path: Path) -> None:
    d = csv_table(path=put(tmp_path, BASE))
    check_dataset(d)
    assert d.class_names == ("p", "q") and d.name == "t" and d.default_preprocessing == "standardize" and d.split == "random"
    assert {k: len(p) for k, p in d.pools.items()} == {"train": 6, "val": 2, "test": 2}
    for p in d.pools.values():
        np.testing.assert_array_equal(p.x, np.stack([2 * p.index, p.index + 0.5], axis=1))
        np.testing.assert_array_equal(p.y, p.index % 2)


def test_splits_are_files_where_files_are_given(tmp_path: Path) -> None:
    files = {k: put(tmp_path, f"a,y\n{i},n\n{i},m\n", f"{k}.csv") for i, k in enumerate(("train", "val", "test"))}
    d = csv_table(**files)
    assert [p.x[0, 0] for p in d.pools.values()] == [0, 1, 2] and d.split == "files"
    assert d.train.y.tolist() == [1, 0] and d.class_names == ("m", "n")
    two = csv_table(train=put(tmp_path, BASE), test=put(tmp_path, BASE + "9,9.5,q\n", "u.csv"))
    assert {k: len(p) for k, p in two.pools.items()} == {"train": 8, "val": 2, "test": 11}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1,2,a\n1,3,b\n" * 3, ("a", "b")),  # no header, text labels
        ("1,2,0\n1,3,1\n" * 3, ("0", "1")),
        ("0,1,y\n" + "1,2,0\n1,3,1\n" * 3, ("0", "1")),  # column names may be numbers
        ("\ufeffa,b,y\n" + "1,2,0\n1,3,1\n" * 3, ("0", "1")),  # byte order mark
        ("a,b,y\n" + "1,2,10\n\n1,3,9.0\n1,3,9\n1,3,10.0\n" * 3, ("9", "10")),  # 9.0 is 9; sorted by value; blank lines
        ("a,b,y\n" + "1,2,NA\n1,3,None\n" * 3, ("NA", "None")),  # words that pandas would take for gaps
        ("a,b,y\n" + '1,2,"x, y"\n1,3,z\n' * 3, ("x, y", "z")),
        ("a,b,y\n" + "1,2,9007199254740993\n1,3,9007199254740992\n" * 3, ("9007199254740992", "9007199254740993")),
    ],
)
def test_headers_and_labels(tmp_path: Path, text: str, names: tuple[str, ...]) -> None:
    d = csv_table(path=put(tmp_path, text))
    assert d.class_names == names and d.input_shape == (2,)
    assert sum(len(p) for p in d.pools.values()) % 3 == 0


def test_label_by_name_by_number_and_another_delimiter(tmp_path: Path) -> None:
    path = put(tmp_path, "y;a\n" + "p;1\nq;2\n" * 3)
    assert csv_table(path=path, label="y", delimiter=";").class_names == ("p", "q")
    path = put(tmp_path, "p\t1\nq\t2\n" * 3)
    assert csv_table(path=path, label=1, delimiter="\\t").class_names == ("p", "q")


def test_groups_stay_whole_and_are_no_feature(tmp_path: Path) -> None:
    rows = "".join(f"{i * i},pat{i // 4},{i % 2}\n" for i in range(80))
    d = csv_table(path=put(tmp_path, "a,patient,y\n" + rows), group="patient")
    assert d.grouped and d.input_shape == (1,)
    homes = [set(p.group.tolist()) for p in d.pools.values() if p.group is not None]
    assert len(homes) == 3 and sum(len(h) for h in homes) == 20 == len(set.union(*homes))
    halves = csv_table(path=str(tmp_path / "t.csv"), group="patient", test_fraction=0.5, val_fraction=0.5)
    assert {k: len(p) for k, p in halves.pools.items()} == {"train": 20, "val": 20, "test": 40}
    files = csv_table(
        train=put(tmp_path, "a,patient,y\n" + rows), test=put(tmp_path, "a,patient,y\n9,zoe,0\n", "u.csv"), group="patient"
    )
    assert files.grouped and set(files.test.group.tolist()) == {"zoe"}  # type: ignore[union-attr]
    assert not set(files.train.group.tolist()) & set(files.val.group.tolist())  # type: ignore[union-attr]


def test_split_seed_moves_the_split_and_the_source_stays(tmp_path: Path) -> None:
    path = put(tmp_path, BASE + "".join(f"{i},{i},p\n{i},{i},q\n" for i in range(20)))
    a, b = csv_table(path=path), csv_table(path=path, split_seed=1)
    assert a.source_fingerprint == b.source_fingerprint and a.fingerprint != b.fingerprint
    assert set(a.test.index) != set(b.test.index)


LINES = [
    ("text cell", BASE.replace("6,3.5", "6,abc"), "line 5, column 'b': 'abc' is not a number; features must be numeric"),
    ("a missing mark", BASE.replace("6,3.5", "6,NA"), "line 5, column 'b': 'NA' is not a number; features must be numeric"),
    ("underscore", BASE.replace("6,3.5", "6,1_0"), "line 5, column 'b': '1_0' is not a number; features must be numeric"),
    ("empty cell", BASE.replace("6,3.5", "6,"), "line 5, column 'b': empty cell; fill it or leave the row out"),
    ("NaN", BASE.replace("6,3.5", "6,nan"), "line 5, column 'b': NaN; fill it or leave the row out"),
    (
        "infinite",
        BASE.replace("6,3.5", "6,-inf"),
        "line 5, column 'b': -inf is infinite in 32-bit numbers; scale it or leave the row out",
    ),
    (
        "too large",
        BASE.replace("6,3.5", "6,1e39"),
        "line 5, column 'b': 1e39 is infinite in 32-bit numbers; scale it or leave the row out",
    ),
    ("long row", BASE.replace("6,3.5", "6,3.5,1"), "line 5 has 4 cells, the first row has 3; make them equal"),
    ("short row", BASE.replace("6,3.5,q", "6,3.5"), "line 5 has 2 cells, the first row has 3; make them equal"),
    ("all rows short", "a,b,y\n1,2\n3,4\n", "line 2 has 2 cells, the first row has 3; make them equal"),
    (
        "label 1.5",
        BASE.replace("q", "1.5"),
        "line 3, column 'y': label 1.5 is not a class; classes are whole numbers or text (dataset.label names their column)",
    ),
    ("empty label", BASE.replace("q", " "), "line 3, column 'y': the label is empty; fill it or leave the row out"),
    (
        "line after a quoted break",
        'a,b,y\n1,2,"p\nr"\n1,z,q\n',
        "line 4, column 'b': 'z' is not a number; features must be numeric",
    ),
    ("line after a blank", "a,b,y\n\n1,2,p\n\n1,z,q\n", "line 5, column 'b': 'z' is not a number; features must be numeric"),
    (
        "first line of a guess",
        "x,2,3\n1,2,0\n",
        "line 1, column '1': 'x' is not a number; features must be numeric; "
        "if line 1 holds column names, set dataset.header=true",
    ),
]


@pytest.mark.parametrize(("text", "line"), [case[1:] for case in LINES], ids=[case[0] for case in LINES])
def test_a_wrong_cell_is_named_by_line_and_column(tmp_path: Path, text: str, line: str) -> None:
    path = put(tmp_path, text)
    said = fault(lambda: csv_table(path=path))
    assert said == f"{path}: {line}"


@pytest.mark.parametrize(
    ("text", "options", "line"),
    [
        ("", {}, "the file is empty; it needs one row a sample"),
        ("\n\n", {}, "the file is empty; it needs one row a sample"),
        ("a,b,y\n", {}, "no row after the header; it needs one row a sample"),
        (BASE.replace("q", "p"), {}, "column 'y' holds one class only ('p'); a classifier needs at least two"),
        (BASE.replace("a,b", "b,b"), {}, "line 1: column name 'b' occurs twice; rename one"),
        (BASE.replace("y", "label"), {"label": "lable"}, "no label column 'lable'; did you mean 'label'? (columns: a, b, label)"),
        (BASE, {"group": "patient"}, "no group column 'patient' (columns: a, b, y)"),
        ("1,2,0\n1,2,1\n", {"label": "y"}, "no label column 'y' (no header: columns are 1 to 3)"),
        (BASE, {"group": "y"}, "column 'y' cannot be label and group at once"),
        ("a,y\n1,p\n", {"group": "a"}, "no feature columns beside 'a', 'y'"),
        (
            BASE.replace(",", ";"),
            {"delimiter": ","},
            "line 1: one cell, as cells end at ','; do they end at ';'? then: 'dataset.delimiter=;'",
        ),
        ("1,2,a\n" * 3 + "1,3,b\n", {}, "class 'b' has 1 row; splitting needs 3 of each class: add rows, or leave the class out"),
        (
            "1,2,a\n" * 3 + "1,3,b\n" * 2,
            {},
            "class 'b' has 2 rows; splitting needs 3 of each class: add rows, or leave the class out",
        ),
        ("a,g,y\n1,,p\n1,x,q\n", {"group": "g"}, "line 2, column 'g': the group is empty; fill it or leave the row out"),
    ],
)
def test_a_wrong_file(tmp_path: Path, text: str, options: dict, line: str) -> None:
    path = put(tmp_path, text)
    assert fault(lambda: csv_table(path=path, **options)) == f"{path}: {line}"


def test_files_that_are_none_or_no_text(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert fault(lambda: csv_table(path=str(path))) == (
        f"{path}: no such file; set dataset.path, or dataset.train and dataset.test, to CSV files"
    )
    path.write_bytes(b"a,b\n1,\xff\n")
    assert (
        fault(lambda: csv_table(path=str(path)))
        == f"{path}: line 2, column 'b': not UTF-8 text (byte 0xff); save the file as UTF-8"
    )
    assert fault(lambda: csv_table(path=str(tmp_path))) == f"{tmp_path}: cannot read this file (Is a directory)"


@pytest.mark.parametrize("given", [{}, {"path": "a", "test": "b"}, {"train": "a"}, {"train": "a", "val": "b"}])
def test_one_file_or_several(given: dict) -> None:
    assert fault(lambda: csv_table(**given)) == (
        "csv: set dataset.path to one file, or dataset.train and dataset.test (and dataset.val) to one each"
    )


def test_options_out_of_range(tmp_path: Path) -> None:
    path = put(tmp_path, BASE)
    assert fault(lambda: csv_table(path=path, val_fraction=1)) == "val_fraction must be above 0 and below 1, got 1"
    assert fault(lambda: csv_table(path=path, delimiter="::")) == "dataset.delimiter must be one character or auto, got '::'"
    assert fault(lambda: csv_table(path=path, header="yes")) == "dataset.header must be auto, true or false, got 'yes'"


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    train, other = put(tmp_path, BASE), str(tmp_path / "u.csv")

    def said(text: str, **options) -> str:
        put(tmp_path, text, "u.csv")
        return fault(lambda: csv_table(train=train, test=other, **options))

    assert said("a,y\n1,p\n") == f"{other}: line 1: no column 'b', a feature of {train}; add it"
    assert said("a,c,y\n1,2,p\n") == (
        f"{other}: line 1, column 2: 'c' is no feature of {train}, and 'b' is missing; if it is none, leave it out with dataset.drop=[c]"
    )
    assert said("1,2,p\n3,4,q\n") == (
        f"{other}: no header, but {train} has one; give both one, or set dataset.header=true or false"
    )
    assert said("a,b,y\n1,2,p\n\n1,2,r\n") == f"{other}: line 4: class 'r' is not in {train}; give train rows of it"
    assert said("a,b,y\n1,0.5,p\n", group="b") == (
        f"{train}: group '0.5' is in train and in test; keep each group in one split, or give no groups"
    )
    put(tmp_path, "a,b,y\n1,2,p\n1,2,p\n1,2,q\n")
    assert (
        said("a,b,y\n1,2,p\n")
        == f"{train}: class 'q' has 1 row; splitting needs 2 of each class: add rows, or leave the class out"
    )


NAMED = "x,who,kind,z\n" + "".join(f"{i * i},p{i // 2},{'pq'[i % 2]},{-i * i}\n" for i in range(12))


def test_files_are_joined_by_the_names_of_their_columns(tmp_path: Path) -> None:
    train = put(tmp_path, NAMED, "train.csv")
    test = put(tmp_path, "z,kind,x\n-5,p,5\n-6,q,6\n", "test.csv")
    d = csv_table(train=train, test=test, label="kind", drop=["who"])
    assert d.columns is not None and d.columns.features == ("x", "z") and d.columns.metadata == ("kind", "who")
    assert d.test.x.tolist() == [[5, -5], [6, -6]] and d.input_shape == (2,)
    put(tmp_path, "y,z,kind,x\n-5,p,5\n", "test.csv")
    assert fault(lambda: csv_table(train=train, test=test, label="kind", drop=["who"])) == (
        f"{test}: line 1, column 1: 'y' is no feature of {train}; if it is none, leave it out with dataset.drop=[y]"
    )


def test_a_finished_model_finds_label_and_features_by_name(tmp_path: Path) -> None:
    known = csv_table(path=put(tmp_path, "z,x,kind\n" + "".join(f"{-i * i},{i * i},{'pq'[i % 2]}\n" for i in range(12))))
    moved = csv_table(path=put(tmp_path, NAMED), drop=["who"], columns=known.columns)
    assert moved.fingerprint == known.fingerprint and moved.train.x.tolist() == known.train.x.tolist()
    assert fault(lambda: csv_table(path=put(tmp_path, NAMED), columns=known.columns)) == (
        f"{tmp_path / 't.csv'}: line 1, column 2: 'who' is no feature of this model; if it is none, "
        "leave it out with dataset.drop=[who]"
    )
    assert fault(lambda: csv_table(path=put(tmp_path, "kind,z,v,w\np,1,2,3\nq,1,2,3\n"), columns=known.columns)) == (
        f"{tmp_path / 't.csv'}: line 1: 'v', 'w' are no features of this model, and 'x' is missing; "
        "leave out those that are none with dataset.drop=[v,w]"
    )


def test_columns_are_dropped_by_name_or_number(tmp_path: Path) -> None:
    path = put(tmp_path, NAMED)
    for drop in (["who", "z"], [2, 4]):
        assert csv_table(path=path, label="kind", drop=drop).input_shape == (1,)
    assert fault(lambda: csv_table(path=path, label="kind", drop=["whom"])) == (
        f"{path}: line 1: dataset.drop=whom: no such column; did you mean 'who'? (name it, or give its number, 1 to 4)"
    )


def test_what_numbers_the_rows_is_no_feature(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=12), "kind": ["p", "q"] * 6})
    path = tmp_path / "t.csv"
    frame.to_csv(path)
    assert fault(lambda: csv_table(path=str(path))) == (
        f"{path}: line 1, column 1: it has no name, as the row numbers of a data frame; leave it out with "
        "dataset.drop=[1], or give it a name"
    )
    assert csv_table(path=str(path), drop=[1]).input_shape == (1,)
    frame.to_csv(path, index_label="id")
    said = f"{path}: column 'id' numbers the rows, 0 to 11; leave it out with dataset.drop=[id]"
    assert fault(lambda: csv_table(path=str(path))) == said
    assert csv_table(path=str(path), drop=["id"]).input_shape == (1,)
    frame.to_csv(path, index=True, header=False)
    assert "column '1' numbers the rows, 0 to 11; leave it out with dataset.drop=[1]" in fault(lambda: csv_table(path=str(path)))
    assert csv_table(path=str(path), drop=[1]).input_shape == (1,)


def test_numbers_in_text_are_one_class_and_one_patient(tmp_path: Path) -> None:
    def rows(text: str, count: int) -> str:
        return "a,who,y\n" + "".join(f"{i * i},{text.format(i // 4)},{'12'[i % 2]}\n" for i in range(count))

    train, test = put(tmp_path, rows("{}", 40), "train.csv"), put(tmp_path, rows("{}.0", 41), "test.csv")
    assert fault(lambda: csv_table(train=train, test=test, group="who")) == (
        f"{train}: group '0' is in train and in test; keep each group in one split, or give no groups"
    )
    mixed = "".join(f"{i * i},{i // 4}{'.0' * (i % 2)},{i % 2}{'.0' * (i % 4 > 1)}\n" for i in range(40))
    d = csv_table(path=put(tmp_path, "a,who,y\n" + mixed), group="who")
    assert d.class_names == ("0", "1") and len({g for p in d.pools.values() for g in p.group.tolist()}) == 10  # type: ignore[union-attr]
    assert d.notes == (
        "Numbers in text are compared as numbers: labels that are one: '0' = '0.0'; '1' = '1.0'.",
        "Numbers in text are compared as numbers: groups that are one: '0' = '0.0'; '1' = '1.0'; '2' = '2.0'; ...",
    )
    padded = csv_table(path=put(tmp_path, rows("00{}", 40)), group="who")
    assert "000" in padded.train.group.tolist() + padded.test.group.tolist() + padded.val.group.tolist()  # type: ignore[union-attr]
    assert not padded.notes


def test_the_right_words_at_once(tmp_path: Path) -> None:
    def said(text: str, **options) -> str:
        path = put(tmp_path, text)
        return fault(lambda: csv_table(path=path, **options)).removeprefix(f"{path}: ")

    decimal = "a;b;y\n" + "1,5;2,5;p\n3,5;4,5;q\n" * 3
    assert said(decimal) == "line 2, column 'a': '1,5' has a decimal comma; write a decimal point: 1.5"
    assert said("age,town,job,y\n" + "3,Rome,cook,p\n4,Bonn,cook,q\n" * 3) == (
        "columns 'town', 'job' hold text ('Rome'), and features must be numeric; leave text out with "
        "dataset.drop=[town,job], or write it as numbers"
    )
    prices = "".join(f"{i * i},{1000 + 7 * i}\n" for i in range(30))
    assert said("a,price\n" + prices) == (
        "column 'price' holds 30 different numbers in 30 rows: an amount, no class; name the column of classes with dataset.label"
    )
    packed = tmp_path / "t.tsv"
    packed.write_text(BASE.replace(",", "\t"))
    assert csv_table(path=str(packed)).fingerprint == csv_table(path=put(tmp_path, BASE)).fingerprint
