"""Interaction logs: one result from all forms, the rules, and one line for what cannot be used."""

import gzip
import json
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import DATA
from PIL import Image

from twoviews.calls import describe, rebuild
from twoviews.data import logs, logsort, room
from twoviews.data.checklog import check_log
from twoviews.data.histories import Histories
from twoviews.data.logclock import MIXED
from twoviews.data.logs import histories, is_log, notes
from twoviews.errors import DataError, UserError

EVENTS = [  # user, item, time: three users, in an order of their own
    ("bo", "tea", 30),
    ("al", "jam", 20),
    ("al", "tea", 10),
    ("bo", "jam", 40),
    ("al", "egg", 20),
    ("cy", "tea", 5),
    ("bo", "tea", 50),
]
EXPECTED = {"bo": ["tea", "jam", "tea"], "al": ["tea", "jam", "egg"], "cy": ["tea"]}


def told(source):
    """{user: items} of histories."""
    names = source.vocabulary.to_pylist()
    spans = zip(source.users.to_pylist(), source.starts, source.stops, strict=True)
    return {user: [names[i] for i in source.items[a:b]] for user, a, b in spans}


def table(events=EVENTS, names=("user_id", "item_id", "timestamp")):
    return pa.table([pa.array(column) for column in zip(*events, strict=True)], names=list(names))


def text(path, lines):
    content = "\n".join(lines) + "\n"
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(content.encode()))
    else:
        path.write_text(content)
    return path


def separated(mark, header=None):
    rows = [mark.join(map(str, event)) for event in EVENTS]
    return ([header] if header else []) + rows


class Stream:
    """A frame that gives Arrow's stream and nothing else, its text as views, as polars has it."""

    def __init__(self, data):
        self.data = data

    def __arrow_c_stream__(self, requested_schema=None):
        kinds = [pa.string_view() if pa.types.is_string(field.type) else field.type for field in self.data.schema]
        kinds = pa.schema(list(zip(self.data.schema.names, kinds, strict=True)))
        return self.data.cast(kinds).__arrow_c_stream__(requested_schema)


def pandas_frame(folder):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"mixed": [1, "a", None, {}, 2, 3, 4]} | table().to_pydict())
    return frame


def polars_frame(folder):
    return pytest.importorskip("polars").from_arrow(table())


def parquet(folder):
    pq.write_table(table(), folder / "log.parquet")
    return folder / "log.parquet"


def parquet_folder(folder):
    (folder / "parts" / "_tmp").mkdir(parents=True)
    pq.write_table(table(EVENTS[:4]), folder / "parts" / "a.parquet")
    pq.write_table(table(EVENTS[4:]), folder / "parts" / "b.parquet")
    (folder / "parts" / "_SUCCESS").touch()
    return folder / "parts"


def csv_folder(folder):
    (folder / "parts").mkdir()
    text(folder / "parts" / "0.csv", ["user,item,time", *separated(",")[:4]])
    text(folder / "parts" / "1.csv", separated(",")[4:])  # as `split` cuts a file, without a header
    (folder / "parts" / "README.txt").write_text("about")
    return folder / "parts"


