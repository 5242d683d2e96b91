"""The index as its users see it: making, opening, searching, asking what it holds, checking it."""

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from toy import ToyEmbedder, flip_byte, pixels_of, png, write_pngs

from indexer import AddReport, Hit, Index
from indexer.storage import manifest
from indexer.vectors.factory_bucket import FactoryBucket
from retrieval.errors import DamagedError, ImageError, IndexFolderError, MismatchError, UsageError

NUM = 60


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Index:
    """Sixty pictures in two folders, added in four segments; then one of each folder changed, in a fifth."""
    folder = tmp_path_factory.mktemp("index")
    photos = write_pngs(folder / "photos" / "a", range(NUM // 2)).parent
    write_pngs(photos / "b", range(NUM // 2, NUM))
    (photos / "a" / "000.png").write_bytes(png(1000))
    (photos / "b" / "030.png").write_bytes(png(1030))
    index = Index.create(folder / "p.index", ToyEmbedder(), dtype="float32")
    index.add(photos, label_from="parent", num_workers=0, batch_size=16, commit_seconds=0)
    write_pngs(photos / "a", range(1))
    write_pngs(photos / "b", range(30, 31))
    assert isinstance(index.add(photos, label_from="parent", num_workers=0), AddReport)
    return index


def brute_force(index: Index, query: np.ndarray) -> list[tuple[str, float]]:
    """Ids and scores by one plain product with all vectors, cut and zero-padded."""
    catalog = index.catalog()
    pictures = np.stack([np.asarray(Image.open(uri))[::2, ::2] for uri in catalog["uri"]])
    scores = ToyEmbedder().encode_pixels(pictures).vectors @ query
    order = np.lexsort((np.arange(len(scores)), -scores))
    return [(catalog["id"][number], float(scores[number])) for number in order]


def full_of(*seeds: int) -> np.ndarray:
    return ToyEmbedder().encode_pixels(np.stack([pixels_of(seed)[::2, ::2] for seed in seeds])).full


def test_the_picture_itself_comes_first(index):
    for seed in (0, 7, 30, 59):
        hit, *others = index.search(png(seed), top_k=5)
        folder = "a" if seed < 30 else "b"
        assert isinstance(hit, Hit) and (hit.rank, hit.id, hit.label) == (1, f"{folder}/{seed:03d}.png", folder)
        assert hit.similarity == pytest.approx(1.0, abs=1e-5) and hit.score <= 1.0 + 1e-6
        assert hit.columns == {} and [other.rank for other in others] == [2, 3, 4, 5]
        assert index.read_image(hit.uri) == png(seed)


def test_search_is_the_plain_product_with_every_vector(index):
    for seed in (3, 2000):
        hits = index.search(png(seed), top_k=NUM + 10)
        expected = brute_force(index, full_of(seed)[0])
        assert [hit.id for hit in hits] == [image_id for image_id, _ in expected] and len(hits) == NUM
        np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in expected], atol=1e-5)


def test_similarity_is_the_cosine_over_the_hit_s_own_numbers(index):
    query = full_of(2000)[0]
    for hit in index.search(png(2000), top_k=10):
        own = full_of(int(hit.id[2:5]))[0][: hit.dim]
        cosine = own @ query[: hit.dim] / np.linalg.norm(own) / np.linalg.norm(query[: hit.dim])
        assert hit.similarity == pytest.approx(cosine, abs=1e-5)


@pytest.mark.parametrize(
    ("where", "keeps"),
    [
        ("label = 'b'", lambda row: row["label"] == "b"),
        ("dim < 200 OR id LIKE '%5.png'", lambda row: row["dim"] < 200 or row["id"].endswith("5.png")),
        ("bucket IN (64, 512) AND label <> 'a'", lambda row: row["bucket"] in (64, 512) and row["label"] != "a"),
        ("id = 'a/011.png'", lambda row: row["id"] == "a/011.png"),
        ("width > 64", lambda row: False),
    ],
)
def test_where_is_a_filter_of_the_full_ranking(index, where, keeps):
    catalog = index.catalog().set_index("id", drop=False)
    hits = index.search(png(5), top_k=8, where=where)
    expected = [hit.id for hit in index.search(png(5), top_k=NUM) if keeps(catalog.loc[hit.id])]
    assert [hit.id for hit in hits] == expected[:8]


def test_min_score_cuts_the_tail(index):
    hits = index.search(png(5), top_k=20)
    floor = hits[4].score
    assert index.search(png(5), top_k=20, min_score=floor) == hits[:5]
    assert index.search(png(5), min_score=1.1) == []


def test_several_queries_and_subtracted_ones(index):
    query = full_of(1, 2).mean(axis=0) - 0.5 * full_of(3, 4).mean(axis=0)
    expected = brute_force(index, query / np.linalg.norm(query))[:6]
    hits = index.search([png(1), png(2)], top_k=6, subtract=[png(3), png(4)])
    assert [hit.id for hit in hits] == [image_id for image_id, _ in expected]
    np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in expected], atol=1e-5)
    assert index.search(png(1), subtract=png(3)) == index.search([png(1)], subtract=[png(3)])


