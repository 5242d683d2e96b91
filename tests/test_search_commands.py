"""`spyglass search` and `near-duplicates`, end to end with the toy model: pages, groups, lists of queries, refusals."""

import io
import json
import logging
import os
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import run_apart
from toy import ToyEmbedder, png, write_pngs
from toy_rankers import perturbed, weighing

from indexer import Index
from indexer.judgments import ranker_folders
from retrieval import Embedder
from retrieval.errors import SourceError, UsageError
from retrieval.reranking.metadata import MetadataColumns, NumberColumn
from ui.commands import query_list, search_options
from ui.pictures import explanation_files, search_sheet

NUM = 24


@pytest.fixture(autouse=True)
def loads(monkeypatch) -> list:
    """How often a model was loaded: the toy one, here."""
    loaded = []

    def load(*_, **__) -> ToyEmbedder:
        loaded.append(ToyEmbedder())
        return loaded[-1]

    monkeypatch.setattr(Embedder, "load", load)
    return loaded


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """Pictures 000.png to 023.png, with labels and prices; with two rankers."""
    home = tmp_path_factory.mktemp("commands")
    photos = write_pngs(home / "photos", range(NUM))
    rows = [f"{photos}/{seed:03d}.png,{'abc'[seed % 3]},{seed * 10}" for seed in range(NUM)]
    (home / "p.csv").write_text("\n".join(["path,label,price", *rows]))
    index = Index.create(home / "p.index", ToyEmbedder(), dtype="float32")
    index.add(home / "p.csv", num_workers=0)
    price = MetadataColumns(numbers=(NumberColumn(name="price", mean=100.0, spread=10.0),))
    for name, ranker in (("deaf", weighing(product=1)), ("near", weighing(metadata=price, metadata0=1))):
        with ranker_folders.replacing(index.path, name) as folder:
            ranker.save(folder)
    return index.path


@pytest.fixture(scope="module")
def bare(tmp_path_factory) -> Path:
    """Three pictures without a label, of which the price is known of one."""
    home = tmp_path_factory.mktemp("bare")
    photos = write_pngs(home / "photos", range(3))
    (home / "p.csv").write_text(
        "\n".join(["path,price,shelf", *(f"{photos}/00{n}.png,{'' if n < 2 else n},x" for n in (0, 1, 2))])
    )
    index = Index.create(home / "p.index", ToyEmbedder())
    index.add(home / "p.csv", num_workers=0)
    return index.path


def ids(hits) -> list[str]:
    return [hit.id for hit in hits]


@pytest.fixture
def index(built) -> Index:
    return Index.open(built, ToyEmbedder())


def test_an_id_of_the_index_is_a_query(spyglass, built, index):
    name = ids(index.search(png(3)))[0]
    answer = spyglass("search", name, "--index", built, "--json")
    assert answer.code == 0 and answer.ids == ids(index.search(png(3)))
    assert json.loads(answer.out)["query"] == name
    less = spyglass("search", name, "--subtract", ids(index.search(png(4)))[0], "--index", built, "--json")
    assert less.ids == ids(index.search(png(3), subtract=[png(4)]))


def test_a_column_that_bears_the_name_of_a_field_of_hits(spyglass, tmp_path):
    photos = write_pngs(tmp_path / "photos", range(2))
    head = "path,score,rank,names,source_score,title"
    (tmp_path / "p.csv").write_text(f"{head}\n{photos}/000.png,5,7,n,s,t\n{photos}/001.png,6,8,n,s,t\n")
    index = Index.create(tmp_path / "p.index", ToyEmbedder())
    index.add(tmp_path / "p.csv", num_workers=0)
    answer = spyglass("search", photos / "000.png", "--index", index.path, "--where", "score = 5", "--json")
    (hit,) = answer.json["hits"]
    assert (hit["rank"], hit["names"], hit["score"] < 5) == (1, [], True)
    users = {name: hit[name] for name in [*hit][list(hit).index("names") + 1 :]}
    columns = {"source_rank": 7, "source_names": "n", "source_source_score": 5, "source_score": "s", "title": "t"}
    assert users == columns