FORMS = {
    "csv": lambda f: text(f / "log.csv", separated(",", "User ID,ItemID,ts")),
    "quoted": lambda f: text(
        f / "log.csv", ['"note","user","item","time"'] + [f'"a\n, b",{r}' for r in separated(",")]
    ),
    "spaced": lambda f: text(f / "log.csv", separated(" , ", "user , item , time")),
    "csv.gz": lambda f: text(f / "log.csv.gz", separated(",", "user_id,item_id,date")),
    "tsv": lambda f: text(f / "log.tsv", separated("\t", "uid\tsku\tts")),
    "semicolon": lambda f: text(f / "log.csv", separated(";", "customer;product;time")),
    "inter": lambda f: text(f / "log.inter", separated("\t", "user_id:token\titem_id:token\ttimestamp:float")),
    "no header": lambda f: text(
        f / "log.txt", [row.rsplit(" ", 1)[0] + f" {int(row.split()[-1]) + 10**9}" for row in separated(" ")]
    ),
    "dat": lambda f: text(f / "log.dat", [f"{u}::{i}::5::{t + 10**9}" for u, i, t in EVENTS]),
    "line a user": lambda f: text(f / "log.txt", [" ".join([user, *items]) for user, items in EXPECTED.items()]),
    "parquet": parquet,
    "parquet folder": parquet_folder,
    "csv folder": csv_folder,
    "pattern": lambda f: str(parquet_folder(f) / "*.parquet"),
    "arrow": lambda f: table(),
    "reader": lambda f: table().to_reader(),
    "categories": lambda f: table().set_column(0, "user", table()["user_id"].dictionary_encode()),
    "stream": lambda f: Stream(table()),
    "pandas": pandas_frame,
    "polars": polars_frame,
    "dict": lambda f: EXPECTED,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_histories(form, tmp_path):
    data = FORMS[form](tmp_path)
    assert is_log(data)
    found = histories(data)
    assert told(found) == EXPECTED
    assert found.vocabulary.to_pylist() == ["tea", "jam", "egg"]  # the commonest first
    assert found.users.to_pylist() == ["bo", "al", "cy"]  # in the order they come
    assert found.items.dtype == np.int32
    assert found.starts.dtype == found.stops.dtype == np.int64
    assert found.vocabulary.type == found.users.type == pa.string()
    timed = form not in ("line a user", "dict")
    assert (found.times is not None) == timed
    if timed:
        assert found.times.dtype == np.int64
        assert (found.times % 10**9).tolist() == [30, 40, 50, 10, 20, 20, 5]
    assert found.counted[logs.ONE] == 1
    assert found.counted[logs.REPEATS] == 1
    assert found.counted.get(logs.TIED) == (1 if timed else None)


def test_lists_of_histories_have_numbers_for_users():
    found = histories([[7, 8, 7], [8], []])
    assert told(found) == {0: [7, 8, 7], 1: [8]}
    assert found.vocabulary.type == pa.int64()
    assert found.counted[logs.ALONE] == 1


@pytest.mark.parametrize("blocks", [None, 64])
def test_what_is_read_equals_plain_python(blocks, tmp_path, monkeypatch):
    """Against a dict of lists, in many small batches and in one; compiled and not."""
    random = np.random.default_rng(0)
    n = 4000
    who, what = random.integers(0, 300, n), random.zipf(1.5, n) % 500
    when = random.integers(0, 200, n)
    monkeypatch.setattr("twoviews.data.logfiles.ROWS", blocks or 2**18)
    monkeypatch.setattr(logsort, "WAITING", blocks or 2**22)
    expected, seen, twice = {}, set(), 0
    for place, event in enumerate(zip(who.tolist(), what.tolist(), when.tolist(), strict=True)):
        twice += event in seen
        if event not in seen:
            expected.setdefault(event[0], []).append((event[2], place, event[1]))
        seen.add(event)
    expected = {user: [item for *_, item in sorted(rows)] for user, rows in expected.items()}
    counts = np.bincount([item for items in expected.values() for item in items])
    order = sorted(np.flatnonzero(counts).tolist(), key=lambda item: (-counts[item], item))
    pq.write_table(pa.table({"user": who, "item": what, "time": when}), tmp_path / "log.parquet")
    results = []
    for large in (0, 2**40):
        monkeypatch.setattr(logsort, "LARGE", large)
        found = histories(tmp_path / "log.parquet")
        assert told(found) == expected
        assert list(told(found)) == list(expected)
        assert found.vocabulary.to_pylist() == order
        assert found.counted[logs.TWICE] == twice > 0
        assert found.counted[logs.REPEATS] == sum(len(items) - len(set(items)) for items in expected.values())
        assert (np.diff(found.times)[np.diff(np.repeat(np.arange(len(found)), found.lengths)) == 0] >= 0).all()
        results.append(found)
    assert results[0].counted == results[1].counted
    assert results[0].fingerprint() == results[1].fingerprint()


def test_order_of_rows_changes_no_vocabulary():
    shuffled = [EVENTS[i] for i in (3, 6, 0, 5, 2, 4, 1)]
    assert histories(table(shuffled)).vocabulary.equals(histories(table()).vocabulary)


@pytest.mark.parametrize("large", [0, 2**40])
def test_without_times_the_order_is_kept_with_every_repeat(large, monkeypatch):
    monkeypatch.setattr(logsort, "LARGE", large)
    found = histories(table([("a", "x"), ("b", "y"), ("a", "x"), ("a", "y"), ("b", "x")], ("user", "item")))
    assert told(found) == {"a": ["x", "x", "y"], "b": ["y", "x"]}
    assert found.times is None
    assert found.counted == {logs.REPEATS: 1}
    assert told(histories(table(), time="")) == {
        "bo": ["tea", "jam", "tea"],
        "al": ["jam", "tea", "egg"],
        "cy": ["tea"],
    }


def test_fingerprint_knows_names_order_and_types():
    base = histories(table()).fingerprint()
    assert base == histories(table()).fingerprint()
    renamed = [(u, i.replace("jam", "jar"), t) for u, i, t in EVENTS]
    other = [("xx" if u == "cy" else u, i, t) for u, i, t in EVENTS]
    later = [(u, i, t + 1) for u, i, t in EVENTS]
    prints = {histories(table(events)).fingerprint() for events in (renamed, other, later, EVENTS[:-1])}
    assert len(prints | {base}) == 5
    numbers = [[1, 2], [2, 1]]
    assert histories(numbers).fingerprint() != histories([[str(i) for i in h] for h in numbers]).fingerprint()
    part = histories(table()).subset(np.array([False, True, True]))
    assert part.fingerprint() == part.subset(np.arange(2)).fingerprint() != base


@pytest.mark.parametrize(
    ("cells", "kind", "first"),
    [
        (["12", "7", "0"], pa.int64(), 12),
        (["12.0", "7.0", "0.0"], pa.int64(), 12),  # whole numbers that met a missing value in pandas
        (["012", "7", "0"], pa.string(), "012"),
        (["99999999999999999999", "7", "0"], pa.string(), "99999999999999999999"),
        (["12", "x", "0"], pa.string(), "12"),
    ],
)
def test_ids_of_text_are_numbers_where_all_are(cells, kind, first, tmp_path):
    path = text(tmp_path / "log.csv", ["user,item"] + [f"{user},{cell}" for user in "ab" for cell in cells])
    found = histories(path)
    assert found.vocabulary.type == kind
    assert first in found.vocabulary.to_pylist()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(pa.int32(), pa.int64()), (pa.float64(), pa.int64()), (pa.uint64(), pa.string()), (pa.string(), pa.string())],
)
def test_ids_of_tables_keep_their_kind(kind, expected):
    ids = pa.array([3, 4, 4], pa.int64()).cast(kind)
    assert histories(pa.table({"user": [1, 1, 1], "item": ids})).vocabulary.type == expected


