"""Every mistake in the data ends in one line that names it and the way out."""

from __future__ import annotations

import zipfile

import pytest
from atomic_files import config, write, write_tiny

from recbole_attn.data import load_dataset, split
from recbole_attn.errors import UserError

HEADER = ("user_id:token", "item_id:token", "timestamp:float")
ROWS = [(f"u{n % 3}", f"i{n}", n) for n in range(9)]


def message(folder, **settings):
    """The line that the user sees."""
    settings = config(folder, **settings)
    with pytest.raises(UserError) as error:
        split(settings, load_dataset(settings))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_an_unknown_data_set_says_where_its_files_belong_and_names_the_nearest(tmp_path):
    write(tmp_path, [HEADER, *ROWS])
    line = message(tmp_path, dataset="tinny")
    assert "dataset=tinny: no such data set" in line
    assert str(tmp_path / "tinny" / "tinny.inter") in line
    assert "(there: tiny)" in line


def test_a_folder_without_interactions_says_which_file_is_missing(tmp_path):
    (tmp_path / "tiny").mkdir()
    assert f"there is no file {tmp_path / 'tiny' / 'tiny.inter'}" in message(tmp_path)


def test_a_failed_download_says_where_to_put_the_files(tmp_path, monkeypatch):
    def offline(url):
        raise OSError("Network is\nunreachable")

    monkeypatch.setattr("recbole.data.dataset.dataset.decide_download", offline)
    line = message(tmp_path, dataset="ml-1m")
    assert "dataset=ml-1m: the download failed (Network is unreachable)" in line
    assert str(tmp_path / "ml-1m" / "ml-1m.inter") in line


def test_an_interrupted_download_leaves_no_empty_folder(tmp_path, monkeypatch):
    def interrupted(url, folder):
        raise RuntimeError("Stopped downloading due to interruption.")

    monkeypatch.setattr("recbole.data.dataset.dataset.decide_download", lambda url: True)
    monkeypatch.setattr("recbole.data.dataset.dataset.download_url", interrupted)
    assert "the download failed" in message(tmp_path, dataset="ml-1m")
    assert not (tmp_path / "ml-1m").exists()


def test_a_download_works_in_a_single_process(tmp_path, monkeypatch):
    def download(url, folder):
        path = tmp_path / "ml-1m" / "ml-1m.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(write(tmp_path, [HEADER, *ROWS], name="source"), "ml-1m.inter")
        return str(path)

    monkeypatch.setattr("recbole.data.dataset.dataset.decide_download", lambda url: True)
    monkeypatch.setattr("recbole.data.dataset.dataset.download_url", download)
    assert len(load_dataset(config(tmp_path, dataset="ml-1m")).inter_feat) == 9


def test_a_file_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    path = write(tmp_path, [HEADER, *ROWS])

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("recbole_attn.data.atomic.open", refuse, raising=False)
    assert f"{path}: cannot be read (Permission denied)" in message(tmp_path)


@pytest.mark.parametrize(("text", "expected"), [
    ("", "line 1: the file is empty"),
    ("\t".join(HEADER) + "\n", "a header and no rows"),
    ("user_id\titem_id\n1\t2\n", "line 1: 'user_id' is not name:type"),
    ("user_id:token,item_id:token\n1,2\n", "line 1: unknown type"),
    ("user_id:token\titem_id:word\n1\t2\n", "line 1: unknown type 'word' of column item_id; the types are token"),
    ("user_id:token\tuser_id:token\n1\t2\n", "line 1: 'user_id:token' is not name:type, or stands twice"),
    ("user_id:token\titem_id:token\n1\t2\n1\n", "line 3: 1 columns where the header names 2"),
    ("user_id:token\titem_id:token\n1\t2\n\n1\t2\t3", "line 4: 3 columns where the header names 2"),
    ("user_id:token\ttimestamp:float\n1\t2\n\n1\tlate\n", "line 4: 'late' in the float column timestamp"),
    ("user_id:token\titem_id:token\tx:float_seq\n1\t2\t3 4\n1\t2\t3 z\n", "column x holds something else than numbers"),
    ('user_id:token\titem_id:token\n1\t"2\n', "cannot be parsed"),
])  # fmt: skip
def test_a_malformed_file_is_named_with_its_line(tmp_path, text, expected):
    path = write(tmp_path, [])
    path.write_text(text)
    line = message(tmp_path)
    assert str(path) in line and expected in line


def test_a_file_in_another_encoding_is_named_with_its_line(tmp_path):
    path = write(tmp_path, [HEADER, *ROWS, ("u1", "café", 9)])
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
    assert f"{path}, line 11: not utf-8; set encoding" in message(tmp_path)
    assert len(load_dataset(config(tmp_path, encoding="latin-1")).inter_feat) == 10


def test_quotes_and_windows_line_ends_are_read(tmp_path):
    path = write(tmp_path, [HEADER, *ROWS, ("u1", '"a\tb"', 9)])
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    dataset = load_dataset(config(tmp_path))
    assert "a\tb" in dataset.field2token_id["item_id"]
    assert len(dataset.inter_feat) == 10