@pytest.mark.parametrize("how", ["--json", "--paths-only", "--batch"])
def test_where_nothing_is_grouped_it_is_said(spyglass, bare, how):
    query = bare.parent / "photos" / "000.png"
    (bare.parent / "queries.txt").write_text(f"{query}\n{query}\n")
    asked = ["--batch", bare.parent / "queries.txt"] if how == "--batch" else [query, how]
    answer = spyglass("search", *asked, "--index", bare, "--group-by", "label")
    assert answer.code == 0 and answer.out.count("001.png") > 0
    assert answer.err == "nothing is grouped: none of the hits has a value in the column label\n"
    assert spyglass("search", *asked, "--index", bare, "--group-by", "price").err == ""
    assert spyglass("search", *asked, "--index", bare, "--group-by", "shelf").err == ""
    of_none = spyglass("search", *asked, "--index", bare, "--group-by", "price", "--where", "price IS NULL")
    assert of_none.err == "nothing is grouped: none of the hits has a value in the column price\n"
    assert spyglass("search", *asked, "--index", bare, "--group-by", "label", "--where", "price > 9").err == ""


def test_pages_weights_groups_and_diversity(spyglass, built, index):
    one, two = (str(built.parent / "photos" / f"{seed:03d}.png") for seed in (3, 4))
    query = ("search", one, "--index", built, "--json")
    assert spyglass(*query, "-k", 4, "--offset", 5).ids == ids(index.search(one, top_k=4, offset=5))
    weighed = spyglass("search", one, two, "--weight", 2, "--weight", -1, "--index", built, "--json")
    assert weighed.ids == ids(index.search([one, two], weights=[2, -1]))
    grouped = spyglass(*query, "--group-by", "label", "--group-size", 2, "--diverse", 0.4)
    assert grouped.ids == ids(index.search(one, group_by="label", group_size=2, diverse=0.4)) and len(grouped.ids) == 6
    near = spyglass(*query, "--ranker", "near", "--metadata", "price=151", "-k", 3)
    assert near.ids == ids(index.search(one, ranker="near", metadata={"price": 151}, top_k=3))


def test_the_feedback_of_a_user_that_nobody_reads(spyglass, built, caplog):
    query = ("search", built.parent / "photos" / "003.png", "--index", built, "--user", "ann", "--paths-only")
    for more, why in ((("--ranker", "deaf"), "the ranker deaf never learned"), ((), "nothing is re-ranked")):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert spyglass(*query, *more).code == 0
        (told,) = caplog.messages
        assert told.startswith("the feedback of user 'ann' changes nothing here: ")
        assert re.search(why, told)
    with ranker_folders.replacing(built, "keen") as folder:
        perturbed().save(folder)
    caplog.clear()
    assert spyglass(*query, "--ranker", "keen").code == 0 and caplog.messages == []