TEXTS = {  # name and content -> histories, times
    "mark of order": (b"\xef\xbb\xbfuser,item,time\r\n1,2,3\r\n1,3,2\r\n", {1: [3, 2]}, [2, 3]),
    "header again": (b"user,item,time\n1,2,3\n1,3,2\nuser,item,time\n1,4,5\n", {1: [3, 2, 4]}, [2, 3, 5]),
    "many blanks": (b"1  2\n 1   3\n2 2 \n", {1: [2, 3], 2: [2]}, None),
    "one line": (b"1 2", {1: [2]}, None),
    "no header, text": (b"bob,tea\nbob,jam\n", {"bob": ["tea", "jam"]}, None),
    "no header, dates": (
        b"bob,tea,1970-01-03\nbob,jam,1970-01-02\n",
        {"bob": ["jam", "tea"]},
        [86_400 * 10**6, 2 * 86_400 * 10**6],
    ),
    "six fields are a row": (b"1 2 3 4 5 6\n1 3 3 4 5 6\n", {1: [2, 3]}, None),
    "seven are a user": (b"1 2 3 4 5 6 7\n2 2 3 4 5 6 7\n", {1: [2, 3, 4, 5, 6, 7], 2: [2, 3, 4, 5, 6, 7]}, None),
    "users by commas": (b"u1,i1,i2,i3\nu2,i1\nu3\n", {"u1": ["i1", "i2", "i3"], "u2": ["i1"]}, None),
    "nanoseconds": (
        b"user,item,time\n1,2,1700000000000000001\n1,3,x\n1,3,1700000000000000000\n",
        {1: [3, 2]},
        [17 * 10**17, 17 * 10**17 + 1],
    ),
    "too large": (b"user,item,time\n1,2,99999999999999999999\n1,3,5\n", {1: [3]}, [5]),
    "no such day": (b"user,item,date\n1,2,2023-02-30\n1,3,1970-01-02\n", {1: [3]}, [86_400 * 10**6]),
    "fractions": (b"user,item,time\n1,2,1.5\n1,3,0.5\n", {1: [3, 2]}, [500_000, 1_500_000]),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_as_they_come(name, tmp_path):
    content, expected, times = TEXTS[name]
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    found = histories(path)
    assert told(found) == expected
    assert (None if found.times is None else found.times.tolist()) == times


def test_rows_without_two_things_are_counted_once():
    data = pa.table({"user": ["a", None, "a"], "item": ["x", None, "y"], "time": ["1", "soon", "2"]})
    assert histories(data).counted == {logs.NO_USER: 1}


def test_missing_values_are_left_out_and_counted(tmp_path):
    rows = ["a,x,1", ",x,2", "a,,3", "b,NULL,3", "a,y,", "a,y,soon", "a,y,4", "b,x,nan", "b,x,5", "b,y,6,7"]
    found = histories(text(tmp_path / "log.csv", ["user,item,time", *rows]))
    assert told(found) == {"a": ["x", "y"], "b": ["x"]}
    assert found.counted == {
        "rows of another number of fields": 1,
        logs.NO_USER: 1,
        logs.NO_ITEM: 2,
        logs.NO_TIME: 2,
        logs.UNREAD: 1,
        logs.ONE: 1,
    }
    assert all(f"{n:,} {words}" in " | ".join(notes(found)) for words, n in found.counted.items())
    frame = pa.table(
        {"user": [1.0, None, float("nan"), 1.0], "item": ["x", "y", "", "z"], "time": [1.0, 2.0, 3.0, None]}
    )
    found = histories(frame)
    assert told(found) == {1: ["x"]}
    assert found.counted == {logs.NO_USER: 2, logs.NO_TIME: 1, logs.ONE: 1}


def test_weights():
    rated = table(
        [("a", "x", 5), ("a", "y", 0), ("a", "z", 3), ("b", "x", -1), ("b", "y", 4)], ("user", "item", "rating")
    )
    assert histories(rated).events == 5
    assert logs.LIGHT not in histories(rated).counted
    assert told(histories(rated, weight="rating")) == {"a": ["x", "z"], "b": ["y"]}
    four = histories(rated, least=4)
    assert told(four) == {"a": ["x"], "b": ["y"]}
    assert four.counted[logs.LIGHT] == 3
    with pytest.raises(UserError, match=r"data.least=4: Table has no column of weights; say data.weight=NAME"):
        histories(rated.drop(["rating"]), least=4)
    with pytest.raises(DataError, match="holds weights that are no numbers"):
        histories(rated, weight="item", item="rating")


DAY = 1_700_000_000


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([DAY + 1, DAY, DAY + 2], [DAY, DAY + 1, DAY + 2]),
        ([1.0, 0.0, 2.0], [0, 1, 2]),
        ([DAY + 0.5, DAY + 0.25, DAY + 1.0], [DAY * 10**6 + 250_000, DAY * 10**6 + 500_000, (DAY + 1) * 10**6]),
        (["2024-01-02", "2024-01-01 10:00", "2024-01-03T00:00:00.5"], None),
        (["2024-01-01T10:00:00+02:00", "2024-01-01T07:00:00Z", "2024-01-02T07:00:00Z"], None),
        (["2024-01-01T10:00:00.123456789", "2024-01-01T07:00:00", "2024-01-02T07:00:00"], None),
        (
            pa.array([20_001, 20_000, 20_002], pa.date32()),
            [20_000 * 86_400 * 10**6 + i * 86_400 * 10**6 for i in range(3)],
        ),
        (pa.array([2, 1, 3], pa.timestamp("ms")), [1000, 2000, 3000]),
        (pa.array([2, 1, 3], pa.uint64()), [1, 2, 3]),
        (pa.array([2000, 1000, 3000], pa.timestamp("ns", "Europe/Paris")), [1, 2, 3]),
    ],
)
def test_times_in_every_writing(times, expected, tmp_path):
    data = pa.table({"user": [1, 1, 1], "item": ["b", "a", "c"], "time": times})
    forms = [data]
    if isinstance(times, list):
        pa.csv.write_csv(data, tmp_path / "log.csv")
        forms.append(tmp_path / "log.csv")
    for form in forms:
        found = histories(form)
        assert told(found) == {1: ["a", "b", "c"]}
        assert expected is None or found.times.tolist() == expected
    assert found.times.dtype == np.int64