def test_every_kind_of_query_gives_the_same(index, tmp_path):
    path = tmp_path / "Été 雪.png"
    path.write_bytes(png(9))
    image = Image.open(path)
    expected = index.search(path)
    assert expected[0].id == "a/009.png"
    for query in (str(path), png(9), image, pixels_of(9), [path], expected[0].uri):
        assert index.search(query) == expected


def test_a_phone_photo_and_its_upright_copy_are_the_same_query(index):
    sideways = Image.fromarray(np.rot90(pixels_of(9)))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned 90° clockwise
    file = io.BytesIO()
    sideways.save(file, "PNG", exif=exif)
    expected = index.search(png(9))
    assert index.search(file.getvalue()) == expected
    assert index.search(Image.open(file)) == expected  # and PIL images too, as Pillow leaves turning to its users


def test_crop_looks_at_a_part_of_the_upright_query(index):
    collage = np.zeros((100, 200, 3), np.uint8)
    collage[20:84, 120:184] = pixels_of(9)
    assert index.search(collage, crop=(120, 20, 64, 64)) == index.search(png(9))
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(np.rot90(collage))).save(file, "PNG", exif=exif)
    assert index.search(file.getvalue(), crop=(120, 20, 64, 64)) == index.search(png(9))


def test_one_row_by_its_id(index):
    catalog = index.catalog()
    number = 7
    assert index.row(catalog["id"][number]) == catalog.iloc[number].to_dict()
    assert index.row("no such.png") is None and index.row("") is None and index.row("\ud800") is None


def test_info_and_catalog(index):
    catalog, info = index.catalog(), index.info()
    assert catalog.columns.tolist() == "id uri sha256 width height bytes dim bucket label".split()
    assert len(catalog) == info["images"] == NUM and catalog["id"].is_unique
    assert info["mean_dim"] == pytest.approx(catalog["dim"].mean())
    assert {int(width): num for width, num in info["buckets"].items() if num} == catalog[
        "bucket"
    ].value_counts().to_dict()
    files = [path for name in ("segments", "deleted") for path in (index.path / name).rglob("*.*")]
    assert info["size_bytes"] == sum(path.stat().st_size for path in files)
    assert info["bytes_per_image"] == info["size_bytes"] / NUM
    assert info["model"] == "toy" and info["segments"] == 5
    names = ["images", "segments", "mean_dim", "bytes_per_image", "buckets", "model", "size_bytes", "token_bytes"]
    names += ["version", "when", "duplicates"]
    assert [*info] == [*names, "rankers", "foreign_rankers"] and info["token_bytes"] == 1024 and info["rankers"] == []


def test_verify_names_every_file_with_a_flipped_byte(index):
    assert index.verify() == []
    files = [path for path in index.path.rglob("*") if path.is_file() and path.name not in ("lock", "manifest.json")]
    assert len(files) > 20
    for path in files:
        position = path.stat().st_size // 2
        flip_byte(path, position)
        (problem,) = index.verify()
        assert problem.startswith(path.relative_to(index.path).as_posix() + ": ")
        flip_byte(path, position)
    assert index.verify() == []


