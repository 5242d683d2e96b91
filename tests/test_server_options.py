"""What a client may say of a query: which ranker, for whom, which part of the picture; and what it may not."""

import io
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image
from test_server import error_of, served
from toy import ToyEmbedder, pixels_of, png, write_pngs
from toy_rankers import weighing

from indexer import Index

NUM = 12


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    """With a ranker that turns the order round, one that follows feedback, and one for another model."""
    home = tmp_path_factory.mktemp("options")
    index = Index.create(home / "toy.index", ToyEmbedder())
    index.add(write_pngs(home / "pictures", range(NUM)), num_workers=0)
    weighing(product=-1).save(index.path / "rankers" / "upside-down")
    weighing(product=1, accepted=9).save(index.path / "rankers" / "listens")
    weighing(product=1, embedder="beef" * 16).save(index.path / "rankers" / "foreign")
    weighing(product=-1).save(home / "elsewhere")
    index.record_feedback("003.png", "007.png", True, user="ann")
    return index


@pytest.fixture(scope="module")
def client(index) -> Iterator[httpx.Client]:
    with served(index) as client:
        yield client


def ids(response: httpx.Response) -> list[str]:
    return [hit["id"] for hit in response.raise_for_status().json()["hits"]]


def asked_both_ways(client: httpx.Client, **options) -> list[httpx.Response]:
    return [
        client.post("/v1/search", data={"id": "003.png", **options}),
        client.post("/v1/recommend", json={"positives": ["003.png"], **options}),
    ]


def test_a_ranker_by_its_name(index, client):
    assert client.get("/v1/info").json()["rankers"] == ["listens", "upside-down"]
    expected = [hit.id for hit in index.search(png(3), ranker="upside-down")]
    assert expected != [hit.id for hit in index.search(png(3))]
    for response in asked_both_ways(client, ranker="upside-down"):
        assert ids(response) == expected


def test_whose_feedback_it_reads(index, client):
    first = {user: ids(asked_both_ways(client, ranker="listens", user=user)[0]) for user in ("", "ann", "bob")}
    expected = {user: [hit.id for hit in index.search(png(3), ranker="listens", user=user)] for user in first}
    assert first == expected and first["ann"][1] == "007.png" and first["ann"] != first["bob"] == first[""]


@pytest.mark.parametrize(
    "name",
    ["nobody", "foreign", "default", "../rankers/listens", "rankers", ".", "/etc", "{home}/elsewhere", "a\0"],
)
def test_only_a_ranker_of_the_index_is_used(index, client, name, monkeypatch):
    monkeypatch.chdir(index.path)  # where "rankers" is a folder
    name = name.format(home=index.path.parent)
    for response in asked_both_ways(client, ranker=name):
        assert response.status_code == 422
        known = "expected a ranker of the index (listens, upside-down), got "
        assert error_of(response).startswith((known, "expected a valid ranker, got "))


def test_a_ranker_in_the_folder_of_a_model_is_not_told(tmp_path):
    embedder = ToyEmbedder()
    embedder.name = str(tmp_path / "model")
    index = Index.create(tmp_path / "toy.index", embedder)
    index.add(write_pngs(tmp_path / "pictures", range(3)), num_workers=0)
    weighing(product=-1).save(tmp_path / "model" / "ranker")
    with served(index) as client:
        info = client.get("/v1/info")
        assert info.json()["rankers"] == [] and info.json()["model"] == "model" and str(tmp_path) not in info.text
        assert client.post("/v1/search", data={"id": "001.png"}).json()["hits"][0]["similarity_rank"] is not None
        assert client.post("/v1/search", data={"id": "001.png", "ranker": "ranker"}).status_code == 422


def test_a_part_of_an_upload_and_of_an_image(index, client):
    large = Image.new("RGB", (200, 100))
    large.paste(Image.fromarray(pixels_of(5)), (40, 30))
    file = io.BytesIO()
    large.save(file, "PNG")
    response = client.post("/v1/search", files={"image": file.getvalue()}, data={"crop": "40,30,64,64"})
    assert ids(response)[0] == "005.png" and response.json()["hits"][0]["similarity"] == pytest.approx(1, abs=1e-3)
    part = Image.fromarray(np.ascontiguousarray(pixels_of(5)[8:40, :48]))
    expected = [hit.id for hit in index.search(part)]
    assert ids(client.post("/v1/search", data={"id": "005.png", "crop": "0,8,48,32"})) == expected


@pytest.mark.parametrize(
    ("crop", "message"),
    [
        ("0,0,65,64", "expected a crop x,y,width,height inside of 64x64 pixels, got (0, 0, 65, 64)"),
        ("64,0,1,1", "expected a crop x,y,width,height inside of 64x64 pixels"),
        ("0,0,0,5", "expected a valid crop, got '0,0,0,5'"),
        ("-1,0,5,5", "expected a valid crop"),
        ("1,2,3", "expected a valid crop"),
        ("9999999,0,5,5", "expected a valid crop"),
    ],
)
def test_parts_that_there_are_not(client, crop, message):
    for query in ({"data": {"id": "003.png", "crop": crop}}, {"data": {"crop": crop}, "files": {"image": png(3)}}):
        response = client.post("/v1/search", **query)
        assert response.status_code == 422 and message in error_of(response)
    assert client.post("/v1/recommend", json={"positives": ["003.png"], "crop": "0,0,5,5"}).status_code == 422


def test_a_part_of_a_picture_that_is_gone(tmp_path):
    pictures = write_pngs(tmp_path / "pictures", range(3))
    index = Index.create(tmp_path / "toy.index", ToyEmbedder())
    index.add(pictures, num_workers=0)
    (pictures / "001.png").unlink()
    with served(index) as client:
        assert client.post("/v1/search", data={"id": "001.png"}).status_code == 200
        response = client.post("/v1/search", data={"id": "001.png", "crop": "0,0,9,9"})
        assert response.status_code == 410 and "index again" in error_of(response)


def test_where_nothing_is_grouped_it_is_said(index, client):
    said = ["nothing is grouped: none of the hits has a value in the column label"]
    for options, notes in (({"group_by": "label"}, said), ({"group_by": "width"}, []), ({}, [])):
        for response in asked_both_ways(client, **options):
            assert response.raise_for_status().json()["notes"] == notes
    nothing = {"group_by": "label", "filters": '{"width": 1}'}
    assert client.post("/v1/search", data={"id": "003.png", **nothing}).json() | {"took_ms": 0} == {
        "hits": [],
        "took_ms": 0,
        "notes": [],
    }
    answer = client.get("/openapi.json").json()["components"]["schemas"]["Answer"]
    assert "notes" in answer["required"] and "sentence" in answer["properties"]["notes"]["description"]