@pytest.mark.parametrize("setting", ["USER_ID_FIELD", "ITEM_ID_FIELD", "TIME_FIELD"])
def test_a_missing_column_is_named_with_the_setting(tmp_path, setting):
    write(tmp_path, [HEADER, *ROWS])
    line = message(tmp_path, **{setting: "elsewhere"})
    assert line.startswith(f"{setting}=elsewhere: no such column was read from tiny.inter (read: user_id, item_id, ti")


def test_times_that_are_tokens_have_no_order(tmp_path):
    write(tmp_path, [("user_id:token", "item_id:token", "timestamp:token"), ("a", "x", 30), ("a", "y", 10)])
    assert message(tmp_path).startswith(
        "TIME_FIELD=timestamp: is a column of type token, which has no order; write tim"
    )
    assert len(load_dataset(config(tmp_path, time_order="file")).inter_feat)


def test_a_separator_of_any_character_is_read(tmp_path):
    rows = ["user_id:token¦item_id:token¦timestamp:float", "a¦x¦1", "a¦y¦2", "a¦z¦3"]
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "tiny.inter").write_text("\n".join(rows) + "\n", encoding="utf-8")
    assert load_dataset(config(tmp_path, field_separator="¦")).item_num == 4


def test_an_encoding_that_python_does_not_know_is_named(tmp_path):
    write_tiny(tmp_path)
    assert message(tmp_path, encoding="cp-1252x").startswith("encoding = cp-1252x: Python knows none of this name")


def test_columns_left_out_of_load_col_are_missed(tmp_path):
    write(tmp_path, [HEADER, *ROWS])
    assert message(tmp_path, load_col={"inter": ["user_id", "item_id"]}).startswith("TIME_FIELD=timestamp")
    assert "(read: none)" in message(tmp_path, load_col={"inter": ["x"]})


@pytest.mark.parametrize(("settings", "expected"), [
    ({"user_inter_num_interval": "[100,inf)"}, "user_inter_num_interval=[100,inf)"),
    ({"item_inter_num_interval": "[100,inf)"}, "item_inter_num_interval=[100,inf)"),
    ({"val_interval": {"timestamp": "[100,200]"}}, "val_interval={'timestamp': '[100,200]'}"),
])  # fmt: skip
def test_a_filter_that_leaves_nothing_is_named_with_its_value(tmp_path, settings, expected):
    write(tmp_path, [HEADER, *ROWS])
    assert message(tmp_path, **settings).startswith(f"{expected}: leaves none of the interactions of tiny")


@pytest.mark.parametrize("text", ["5", "[5,inf", "[5]", "[9,5]", "[a,b]", "", "[1,2];"])
@pytest.mark.parametrize("setting", ["user_inter_num_interval", "val_interval"])
def test_a_malformed_interval_is_named(tmp_path, setting, text):
    write_tiny(tmp_path)
    line = message(tmp_path, **{setting: {"rating": text} if setting == "val_interval" else text})
    assert setting in line and "is no interval; write for example [5,inf)" in line


def test_an_interval_of_a_column_that_is_not_loaded_names_load_col(tmp_path):
    write_tiny(tmp_path)
    line = message(
        tmp_path, load_col={"inter": ["user_id", "item_id", "timestamp"]}, val_interval={"rating": "[.2,.9]"}
    )
    assert line == "val_interval.rating=[.2,.9]: no column rating was read; add it to load_col"


@pytest.mark.parametrize("model", ["SASRec", "Pop"])
@pytest.mark.parametrize("time", ["", "inf"])
@pytest.mark.parametrize("order", ["exact", "recbole"])
def test_a_missing_time_is_named_with_its_row_before_anything_is_put_in_its_place(tmp_path, model, time, order):
    rows = [("", "i0", 1), ("u1", "i1", 2), ("u1", "i2", time), *ROWS]  # the first has no user and is dropped
    file = write(tmp_path, [HEADER, *rows])
    start = f"{file}, row 3 below the header: timestamp is missing or infinite; fill it in, drop the row, or set time_"
    assert message(tmp_path, model=model, time_order=order).startswith(start)


def test_a_missing_time_is_no_mistake_where_nothing_is_ordered_by_it(tmp_path):
    write(tmp_path, [HEADER, ("u1", "i1", ""), *ROWS])
    assert len(load_dataset(config(tmp_path, time_order="file"))) == len(ROWS) + 1
    assert len(load_dataset(config(tmp_path, model="Pop", eval_args={"order": "RO"}))) == len(ROWS) + 1
    kept = load_dataset(config(tmp_path, val_interval={"timestamp": "[0,inf)"}))
    assert len(kept) == len(ROWS)


def test_single_interactions_leave_nothing_to_predict(tmp_path):
    write(tmp_path, [HEADER, *((f"u{n}", f"i{n}", n) for n in range(9))])
    assert "no user has two interactions" in message(tmp_path)


def test_a_split_that_leaves_nothing_to_train_on_is_named(tmp_path):
    write(tmp_path, [HEADER, *ROWS])
    assert message(tmp_path, split={"RS": [0, 0.5, 0.5]}, eval_args={"group_by": "none"}).startswith("eval_args.split=")
