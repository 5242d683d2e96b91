"""Pictures, folders, tables and archives at URLs, from servers that are slow, broken or lying."""

import gc
import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry
from test_corpus import write_tar
from toy import ToyEmbedder, png, write_pngs
from web import Answers, cut_first, dripping, endless, failing_first, redirect, send, silent, web_server

import retrieval
from indexer import Index, corpus
from indexer.changes.failures import Failures
from indexer.changes.retrying import failed
from indexer.sources import image_files, remote
from indexer.sources.item import Item
from indexer.sources.urls import is_url, joined, path_of
from retrieval.errors import ImageError, MissingExtraError, SourceError, UsageError
from ui.cli import run


@pytest.fixture(scope="module")
def server():
    with web_server() as answers:
        yield answers


@pytest.fixture
def web(server, monkeypatch) -> Answers:
    server.pages.clear()
    server.num_requests.clear()
    monkeypatch.setattr(remote, "WAIT_SECONDS", 0.01)
    return server


@pytest.fixture
def memory():
    """A store that lists its folders, as S3 does."""
    system = MemoryFileSystem()
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


def test_urls_are_told_from_paths():
    assert all(map(is_url, ("http://h/a.png", "s3://b/k", "S3://b/k", "gs+x://b/k", "https://h/a\nb")))
    assert not any(map(is_url, ("photos", "/a/b", "c:/x", "c://x", "http:/x", "a b://c", "://x", "s3://")))


def test_the_path_of_a_url():
    assert path_of("https://h:80/a%20b/c.JPG?size=9#top").as_posix() == "/a b/c.JPG"
    assert path_of("s3://bucket/a?b/c#1.jpg").as_posix() == "/bucket/a?b/c#1.jpg"


@pytest.mark.parametrize(
    ("url", "place", "expected"),
    [
        ("https://h/t/list.csv", "p/1.png", "https://h/t/p/1.png"),
        ("https://h/t/list.csv", "/p/1.png", "https://h/p/1.png"),
        ("https://h/t/list.csv?key=1", "../1.png", "https://h/1.png"),
        ("s3://b/t/list.csv", "p/1.png", "s3://b/t/p/1.png"),
        ("s3://b/t/list.csv", "../../../1.png", "s3://b/1.png"),
        ("s3://b/t/list.csv", "https://h/1.png", "https://h/1.png"),
    ],
)
def test_places_that_a_remote_table_names(url, place, expected):
    assert joined(url, place) == expected


@pytest.mark.parametrize("name", ["plain", "after 500", "after 429", "after a cut", "redirected"])
def test_pictures_that_come_in_the_end(web, name):
    web.pages |= {
        "/plain": png(0),
        "/after 500": failing_first(500, png(0)),
        "/after 429": failing_first(429, png(0), Retry_After="0"),
        "/after a cut": cut_first(png(0)),
        "/redirected": redirect("/plain"),
    }
    assert corpus.read_image(f"{web.url}/{name.replace(' ', '%20')}") == png(0)
    assert web.num_requests[f"/{name}"] == (2 if "after" in name else 1)