def test_times_that_cannot_be_right_are_counted_with_a_remedy():
    rows = [("a", f"i{k}", DAY + k) for k in range(8)]
    rows += [("a", "late", (DAY + 9) * 1000), ("a", "none", 0), ("b", "far", 9 * 10**9), ("b", "i1", DAY)]
    found = histories(table(rows))
    assert found.counted[MIXED.format("milliseconds", "seconds")] == 1
    assert found.counted["times before 1973 among times in seconds"] == 1
    assert found.counted["times in the future"] == 1
    said = "\n".join(notes(found))
    assert "1 times in milliseconds among times in seconds: their order is wrong; write all in seconds" in said
    ranks = histories(table([("a", f"i{k}", k) for k in range(50)]))
    assert set(ranks.counted) == set()  # 0, 1, 2 ... say nothing of a unit


def test_notes_say_what_was_met():
    lines = notes(histories(table()))
    assert lines[0] == "users 3, items 3, events 7, mean length 2.33 (1 to 3)"
    assert "1 users whose last two events are at one time (33 %): the log's order decides which is the last" in lines
    assert "no times: the log's order is taken for the order of events" in notes(histories(EXPECTED))


BAD = {
    "no column": (
        lambda f: table(names=("who", "item_id", "timestamp")),
        {},
        "no column of Table is known to hold users: say data.user=NAME; its columns are who, item_id, timestamp",
    ),
    "wrong name": (
        lambda f: table(),
        {"item": "itemid"},
        "data.item: Table has no such column: unknown column 'itemid', did you mean 'item_id'? Allowed: item_id, time",
    ),
    "one for both": (
        lambda f: table(),
        {"item": "user_id"},
        "users and items cannot both be column 'user_id' of Table",
    ),
    "no such place": (
        lambda f: text(f / "a.txt", ["1 2", "1 3"]),
        {"item": 3},
        "data.item: a.txt has no such column: unknown column '3'",
    ),
    "empty": (lambda f: text(f / "a.csv", [""]), {}, "it is empty"),
    "header alone": (lambda f: text(f / "a.csv", ["user,item"]), {}, "no events in a.csv"),
    "strange header": (
        lambda f: text(f / "a.csv", ["Kunde,Artikel,wann", "k1,a1,2024-01-02 10:00:00", "k1,a2,2024-01-03 10:00:00"]),
        {},
        "no column of a.csv is known to hold users: say data.user=NAME; its columns are Kunde, Artikel, wann",
    ),
    "all left out": (
        lambda f: text(f / "a.csv", ["user,item", "a,", ",b"]),
        {},
        "no events in a.csv: 1 rows without a user; 1 rows without an item",
    ),
    "one column": (lambda f: text(f / "a.csv", ["user", "a"]), {}, "has one column, 'user'"),
    "not text": (lambda f: (f / "a.csv").write_bytes(b"a\0b") and f / "a.csv", {}, "is not text in UTF-8"),
    "cut gzip": (
        lambda f: (f / "a.csv.gz").write_bytes(gzip.compress(b"user,item\na,b\n" * 999)[:40]) and f / "a.csv.gz",
        {},
        "cannot read",
    ),
    "latin-1": (
        lambda f: (f / "a.csv").write_bytes("user,item\na,é\n".encode("latin-1")) and f / "a.csv",
        {},
        "cannot read",
    ),
    "no parquet": (lambda f: (f / "a.parquet").write_bytes(b"nothing") and f / "a.parquet", {}, "cannot read"),
    "missing": (lambda f: f / "none.csv", {}, "no log at"),
    "both kinds": (
        lambda f: (text(parquet_folder(f) / "x.csv", ["user,item"]), f / "parts")[1],
        {},
        "holds text and Parquet files",
    ),
    "parts differ": (
        lambda f: (pq.write_table(table(names=("a", "b", "c")), parquet_folder(f) / "c.parquet"), f / "parts")[1],
        {},
        "has no column",
    ),
    "fractions": (
        lambda f: pa.table({"user": [0.5, 1.0], "item": [1, 2]}),
        {},
        "column 'user' of Table holds double that are no ids",
    ),
    "lists": (lambda f: pa.table({"user": [1], "item": [[2]]}), {}, "that are no ids"),
    "words for times": (
        lambda f: table([("a", "b", "31/12/2024"), ("a", "c", "1/1/2025")]),
        {},
        "holds '31/12/2024', which is neither a number nor a date",
    ),
    "truth for times": (lambda f: table([("a", "b", True)]), {}, "holds bool, which is no time"),
    "no log": (lambda f: 7, {}, "cannot read a log from a int"),
    "ragged list": (lambda f: [[1, "a"]], {}, "all whole numbers or all text"),
    "split": (lambda f: table(), {"split": "leave-one"}, "unknown split 'leave-one', did you mean 'leave-one-out'?"),
    "url": (lambda f: "s3://bucket/log.csv", {}, "fetch it first"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_one_line(case, tmp_path):
    make, settings, message = BAD[case]
    data = make(tmp_path)
    with pytest.raises(UserError) as caught:
        histories(data, **settings)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_memory_is_asked_for_before_a_large_log_is_read(monkeypatch, capsys):
    monkeypatch.setattr(logs, "SAID", 100)
    monkeypatch.setattr(logs, "free_memory", lambda: 2**30)
    histories(table())
    assert "Table: about 7 events need about 0.0 GiB of memory" in capsys.readouterr().err
    monkeypatch.setattr(logs, "free_memory", lambda: 200)
    with pytest.raises(
        UserError, match=r"about 7 events need about 0.0 GiB of memory while they are read, but 0.0 GiB"
    ):
        histories(table())
    monkeypatch.setattr(logs, "free_memory", lambda: None)
    assert histories(table()).events == 7


def test_memory_of_a_container_counts(tmp_path, monkeypatch):
    assert room.free_memory() > 2**20
    for name, content in {
        "memory.max": "1000",
        "memory.current": "700",
        "memory.stat": "anon 1\ninactive_file 50",
    }.items():
        (tmp_path / name).write_text(content)
    monkeypatch.setattr(room, "GROUP", tmp_path)
    assert room.free_memory() == 350
    (tmp_path / "memory.max").write_text("max")
    assert room.free_memory() > 2**20


def test_lengths_of_text_are_guessed_well(tmp_path):
    from twoviews.data.logtext import layout

    rows = [f"{i % 997},{i % 4999},{DAY + i}" for i in range(50_000)]
    guess = layout(str(text(tmp_path / "a.csv", ["user,item,time", *rows])), {}).events
    assert 45_000 < guess < 55_000
    lines = [" ".join(map(str, range(i, i + 5 + i % 20))) for i in range(2000)]
    guess = layout(str(text(tmp_path / "b.txt", lines)), {}).events
    assert guess == pytest.approx(sum(4 + i % 20 for i in range(2000)), rel=0.1)


def photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2)).save(path)