def test_searching_damaged_vectors_says_so(index):
    path = next(index.path.glob("segments/*/vectors-512.npy"))
    sound = path.read_bytes()
    path.write_bytes(sound[:-4] + b"\xff\xff\xff\x7f")  # a NaN
    with pytest.raises(DamagedError, match="expected sound vectors of width 512 in .*; `verify` lists what is damaged"):
        Index.open(index.path, ToyEmbedder()).search(png(0))
    path.write_bytes(sound)


def test_a_flipped_byte_in_the_manifest_is_noticed_and_its_copy_mends_it(index):
    path = index.path / "manifest.json"
    flip_byte(path, path.stat().st_size // 2)
    (problem,) = index.verify()
    assert problem.startswith("manifest.json: ") and "copy the newest good file of" in problem
    with pytest.raises(DamagedError, match="^manifest.json: "):
        Index.open(index.path)
    path.write_bytes(max((index.path / "history").iterdir()).read_bytes())
    assert index.verify() == []


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_an_index_of_nothing_and_of_one(tmp_path, dtype):
    index = Index.create(tmp_path / "p.index", ToyEmbedder(), widths=(64, 512), dtype=dtype)
    assert index.search(png(0)) == [] and index.search(png(0), where="dim > 3") == []
    assert index.info()["images"] == 0 and index.info()["mean_dim"] == 0 and len(index.catalog()) == 0
    assert index.verify() == []
    index.add(write_pngs(tmp_path / "photos", range(1)) / "000.png", num_workers=0)
    (hit,) = Index.open(index.path, ToyEmbedder(), device="cpu").search(png(0))
    assert hit.id == "000.png" and hit.similarity == pytest.approx(1, abs=1e-3)
    assert index.info()["buckets"].keys() == {"64", "512"}


@pytest.mark.parametrize("index_type", ["auto", "Flat", "HNSW32", "IVF8,Flat", "SQ8"])
def test_the_index_type_is_kept_and_finds_the_picture_itself(tmp_path, monkeypatch, index_type):
    # Small buckets are compared row by row whatever the type: make FAISS's own index answer.
    monkeypatch.setattr(FactoryBucket, "compares_all", lambda bucket, allowed: False)
    photos = write_pngs(tmp_path / "photos", range(NUM))
    made = Index.create(tmp_path / "p.index", ToyEmbedder(), widths=(512,), dtype="float32", index_type=index_type)
    made.add(photos, num_workers=0)
    index = Index.open(made.path, ToyEmbedder())
    for seed in (0, 7, 59):
        hit = index.search(png(seed))[0]
        assert hit.id == f"{seed:03d}.png" and hit.similarity == pytest.approx(1, abs=1e-5)
    assert index.verify() == [] and manifest.read(index.path).index_type == index_type


def test_index_types_that_faiss_does_not_know(tmp_path):
    for index_type in ("nonsense", "PQ7", "", "Flat\n", "IVF99999999999999999999,Flat"):
        with pytest.raises(
            UsageError, match="expected a FAISS factory string for vectors of 32 numbers, got"
        ) as caught:
            Index.create(tmp_path / "p.index", ToyEmbedder(), index_type=index_type)
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "p.index").exists()


def test_where_to_create(tmp_path):
    toy = ToyEmbedder()
    index = Index.create(tmp_path / "new" / "p.index", toy)
    with pytest.raises(IndexFolderError, match="found one; open it, or choose another folder"):
        Index.create(index.path, toy)
    with pytest.raises(IndexFolderError, match="to be empty, found 'photos' in it"):
        write_pngs(tmp_path / "full" / "photos", range(1))
        Index.create(tmp_path / "full", toy)
    (tmp_path / "file").write_text("")
    with pytest.raises(IndexFolderError, match="expected a folder at .*, found a file"):
        Index.create(tmp_path / "file", toy)
    with pytest.raises(IndexFolderError, match="expected to make a folder at .*, but cannot: Not a directory"):
        Index.create(tmp_path / "file" / "p.index", toy)
    (index.path / "manifest.json").rename(index.path / ".manifest.json.new")  # creation, cut short at its worst
    assert Index.create(index.path, toy).verify() == []
    for widths in ((), (512, 64), (64, 64, 512), (32, 64), (0, 512)):
        with pytest.raises(UsageError, match="expected widths (as ascending positive integers|up to 512), "):
            Index.create(tmp_path / "other", toy, widths=widths)
    with pytest.raises(UsageError, match="expected dtype 'float16' or 'float32', got 'int8'"):
        Index.create(tmp_path / "other", toy, dtype="int8")
    for token_bytes in (-1, 11, 4097):
        with pytest.raises(UsageError, match=rf"expected token_bytes of 0, or from 12 .* to 4096, got {token_bytes}$"):
            Index.create(tmp_path / "other", toy, token_bytes=token_bytes)
    assert not (tmp_path / "other").exists()