@pytest.mark.parametrize(
    ("name", "reason", "num_requests"),
    [
        ("missing", "nothing is there", 1),
        ("forbidden", "403 Forbidden", 1),
        ("broken", "503 Service Unavailable", 3),
        ("cut", "payload", 3),
        ("silent", "no answer in time", 3),
        ("drip", "no answer in time", 3),
        ("endless", "expected at most 100,000 bytes, got ", 1),
        ("circle", "TooManyRedirects", 1),
        ("file", "NonHttpUrlRedirectClientError", 3),
    ],
)
def test_pictures_that_do_not_come(web, monkeypatch, name, reason, num_requests):
    monkeypatch.setattr(remote, "IDLE_SECONDS", 0.3)
    monkeypatch.setattr(remote, "PICTURE_SECONDS", 0.3)
    monkeypatch.setattr(image_files, "MAX_IMAGE_BYTES", 100_000)
    web.pages |= {
        "/forbidden": lambda handler, number: send(handler, 403, b""),
        "/broken": lambda handler, number: send(handler, 503, b""),
        "/cut": lambda handler, number: send(handler, 200, png(0)[:100], length=1000),
        "/silent": silent,
        "/drip": dripping,
        "/endless": endless,
        "/circle": redirect("/circle"),
        "/file": redirect("file:///etc/passwd"),
    }
    start = time.perf_counter()
    with pytest.raises(ImageError, match=f"^expected a picture at {web.url}/{name}, .*(?i:{reason})") as caught:
        corpus.read_image(f"{web.url}/{name}")
    assert "\n" not in str(caught.value) and time.perf_counter() - start < 5
    assert name == "circle" or web.num_requests[f"/{name}"] == num_requests


def test_a_host_that_is_not_there_is_asked_again(monkeypatch):
    waits, sleep = [], time.sleep
    # Threads of tests before this one may still sleep, and do so by the same function.
    here = threading.get_ident()
    monkeypatch.setattr(
        time, "sleep", lambda seconds: (waits.append if threading.get_ident() == here else sleep)(seconds)
    )
    with pytest.raises(ImageError, match="cannot read it: expected a picture that can be fetched, got: "):
        corpus.read_image("http://127.0.0.1:9/x.png")
    assert waits == [0.5, 1.0]


def test_a_remote_folder(web):
    paths = ("a b/%23 1.png", "a b/deep/2.jpg", "3.gif", ".hidden/4.png", "thumbs/5.png", "notes.txt")
    web.pages |= {f"/photos/{path}": png(0) for path in paths} | {"/other/6.png": png(0)}
    for url in (f"{web.url}/photos", f"{web.url}/photos/"):
        items = [*corpus.read(url, label_from="parent", exclude_dirs=["thumbs"])]
        assert [item.id for item in items] == ["3.gif", "a b/# 1.png", "a b/deep/2.jpg"]
        assert [item.label for item in items] == ["photos", "a b", "deep"]
        assert [item.source for item in items] == ["photos"] * 3
        assert all(item.problem is None and item.path is None and item.data is None for item in items)
    assert corpus.read_image(items[0].uri) == png(0)
    assert corpus.count(url) is None


def test_a_remote_folder_with_a_part_that_cannot_be_listed(web):
    web.pages |= {"/photos/a.png": png(0), "/photos/locked/": lambda handler, number: send(handler, 403, b"")}
    first, second = corpus.read(f"{web.url}/photos")
    assert first.id == "a.png" and second.id == "locked"
    assert second.problem == "expected a folder that can be listed, got: 403 Forbidden"
    assert corpus.is_folder(second.uri) and corpus.holds_many(second.uri) and not corpus.is_gone(second.uri)


def test_a_store_that_lists_its_folders(memory):
    memory.pipe({f"/bucket/photos/{path}": png(0) for path in ("b/2.png", "a.png", ".x/3.png")})
    items = [*corpus.read("memory://bucket/photos", label_from="parent")]
    assert [(item.id, item.uri, item.label) for item in items] == [
        ("a.png", "memory://bucket/photos/a.png", "photos"),
        ("b/2.png", "memory://bucket/photos/b/2.png", "b"),
    ]
    assert corpus.read_image(items[1].uri) == png(0)
    with pytest.raises(ImageError, match="got: nothing is there"):
        corpus.read_image("memory://bucket/photos/c.png")


def test_one_remote_picture(web):
    web.pages["/cats/tom.jpg"] = png(0)
    (item,) = corpus.read(f"{web.url}/cats/tom.jpg?size=large", label_from="parent")
    assert (item.id, item.label, item.uri) == ("tom.jpg", "cats", f"{web.url}/cats/tom.jpg?size=large")