def test_photos_are_no_log(tmp_path):
    photo(tmp_path / "folder" / "cat" / "1.png")
    (tmp_path / "folder" / "labels.csv").write_text("path,label\ncat/1.png,cat\n")
    assert not is_log(tmp_path / "folder")
    data = (tmp_path / "folder" / "cat" / "1.png").read_bytes()
    for name, column in (("bytes", pa.array([data])), ("struct", pa.array([{"bytes": data, "path": "a"}]))):
        pq.write_table(pa.table({"image": column, "user": [1], "item": [2]}), tmp_path / f"{name}.parquet")
        assert not is_log(tmp_path / f"{name}.parquet")
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "0.tar").touch()
    (tmp_path / "shards" / "0_stats.csv").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "README.txt").touch()
    for name in ("shards", "empty", "words", "none.zip", "none.parquet", "a.tar", "a.npz"):
        assert not is_log(tmp_path / name)
    images = np.zeros((3, 8, 8), np.uint8)
    for other in (
        images,
        (images, [1, 2, 3]),
        [(images[0], 1)],
        {"train": images},
        [],
        "hf://datasets/a/b",
        "s3://a/*.tar",
    ):
        assert not is_log(other)
    hugging = type("Dataset", (Stream,), {"cast_column": None, "features": {}})
    assert not is_log(hugging(table()))