def test_metadata_that_no_ranker_reads(spyglass, built, caplog):
    query = ("search", built.parent / "photos" / "003.png", "--index", built, "--metadata", "prise=3", "--paths-only")
    told = "the query's metadata 'prise' change nothing here: "
    for more, why in (
        (("--ranker", "near", "--metadata", "price=7"), "the ranker .*near reads 'price' alone"),
        (("--ranker", "deaf"), "the ranker .*deaf reads no columns"),
        (("--no-rerank",), "nothing is re-ranked"),
    ):
        caplog.clear()
        assert spyglass(*query, *more).code == 0
        (message,) = caplog.messages
        assert re.fullmatch(told + why, message)


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (
            ["000.pgn"],
            1,
            "expected a picture at 000.pgn, but cannot read it: No such file or directory, nor is it the id",
        ),
        (["Q", "--subtract", "nobody"], 1, "expected a picture at nobody, but cannot read it"),
        (["Q", "--where", "colour = 'red'"], 2, "expected an SQL condition over id, uri"),
        (["Q", "--where", "true; DROP TABLE catalog"], 2, "expected one SQL condition of columns"),
        (
            ["Q", "--where", " "],
            2,
            "expected one SQL condition of columns, comparisons and plain functions, got an empty",
        ),
        (["Q", "--group-by", "colour"], 2, "expected a column, one of id, uri"),
        (["Q", "--group-size", "3"], 2, "expected --group-size together with --group-by, got 3 alone"),
        (["Q", "--min-score", "nan"], 2, "expected --min-score as a number, got nan"),
        (["Q", "--ranker", "nobody"], 1, "expected the name of a ranker of"),
        (["Q", "--ranker", "daef"], 1, "expected the name of a ranker of "),
        (["Q", "--rerank", "1001"], 2, "expected rerank of 0 (not at all) to 1000, got 1001"),
        (["Q", "--diverse", "1.5"], 2, "Invalid value for '--diverse'"),
        (["Q", "--offset", "-1"], 2, "Invalid value for '--offset'"),
        (["Q", "--metadata", "price"], 2, "expected --metadata KEY=VALUE, such as price=12.5, got 'price'"),
        (["Q", "Q", "--weight", "2"], 2, "expected a --weight for each QUERY, got 1 for 2; give one each"),
        (["Q", "--weight", "-2"], 2, "expected weights as finite numbers, one of them above 0"),
        (["Q", "Q", "--crop", "0,0,9,9"], 2, "expected one query with --crop, got 2"),
        (["Q", "--sheet", "photos"], 2, "expected a sheet's name to end in"),
        (["Q", "--sheet", "photos/000.png/x.png"], 2, "expected the sheet's folder to be a folder to write to"),
        (["Q", "--snapshot", "99"], 2, "expected"),
        ([], 2, "expected a QUERY or --batch, got neither; name a picture"),
        (["Q", "--batch", "-"], 2, "expected a QUERY or --batch, got both"),
        (["--batch", "-", "--sheet", "x.png"], 2, "expected --sheet with a QUERY, got it with --batch"),
        (["--batch", "-", "--paths-only"], 2, "expected --paths-only with a QUERY, got it with --batch"),
        (["--batch", "nowhere.txt"], 1, "expected a list of queries in nowhere.txt, but cannot read it: No such file"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(
    spyglass, built, loads, monkeypatch, arguments, code, complaint
):
    monkeypatch.chdir(built.parent)
    query = str(built.parent / "photos" / "003.png")
    answer = spyglass("search", *(query if argument == "Q" else argument for argument in arguments), "--index", built)
    assert (answer.code, answer.out) == (code, "") and answer.err.count("\n") == 1
    assert answer.err.startswith(f"error: {complaint}") and loads == []


def test_what_the_catalog_tells_is_said_before_anything_slow_is_imported(built):
    query, at = str(built.parent / "photos" / "003.png"), ("--index", built)
    apart = run_apart(
        ["search", query, *at, "--where", "prise > 3"],
        ["search", query, *at, "--group-by", "prise"],
        ["search", "nowhere.png", *at],
        ["search", "nowhere.png", *at, "--model", "default"],
        ["search", query, *at, "--where", "prise > 3", "--model", "default"],
        ["search", query, *at, "--subtract", "nobody"],
        ["search", query, "--index", "nowhere.index"],
    )
    assert apart.codes == [2, 2, 1, 1, 2, 1, 1] and not apart.modules & {"torch", "faiss"}
    complaints = (
        "did you mean the column 'price'",
        "did you mean 'price'",
        "at nowhere.png",
        "at nowhere.png",
        "did you mean the column 'price'",
        "at nobody",
        "an index at",
    )
    for line, complaint in zip(apart.err.splitlines(), complaints, strict=True):
        assert line.startswith("error: expected ") and complaint in line


@pytest.fixture
def listed(built, index, tmp_path) -> list[str]:
    """Queries: a path, one that is not there, an id, no picture, another path."""
    (tmp_path / "no picture.png").write_text("Dear Sir")
    first = ids(index.search(png(7)))[0]
    photos = built.parent / "photos"
    return [str(photos / "003.png"), "nowhere.png", first, str(tmp_path / "no picture.png"), str(photos / "004.png")]


def write_list(path: Path, queries: list[str]) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"path": queries, "more": [*range(len(queries))]}), path)
    elif path.suffix == ".csv":
        path.write_text("n,query\n" + "".join(f"{number},{query}\n" for number, query in enumerate(queries)))
    elif path.suffix == ".jsonl":
        records = [query if number % 2 else {"id": query} for number, query in enumerate(queries)]
        path.write_text("".join(json.dumps(record) + "\n" for record in records) + "\n")
    else:
        path.write_text("\n\n".join(queries) + "\n")
    return path