def table_bytes(tmp_path: Path, **columns) -> bytes:
    pq.write_table(pa.table(columns), tmp_path / "table.parquet", row_group_size=2)
    return (tmp_path / "table.parquet").read_bytes()


def test_a_remote_parquet(web, tmp_path):
    pictures = [{"bytes": png(0), "path": "x.png"}, {"bytes": None, "path": "p/1.png"}, {"bytes": png(2), "path": None}]
    web.pages["/t/shop.parquet"] = table_bytes(tmp_path, image=pictures, label=["a", "b", "c"], price=[1, 2, 3])
    url = f"{web.url}/t/shop.parquet"
    first, second, third = corpus.read(url)
    assert (first.uri, first.data, first.label, first.columns) == (f"{url}#0", png(0), "a", {"price": 1})
    assert (second.uri, second.data, second.path, second.source) == (f"{web.url}/t/p/1.png", None, None, "shop")
    assert corpus.container(third.uri) == url and corpus.read_image(third.uri) == png(2)


def test_a_remote_csv_names_no_files_that_are_here(web, tmp_path):
    here = tmp_path / "mine.png"
    here.write_bytes(png(0))
    places = ["p/1.png", "/2.png", "https://elsewhere.example/3.png", str(here), here.as_uri(), "zip://a.png::x.zip"]
    web.pages["/t/list.csv"] = "".join(f"{line}\n" for line in ["path", *places]).encode()
    items = [*corpus.read(f"{web.url}/t/list.csv")]
    assert [item.uri for item in items[:4]] == [
        f"{web.url}/t/p/1.png",
        f"{web.url}/2.png",
        "https://elsewhere.example/3.png",
        f"{web.url}{here}",
    ]
    assert all(item.path is None for item in items)
    refused = "expected a URL of the same kind or of the web, got "
    assert [item.problem for item in items] == [None] * 4 + [refused + places[4], refused + places[5]]


def test_a_remote_tar(web, tmp_path):
    write_tar(tmp_path / "shard.tar", {"n/a.png": png(0), "n/a.cls": b"5", "n/b.png": png(1)})
    web.pages["/shard.tar"] = (tmp_path / "shard.tar").read_bytes()
    items = [*corpus.read(f"{web.url}/shard.tar")]
    assert [(item.id, item.data, item.label) for item in items] == [("n/a.png", png(0), "5"), ("n/b.png", png(1), None)]
    assert corpus.read_image(items[1].uri) == png(1)


def test_a_table_here_of_pictures_elsewhere(web, tmp_path):
    (tmp_path / "list.csv").write_text(f"url_of,path,price\nx,{web.url}/1.png,2\nx,1.png,3\n")
    first, second = corpus.read(tmp_path / "list.csv")
    assert (first.uri, first.path, first.columns["price"]) == (f"{web.url}/1.png", None, 2)
    assert second.path == tmp_path / "1.png"