def test_a_run_can_be_written_down(tmp_path):
    call = partial(histories, data=str(parquet(tmp_path)), user="user_id", least=None, split="time:0.8")
    again = rebuild(json.loads(json.dumps(describe(call))))()
    assert isinstance(again, Histories)
    assert again.split == "time:0.8"
    assert again.fingerprint() == call().fingerprint()


def test_check_counts_what_is_there():
    events = [(u, i, DAY + t) for u, i, t in EVENTS] + [("bo", "new", DAY + 60), ("al", "tea", DAY + 70)]
    report = check_log(histories(table(events)))
    assert (report.users, report.items, report.events) == (3, 4, 9)
    assert report.lengths == (1, 4.0, 3.0, 4)
    assert report.rare == 3
    assert report.once == 2
    assert report.top == pytest.approx(5 / 9)
    assert report.gini == pytest.approx(sum(abs(a - b) for a in (5, 2, 1, 1) for b in (5, 2, 1, 1)) / (2 * 16 * 2.25))
    assert report.span == ("2023-11-14 22:13", "2023-11-14 22:14")
    assert report.unit == "seconds"
    # bo: tea jam | tea | new      al: tea jam | egg | tea      cy is too short to be asked
    assert (report.valid.users, report.valid.targets, report.valid.cold, report.valid.known) == (2, 2, 1, 1)
    assert (report.test.users, report.test.targets, report.test.cold, report.test.known) == (2, 2, 1, 1)
    assert json.loads(json.dumps(report.to_dict()))["split"] == report.split
    lines = report.lines()
    assert (
        "test       2 items to be found for 2 users: 1 (50.0%) never occur in training, 1 (50.0%) the user had before"
        in lines
    )
    short = check_log(histories([[1], [2]]))
    assert short.test is None
    assert short.split.startswith("not divided: every user of histories has one event")


REAL = {
    "ml-100k.inter.gz": (943, 1682, 100_000, True),
    "beauty_bert4rec.txt.gz": (40_226, 54_542, 353_962, False),
    "ml-1m_sas.txt.gz": (6040, 3416, 999_611, False),
}


@pytest.mark.parametrize("name", REAL)
def test_real_logs(name):
    path = DATA / "rec" / name
    if not path.exists():
        pytest.skip(f"{name} is not there; set TWOVIEWS_DATA to the folder of the data sets")
    assert is_log(path)
    found = histories(path)
    users, items, events, timed = REAL[name]
    assert (len(found), found.catalogue, found.events, found.times is not None) == (users, items, events, timed)
    if timed:
        assert found.counted == {logs.TIED: 415}  # 44 % of the users
    else:  # the file is a dict of lists, told in numpy
        rows = np.array(gzip.decompress(path.read_bytes()).split(), np.int64).reshape(-1, 2)
        order = np.argsort(rows[:, 0], kind="stable")
        assert np.array_equal(found.vocabulary.to_numpy()[found.items], rows[order, 1])
        assert found.counted == {}