@pytest.mark.parametrize("name", ["q.txt", "q.csv", "q.jsonl", "q.parquet", "-"])
def test_a_list_of_queries_gives_a_line_each(spyglass, built, index, listed, tmp_path, monkeypatch, name):
    file = "-" if name == "-" else write_list(tmp_path / name, listed)
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{query}\n" for query in listed)))
    answer = spyglass("search", "--batch", file, "--index", built, "-k", 3, "--where", "price >= 30")
    assert answer.code == 3 and [line["query"] for line in answer.lines] == listed
    assert [line.keys() for line in answer.lines] == [
        {"query", "took_ms", "hits"} if number not in (1, 3) else {"query", "error"} for number in range(5)
    ]
    assert "cannot read it" in answer.lines[1]["error"] and "picture" in answer.lines[3]["error"]
    for line, seed in zip((answer.lines[place] for place in (0, 2, 4)), (3, 7, 4), strict=True):
        expected = index.search(png(seed), top_k=3, where={"price": {"gte": 30}})
        assert [hit["id"] for hit in line["hits"]] == ids(expected) and line["took_ms"] > 0


def test_long_lists_are_answered_in_batches(spyglass, built, listed, tmp_path, loads):
    file = write_list(tmp_path / "q.txt", [listed[0], listed[4]] * 70)
    answer = spyglass("search", "--batch", file, "--index", built, "-k", 1)
    assert answer.code == 0 and len(answer.lines) == 140 and len(loads) == 1
    assert len({json.dumps(line["hits"]) for line in answer.lines}) == 2
    assert spyglass("search", "--batch", write_list(tmp_path / "none.txt", []), "--index", built) == (0, "", "")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.csv", b"a,b\n1,2\n", r"expected a column query, path or id in .*, got \['a', 'b'\]"),
        ("q.csv", b"", r"expected a column query, path or id in .*, got \[\]"),
        ("q.jsonl", b'"a"\n3\n', "expected a text, or an object with one, in line 2 of .*, got '3"),
        ("q.jsonl", b"{\n", "expected a text, or an object with one, in line 1"),
        ("q.jsonl", b'{"x": 1}\n', r"expected a column query, path or id in .*, got \['x'\]"),
        ("q.parquet", b"PAR1", "expected a list of queries in .*, got: "),
        ("q.csv", b"query\n\xff\n", "expected a list of queries in .*, but cannot read it"),
    ],
)
def test_lists_that_are_none(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message) as raised:
        query_list.read(str(tmp_path / name))
    assert "\n" not in str(raised.value)


def test_a_name_that_is_no_text_can_be_listed(tmp_path):
    (tmp_path / "q.txt").write_bytes(b"\xef\xbb\xbfa\xff.png\r\n")
    assert query_list.read(str(tmp_path / "q.txt")) == [os.fsdecode(b"a\xff.png")]