class Opposing(ToyEmbedder):
    """Two pictures come out as opposites."""

    def encode_pixels(self, pixels, **options):
        embeddings = super().encode_pixels(pixels, **options)
        embeddings.full[1] = -embeddings.full[0]
        return embeddings


def test_what_cannot_be_opened_or_searched(index, tmp_path):
    with pytest.raises(IndexFolderError, match="expected an index at .*, found no manifest.json there"):
        Index.open(tmp_path)
    with pytest.raises(MismatchError, match=r"toy \(f00df00df00d\), got toy \(beef\); use that one, or re-en"):
        Index.open(index.path, ToyEmbedder(fingerprint="beef"))
    with pytest.raises(ImageError, match="expected a picture at nowhere.png, but cannot read it: No such file"):
        index.search("nowhere.png")
    with pytest.raises(ImageError, match="expected a path, bytes, .*, got int"):
        index.search(7)
    with pytest.raises(UsageError, match="expected a query, or several without crop, got 0"):
        index.search([])
    with pytest.raises(UsageError, match="expected a query, or several without crop, got 2"):
        index.search([png(0), png(1)], crop=(0, 0, 1, 1))
    with pytest.raises(UsageError, match="inside of 64x64 pixels, got"):
        index.search(png(0), crop=(10, 10, 60, 10))
    with pytest.raises(UsageError, match="cancel each other out"):
        Index.open(index.path, Opposing()).search([png(0), png(1)])
    with pytest.raises(UsageError, match="top_k"):
        index.search(png(0), top_k=0)


def lazily_opened(data: bytes) -> Image.Image:
    """A PIL image whose pixels are still to be read."""
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (b"", "got an empty file"),
        (png(0)[:200], "expected a whole picture, got one that does not decode"),
        (lazily_opened(png(0)[:200]), "expected a whole picture, got one that does not decode"),
        (np.zeros((0, 5, 3), np.uint8), "expected a picture with pixels, got one of 5x0"),
        (Image.new("RGB", (0, 5)), "expected a picture with pixels, got one of 0x5"),
        ("\0", "expected a picture at .*, but cannot read it: embedded null byte"),
        ("/dev/zero", "expected a picture at .*, but cannot read it: expected a file, got a folder or a device"),
        ("/" + 5000 * "x", "File name too long"),
    ],
)
def test_a_hostile_query_raises_image_error(index, query, message):
    for crop in (None, (0, 0, 1, 1)):
        with pytest.raises(ImageError, match=message):
            index.search(query, crop=crop)


@pytest.mark.parametrize("block", [b"", b"XX" * 30, b"MM\0*" + b"\xff" * 40, b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0"])
def test_an_odd_exif_block_is_no_reason_to_stop(index, block):
    file = io.BytesIO()
    Image.fromarray(pixels_of(9)).save(file, "JPEG", quality=95, exif=b"Exif\0\0" + block)
    assert index.search(file.getvalue())[0].id == "a/009.png"


def test_info_needs_no_heavy_import(index):
    script = (
        "import sys; from indexer import Index\n"
        "print(Index.open(sys.argv[1]).info()['images'])\n"
        "print({'torch', 'numpy', 'pyarrow', 'faiss', 'pandas', 'cv2', 'duckdb'} & set(sys.modules))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script, str(index.path)], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == [str(NUM), "set()"] and ran.stderr == ""


def test_it_says_what_it_is(tmp_path):
    index = Index.create(tmp_path / "p.index", ToyEmbedder())
    index.add(write_pngs(tmp_path / "pictures", range(2)), num_workers=0)
    assert repr(index) == f"Index({str(tmp_path / 'p.index')!r}, images=2, version=1)"