def test_copies_are_deleted(web, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    write_tar(tmp_path / "shard.tar", {f"{number}.png": png(number) for number in range(3)})
    web.pages["/shard.tar"] = (tmp_path / "shard.tar").read_bytes()
    web.pages["/cut.tar"] = lambda handler, number: send(handler, 200, bytes(100), length=1000)
    left = set(tmp_path.iterdir())
    items = corpus.read(f"{web.url}/shard.tar")
    next(items)
    assert len(set(tmp_path.iterdir()) - left) == 1
    items.close()
    del items
    gc.collect()
    assert [item.problem for item in corpus.read(f"{web.url}/shard.tar")] == [None] * 3
    (cut,) = corpus.read(f"{web.url}/cut.tar")
    assert cut.problem.startswith(f"expected a file that can be fetched, got {web.url}/cut.tar: ")
    assert set(tmp_path.iterdir()) == left


def test_sources_that_are_not_there(web, memory):
    for url in (f"{web.url}/nothing/", f"{web.url}/no.csv", "memory://no/thing"):
        with pytest.raises(SourceError, match=f"expected something to index at {url}, got: nothing is there; check"):
            corpus.read(url)
    with pytest.raises(UsageError, match="expected a URL that fsspec can read, got gopher://h/x"):
        corpus.read("gopher://h/x")
    web.pages["/x.tar.gz"] = b"x"
    with pytest.raises(SourceError, match="expected a folder or an uncompressed .tar, got .*x.tar.gz; unpack it"):
        list(corpus.read(f"{web.url}/x.tar.gz"))
    web.pages["/page.html"] = b"<html>nothing</html>"
    web.pages["/t.csv"] = b"path\n1.png\n"
    with pytest.raises(UsageError, match="label_from 'parent' for a folder, got 'kind'"):
        corpus.read(f"{web.url}/page.html", label_from="kind")
    (item,) = corpus.read(f"{web.url}/t.csv", label_from="kind")
    assert item.problem.startswith("expected label_from 'parent' or a column of ")


def test_without_the_extra_the_error_names_it(monkeypatch):
    with pytest.raises(MissingExtraError, match=r"expected what reads s3://bucket/x.*'spyglass-image-search\[s3\]'"):
        corpus.read("s3://bucket/x")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    for read in (corpus.read, corpus.read_image):
        with pytest.raises(MissingExtraError, match=r"\(fsspec\); run: pip install 'spyglass-image-search\[remote\]'"):
            read("https://host/a.png")


class Bucket(MemoryFileSystem):
    """Stands for S3."""

    protocol = "s3"
    store: dict = {}
    pseudo_dirs = [""]
    settings: dict = {}

    def __init__(self, **settings):
        super().__init__()
        type(self).settings = settings

    @classmethod
    def _strip_protocol(cls, path):
        return "/" + path.removeprefix("s3://").strip("/")


@pytest.fixture
def bucket(monkeypatch) -> Bucket:
    monkeypatch.setitem(_registry, "s3", Bucket)
    Bucket.store.clear()
    return Bucket()


def test_s3_by_a_stand_in(bucket, tmp_path):
    bucket.pipe({f"/bucket/photos/{number}.png": png(number) for number in range(3)})
    index = Index.create(tmp_path / "s.index", ToyEmbedder(token_dim=0))
    report = index.add("s3://bucket/photos", num_workers=0)
    assert (report.added, report.skipped) == (3, 0)
    assert bucket.settings["config_kwargs"] == {"connect_timeout": 10.0, "read_timeout": 30.0}
    (hit,) = index.search(png(1), top_k=1)
    assert (hit.id, hit.uri) == ("1.png", "s3://bucket/photos/1.png") and index.read_image(hit.uri) == png(1)
    assert index.add("s3://bucket/photos", num_workers=0).unchanged == 3


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_index_of_remote_pictures(web, tmp_path, num_workers):
    write_pngs(tmp_path / "same", range(40))
    web.pages |= {f"/photos/{number:03d}.png": png(number) for number in range(40)}
    web.pages["/photos/007.png"] = lambda handler, number: send(handler, 404, b"")
    web.pages["/photos/008.png"] = failing_first(503, png(8))
    index = Index.create(tmp_path / "w.index", ToyEmbedder(token_dim=0))
    report = index.add(f"{web.url}/photos", num_workers=num_workers)
    assert (report.added, report.skipped) == (39, 1)
    assert report.failures[0]["uri"] == f"{web.url}/photos/007.png"
    assert report.failures[0]["reason"] == "expected a picture that can be fetched, got: nothing is there"
    plain = Index.create(tmp_path / "p.index", ToyEmbedder(token_dim=0))
    plain.add(tmp_path / "same", num_workers=0)
    for seed in (0, 8, 39):
        hits, expected = (one.search(png(seed), top_k=5) for one in (index, plain))
        assert hits[0].uri == f"{web.url}/photos/{seed:03d}.png"
        near = [hit.id for hit in expected if hit.id != "007.png"]
        assert [hit.id for hit in hits][: len(near)] == near[:5]
    lines = [json.loads(line) for line in (index.path / "failures.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["007.png"]
    again = index.add(f"{web.url}/photos", num_workers=num_workers)
    assert (again.unchanged, again.skipped) == (39, 1)


def test_failures_are_read_again_alone(web, tmp_path):
    """Each with what its source said of it: the row's id and columns, the folder's name before the file's."""
    web.pages |= {"/one.png": png(1), "/more/2.png": png(2), "/more/deep/3.png": png(3)}
    rows = f"id,path,label,price\nfirst,{web.url}/one.png,x,1\nsecond,here.png,y,2\n"
    (tmp_path / "list.csv").write_text(rows)
    first, second = corpus.read(tmp_path / "list.csv")
    failures = Failures(tmp_path / "failures.jsonl")
    failures.note(first, "a reason")
    failures.note(second, "another")
    failures.note(Item(id="more", uri=f"{web.url}/more/", source="photos", problem="locked"), "locked")
    write_tar(tmp_path / "s.tar", {"n/a.png": png(4), "n/b.png": png(5)})
    failures.note(Item(id="(the rest of the archive)", uri=str(tmp_path / "s.tar"), source="s"), "broken off")
    failures.note(next(corpus.read(tmp_path / "s.tar")), "no picture")
    failures.save()
    write_pngs(tmp_path, range(1))
    (tmp_path / "000.png").rename(tmp_path / "here.png")
    items = [*failed(Failures(tmp_path / "failures.jsonl").lines())]
    assert items[:2] == [first, second]
    assert [(item.id, item.source) for item in items[2:]] == [
        ("n/a.png", "s"),
        ("more/2.png", "photos"),
        ("more/deep/3.png", "photos"),
        ("n/a.png", "s"),
        ("n/b.png", "s"),
    ]
    assert items[2].data == png(4) and all(item.problem is None for item in items)


def test_the_command_at_urls_and_again_for_what_failed(web, tmp_path, monkeypatch, capsys):
    embedder = ToyEmbedder(token_dim=0)
    monkeypatch.setattr(retrieval, "Embedder", SimpleNamespace(load=lambda *arguments, **options: embedder))
    index = str(tmp_path / "c.index")
    assert run(["index", f"{web.url}/nothing.csv", "--index", index]) == 1
    assert capsys.readouterr().err.count("\n") == 1 and not Path(index).exists()
    web.pages |= {f"/photos/{number}.png": png(number) for number in range(4)}
    web.pages["/photos/2.png"] = lambda handler, number: send(handler, 403, b"")
    command = ["index", "--index", index, "--workers", "0", "--json"]
    assert run([*command, f"{web.url}/photos"]) == 3
    report = json.loads(capsys.readouterr().out)
    assert (report["added"], report["skipped"]) == (3, 1)
    assert run([*command, "--retry-failed"]) == 3
    web.pages["/photos/2.png"] = png(2)
    web.num_requests.clear()
    assert run([*command, "--retry-failed"]) == 0
    assert [*web.num_requests] == ["/photos/2.png"]
    assert (Path(index) / "failures.jsonl").read_text() == ""
    capsys.readouterr()
    assert run(["search", f"{web.url}/photos/2.png", "--index", index, "-k", "1", "--json"]) == 0
    (hit,) = json.loads(capsys.readouterr().out)["hits"]
    assert (hit["id"], hit["uri"]) == ("2.png", f"{web.url}/photos/2.png") and hit["similarity"] > 0.999
    del web.pages["/photos/1.png"]
    assert run([*command, "--prune", f"{web.url}/photos/"]) == 0
    assert json.loads(capsys.readouterr().out)["pruned"] == 1