def test_explaining_again_takes_away_what_was_there(spyglass, built, tmp_path):
    photos, why = built.parent / "photos", tmp_path / "why"
    command = ("--index", built, "--ranker", "deaf", "--explain", why, "--json")
    assert spyglass("search", photos / "003.png", *command, "-k", 5).code == 0
    (why / "99-mine.png").write_text("mine")
    first = {path.name for path in why.iterdir()}
    assert len(first) == 12 and explanation_files.LISTING in first
    answer = spyglass("search", photos / "004.png", *command, "-k", 2, "--offset", 1)
    assert answer.code == 0
    left = {path.name for path in why.iterdir()}
    assert {"99-mine.png", explanation_files.LISTING} < left and len(left) == 6
    assert {name[:2] for name in left} == {"99", "ex", "02", "03"}
    by_id = spyglass("search", answer.ids[0], *command, "-k", 1)
    assert by_id.code == 0 and len([*why.iterdir()]) == 4


@pytest.mark.parametrize("listing", ["{", '{"a": 1}', '["../x.png"]', '["notes.txt"]', "[3]"])
def test_a_listing_that_is_not_ours_is_left_alone(spyglass, built, tmp_path, loads, listing):
    (tmp_path / explanation_files.LISTING).write_text(listing)
    command = ("--index", built, "--ranker", "deaf", "--explain", tmp_path)
    answer = spyglass("search", built.parent / "photos" / "003.png", *command)
    assert answer.code == 2 and "expected the files of an earlier run in" in answer.err and loads == []
    assert [path.name for path in tmp_path.iterdir()] == [explanation_files.LISTING]


def test_columns_out_of_texts():
    texts = ["price=12.5", "n=3", "code=007", "name=a=b", "big=1e3", "none=", "odd=nan"]
    expected = {"price": 12.5, "n": 3, "code": "007", "name": "a=b", "big": 1000.0, "none": "", "odd": "nan"}
    assert search_options.columns(texts) == expected and search_options.columns(None) == {}
    for text in ("price", "=3"):
        with pytest.raises(UsageError, match="expected --metadata KEY=VALUE"):
            search_options.columns([text])


def test_what_a_sheet_says_it_shows():
    asked = {"offset": 20, "subtract": ("x/night.jpg", "b.jpg"), "where": "label = 'cat'", "group_by": "label"}
    assert search_sheet.sentence(["day.jpg", "c.jpg"], 7, (0, 0, 40, 30), asked) == (
        "7 hits from 21 on for day.jpg and 1 more · cut to 0,0,40,30 · less night.jpg, b.jpg · "
        "where label = 'cat' · by label"
    )
    plain = {"offset": 0, "subtract": (), "where": None, "group_by": None}
    assert search_sheet.sentence(["day.jpg"], 0, None, plain) == "0 hits for day.jpg"


def test_near_duplicates_as_text_and_as_json(spyglass, tmp_path, loads):
    photos = write_pngs(tmp_path / "photos", range(6))
    (photos / "same.png").write_bytes(png(2))
    index = Index.create(tmp_path / "p.index", ToyEmbedder())
    index.add(photos, num_workers=0, label_from="parent")
    command = ("near-duplicates", "--index", index.path)
    answer = spyglass(*command, "--json")
    facts = json.loads(answer.out)
    assert (answer.code, answer.err, loads) == (0, "", []) and list(facts) == ["threshold", "took_ms", "groups"]
    (group,) = facts["groups"]
    assert [one["id"] for one in group["images"]] == ["002.png", "same.png"]
    assert [*group["images"][0]] == ["id", "uri", "label", "similarity", "width", "height", "num_bytes"]
    heading, first, second, _, summary = spyglass(*command).out.splitlines()
    assert heading.split() == ["group", "similarity", "pixels", "bytes", "picture"]
    assert first.split()[:3] == ["1", "1.0000", "64x64"] and second.endswith("same.png")
    assert summary == "1 group; 1 picture beside the first"
    assert spyglass(*command, "--where", "id = '002.png'").out == "no two pictures are alike to 0.95\n"
    refused = spyglass(*command, "--threshold", 0)
    assert (refused.code, refused.out) == (2, "") and refused.err.startswith("error: expected a threshold above 0")
