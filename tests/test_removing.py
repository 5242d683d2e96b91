"""Taking images out of an index, by ids and by conditions."""

import pytest
from toy import ToyEmbedder, png, write_pngs

from indexer import Index
from retrieval.errors import LockedError, UsageError

NUM = 12


@pytest.fixture
def index(tmp_path) -> Index:
    """Twelve pictures in three segments."""
    index = Index.create(tmp_path / "p.index", ToyEmbedder(), dtype="float32")
    photos = write_pngs(tmp_path / "photos", range(NUM))
    index.add(photos, num_workers=0, batch_size=4, commit_seconds=0)
    return index


def ids(index: Index) -> list[str]:
    return index.catalog()["id"].tolist()


def test_by_id(index):
    before = index.search(png(3), top_k=NUM)
    assert index.remove(["003.png", "009.png", "003.png"]) == 2
    gone = {"003.png", "009.png"}
    assert ids(index) == [f"{number:03d}.png" for number in range(NUM) if f"{number:03d}.png" not in gone]
    kept = [(hit.id, hit.score) for hit in before if hit.id not in gone]
    for opened in (index, Index.open(index.path, ToyEmbedder())):
        assert [(hit.id, hit.score) for hit in opened.search(png(3), top_k=NUM)] == kept
    assert index.info()["images"] == NUM - 2 and index.verify() == []
    assert index.remove("000.png") == 1 and "000.png" not in ids(index)


def test_by_a_condition(index):
    catalog = index.catalog()
    plain = catalog[catalog["dim"] < catalog["dim"].median()]
    assert index.remove(where=f"dim < {catalog['dim'].median()}") == len(plain) > 0
    assert set(ids(index)) == set(catalog["id"]) - set(plain["id"])
    version = index.version
    assert index.remove(where="id = 'nobody'") == 0 and index.version == version
    assert index.remove(where={"id": sorted(ids(index))[:2]}) == 2
    assert index.remove(where="true") == NUM - len(plain) - 2
    assert ids(index) == [] and index.search(png(0)) == [] and index.verify() == []


def test_an_id_that_is_none_removes_nothing(index):
    with pytest.raises(UsageError, match=r"got '03.png' and 1 more; the closest is '003.png'; nothing was removed"):
        index.remove(["001.png", "03.png", "zebra"])
    assert len(ids(index)) == NUM
    index.remove(["001.png"])
    with pytest.raises(UsageError, match="expected ids of the index, or paths of its pictures, got '001.png'"):
        index.remove(["001.png"])
    # A name that no id can have: what the file system gives where a name is no text.
    with pytest.raises(UsageError, match="got '.udcff.png'; nothing was removed"):
        index.remove(["\udcff.png"])


def test_by_the_path_of_a_picture(index, tmp_path, monkeypatch):
    photos = tmp_path / "photos"
    assert index.remove([str(photos / "003.png"), "003.png", str(photos / "004.png")]) == 2
    monkeypatch.chdir(photos)
    (photos / "more").mkdir()
    assert index.remove(["more/../005.png"]) == 1
    assert ids(index) == [f"{number:03d}.png" for number in (0, 1, 2, *range(6, NUM))]
    with pytest.raises(UsageError, match=f"got '{photos / '003.png'}'; nothing was removed$"):
        index.remove([str(photos / "003.png")])


def test_a_path_that_several_images_have_says_which(index, tmp_path):
    path = tmp_path / "photos" / "003.png"
    (tmp_path / "two.csv").write_text(f"id,path\nleft,{path}\nright,{path}\n")
    index.add(tmp_path / "two.csv", num_workers=0)
    assert len(ids(index)) == NUM + 2
    expected = f"expected the path of one image, got '{path}', which 3 have: give the ids that you mean, of '003.png', "
    with pytest.raises(UsageError, match=f"^{expected}'left', 'right'; nothing was removed$"):
        index.remove(["001.png", str(path)])
    assert len(ids(index)) == NUM + 2
    assert index.remove(["left", "003.png"]) == 2 and index.remove([str(path)]) == 1


def test_what_cannot_be_asked_for(index):
    with pytest.raises(UsageError, match="expected ids or a condition, .* got neither"):
        index.remove()
    with pytest.raises(UsageError, match="expected ids or a condition, .* got both"):
        index.remove(["001.png"], where="true")
    with pytest.raises(UsageError, match="expected an SQL condition over id, uri"):
        index.remove(where="colour = 'red'")
    from indexer.storage.durable import sole_writer

    with sole_writer(index.path / "lock"), pytest.raises(LockedError):
        index.remove(["001.png"])
    assert len(ids(index)) == NUM


def test_what_was_removed_comes_back_with_the_next_add(index, tmp_path):
    index.remove(["003.png"])
    report = index.add(tmp_path / "photos", num_workers=0)
    assert (report.added, report.unchanged) == (1, NUM - 1) and ids(index)[-1] == "003.png"
