"""What all visitors of the page share: a picture is encoded once, and what others do is seen."""

import threading
import time

import numpy as np
import pytest
from toy import ToyEmbedder, coloured, png, write_coloured, write_pngs
from toy_rankers import weighing

from indexer import Index
from retrieval.errors import ImageError, SourceError, UsageError
from ui.latest import Latest
from ui.page.query_state import QueryState, upload_ref
from ui.page.training import Training, TrainingOptions, curve, read_log
from ui.page.uploads import MAX_BYTES, Uploads
from ui.page.workbench import Workbench


@pytest.fixture
def embedder():
    return ToyEmbedder()


@pytest.fixture
def index(tmp_path, embedder):
    index = Index.create(tmp_path / "index", embedder)
    index.add(write_coloured(tmp_path / "pictures", 6), label_from="parent", num_workers=0)
    return index


@pytest.fixture
def workbench(index):
    return Workbench(index)


def test_nothing_is_encoded_twice(workbench, embedder):
    red, blue = QueryState(like=("red/0.png",)), QueryState(like=("red/0.png",), unlike=("blue/0.png",))
    before = embedder.encoded
    first = workbench.find(red)
    assert embedder.encoded == before + 1
    for state in (red, red.change(min_score=0.2), red.change(num_hits=12), red.turn_to(1), blue, blue.turn_to(1)):
        workbench.find(state)
        workbench.judged(state)
    assert embedder.encoded == before + 2
    assert workbench.find(red) is first
    workbench.attention("red/0.png")
    assert embedder.encoded == before + 2
    workbench.find(red.change(crop=(0, 0, 20, 20)))
    assert embedder.encoded == before + 3


def test_hits_are_those_of_the_index(workbench, index):
    state = QueryState(like=("red/0.png", "red/1.png"), unlike=("grey/0.png",), num_hits=12)
    uris = {row["id"]: row["uri"] for _, row in index.catalog().iterrows()}
    plain = index.search([uris[ref] for ref in state.like], subtract=[uris["grey/0.png"]], top_k=24)
    pages = [workbench.find(state.turn_to(page)) for page in (0, 1)]
    assert [hit.id for page in pages for hit in page.hits] == [hit.id for hit in plain]
    assert [page.has_more for page in pages] == [True, False]


def test_hits_are_those_of_the_ranker_as_it_is_now(workbench, index):
    state = QueryState(like=("red/0.png",), num_hits=12)
    for named in (state, state.change(ranker="mine")):
        folder = index.path / "rankers" / "mine"
        weighing(product=1).save(folder)
        index.use_ranker("mine")
        before = workbench.find(named)
        assert workbench.find(named) is before
        weighing(product=-1).save(folder)  # as a training under the same name does
        assert [hit.id for hit in workbench.find(named).hits] != [hit.id for hit in before.hits]


def test_hits_are_those_of_the_judgments_as_they_are_now(workbench, index):
    weighing(product=1, accepted=9).save(index.path / "rankers" / "listens")
    state = QueryState(like=("red/0.png",), num_hits=24, ranker="listens")
    before = [hit.id for hit in workbench.find(state).hits]
    index.record_feedback("red/0.png", before[-1], True)  # by another process, for example
    assert [hit.id for hit in workbench.find(state).hits] != before


def test_what_others_add_is_seen(workbench, tmp_path, embedder):
    assert workbench.view.num_images == 24
    Index.open(workbench.view.index.path, embedder).add(write_pngs(tmp_path / "more", range(3)), num_workers=0)
    assert workbench.view.num_images == 27
    assert workbench.view is workbench.view


def test_a_picture_that_was_indexed_anew_is_shown_and_searched_as_it_is_now(workbench, tmp_path, embedder):
    state, pictures = QueryState(like=("red/0.png",)), workbench.pictures
    drawn = [pictures.tile, pictures.large, workbench.attention]
    before, [best, *_] = [draw("red/0.png") for draw in drawn], workbench.find(state).hits
    assert best.id == "red/0.png"
    folder = tmp_path / "pictures"
    (folder / "red/0.png").write_bytes(png(7))
    Index.open(workbench.view.index.path, embedder).add(folder, label_from="parent", num_workers=0)
    [now, *_] = workbench.find(state).hits
    assert now.id == "red/0.png" and now.similarity > 0.999
    assert all(draw("red/0.png") != earlier for draw, earlier in zip(drawn, before, strict=True))


def test_another_model_sees_pictures_anew(workbench, monkeypatch):
    state = QueryState(like=("red/0.png", upload_ref(workbench.pictures.uploads.add(png(5)))))
    before = [hit.id for hit in workbench.find(state).hits]
    other = ToyEmbedder(fingerprint="beef" * 16)
    monkeypatch.setattr("retrieval.Embedder.load", lambda *arguments, **options: other)
    assert Index.open(workbench.view.index.path).reencode(other, num_workers=0).is_whole
    assert [hit.id for hit in workbench.find(state).hits] == before and other.encoded > 24


def test_judgments_are_kept_and_shown_at_once(workbench, index):
    ref = upload_ref(workbench.pictures.uploads.add(png(5)))
    for state in (QueryState(like=("red/0.png",)), QueryState(like=(ref,)), QueryState(like=(ref,), crop=(0, 0, 9, 9))):
        assert workbench.judged(state, user="ann") == {}
        workbench.judge(state, "red/1.png", True, user="ann")
        workbench.judge(state, "blue/1.png", False, user="ann")
        workbench.judge(state, "red/1.png", False, user="ann")
        assert workbench.judged(state, user="ann") == {"red/1.png": False, "blue/1.png": False}
        assert workbench.judged(state) == {}
    assert len(index.feedback("ann")) == 6
    index.record_feedback("red/0.png", "grey/0.png", True, user="ann")  # by another process, for example
    assert workbench.judged(QueryState(like=("red/0.png",)), user="ann")["grey/0.png"] is True


def test_judgments_are_counted_and_read_once(workbench, index, monkeypatch):
    assert workbench.judgment_counts() == (0, 0, 0)
    for image, relevant, user in (("red/1.png", True, "ann"), ("red/1.png", False, "ann"), ("red/1.png", True, "bob")):
        index.record_feedback("red/0.png", image, relevant, user=user)
    index.record_feedback("blue/0.png", "red/1.png", False)
    read, reads = Index.feedback, []
    monkeypatch.setattr(Index, "feedback", lambda self: reads.append(1) or read(self))
    said = index.feedback()
    for _ in range(3):
        assert workbench.judgment_counts() == (int(said["relevant"].sum()), int((~said["relevant"]).sum()), 2)
        workbench.judged(QueryState(like=("red/0.png",)))
    assert workbench.judgment_counts() == (1, 2, 2) and len(reads) == 2  # ours, and the page's


def test_pictures_by_reference(workbench):
    ref = upload_ref(workbench.pictures.uploads.add(png(5)))
    pictures = workbench.pictures
    assert pictures.data(ref) == png(5) and pictures.size(ref) == (64, 64) and pictures.name(ref) == "your picture"
    assert pictures.size("red/0.png") == (40, 40) and pictures.name("red/0.png") == "0.png"
    assert pictures.part(ref, (1, 2, 3, 4)).shape == (4, 3, 3)
    for draw in (pictures.tile, pictures.large, workbench.attention):
        assert draw(ref)[:2] == draw("red/0.png")[:2] == b"\xff\xd8"
        with pytest.raises(ImageError, match="expected the id of an image of the index, got '../secret'"):
            draw("../secret")
        with pytest.raises(ImageError, match="it has forgotten"):
            draw(upload_ref("0" * 64))
    with pytest.raises(ImageError, match="expected a part inside of the picture"):
        pictures.part(ref, (100, 0, 3, 4))


def test_adding_goes_on_the_side(workbench, tmp_path):
    folder = write_pngs(tmp_path / "more", range(5))
    (folder / "broken.png").write_bytes(b"no picture")
    workbench.add(str(folder))
    adding = workbench.adding
    while adding.is_running:
        time.sleep(0.02)
    assert (adding.report.added, adding.report.skipped, adding.problem) == (5, 1, None)
    assert adding.progress.share == 1.0 and workbench.view.num_images == 29
    with pytest.raises(SourceError, match="found nothing at /nowhere"):
        workbench.add("/nowhere")


def test_adding_can_be_stopped_and_says_what_fails(workbench, tmp_path, embedder, index):
    embedder.seconds_per_image = 0.05
    workbench.add(str(write_pngs(tmp_path / "more", range(100))))
    while workbench.adding.progress.num_done < 20:
        time.sleep(0.01)
    workbench.close()
    assert workbench.adding.was_stopped and workbench.adding.report is None and not workbench.adding.is_running
    assert 24 < workbench.view.num_images < 124  # what was encoded by then stays
    (tmp_path / "words.txt").write_text("no pictures")
    workbench.add(str(tmp_path / "words.txt"))
    workbench.adding._thread.join()
    assert "expected a folder" in workbench.adding.problem


def test_there_is_one_job_of_a_kind(workbench, tmp_path, embedder, monkeypatch):
    embedder.seconds_per_image = 0.02
    folder = str(write_pngs(tmp_path / "more", range(50)))
    refused = []

    def add():
        try:
            workbench.add(folder)
        except UsageError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=add) for _ in range(4)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert len(refused) == 3 and "is being added; wait for that, or stop it" in refused[0]
    workbench.adding.stop()
    add()
    assert len(refused) == 3

    class Run:
        is_running, forgotten = True, False

        def __init__(self, path, options, *, model):
            self.options = options

        def forget(self):
            self.forgotten = True

    monkeypatch.setattr("ui.page.workbench.Training", Run)
    workbench.train(TrainingOptions(name="one"))
    first = workbench.training
    with pytest.raises(UsageError, match="got two while one is in training; wait for that, or stop it"):
        workbench.train(TrainingOptions(name="two"))
    assert workbench.training is first and not first.forgotten
    first.is_running = False
    workbench.train(TrainingOptions(name="two"))
    assert first.forgotten and workbench.training.options.name == "two"
    workbench.close()


def test_visitors_from_elsewhere_change_nothing(index, tmp_path):
    workbench = Workbench(index, may_change=False)
    for change in (lambda: workbench.add(str(tmp_path)), lambda: workbench.train(TrainingOptions(name="x"))):
        with pytest.raises(UsageError, match="expected this page on the machine where it runs"):
            change()


def test_uploads_forget_the_oldest():
    uploads = Uploads(max_bytes=MAX_BYTES)
    uploads._kept._max_size = 2 * len(png(0)) + 100
    names = [uploads.add(png(0)), uploads.add(png(1))]
    uploads.get(names[0])
    uploads.add(png(2))
    assert uploads.get(names[0]) == png(0)
    with pytest.raises(ImageError, match="it has forgotten"):
        uploads.get(names[1])
    with pytest.raises(ImageError, match="expected a JPEG"):
        uploads.add(b"words")
    with pytest.raises(ImageError, match="expected a picture of at most 64 MB"):
        uploads.add(bytes(MAX_BYTES + 1))


def test_latest_answers():
    latest, asked = Latest(2), []
    for key in "abacb":
        latest.get(key, lambda key=key: asked.append(key) or key.upper())
    assert asked == ["a", "b", "c", "b"]
    with pytest.raises(ZeroDivisionError):
        latest.get("x", lambda: 1 / 0)
    assert latest.get("x", lambda: 1) == 1
    threads = [threading.Thread(target=lambda: [latest.get(n % 5, lambda: 0) for n in range(500)]) for _ in range(4)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert len(latest._kept) == 2


def test_only_a_ranker_of_the_index_is_taken_from_an_address(workbench, index, tmp_path):
    weighing(product=-1).save(index.path / "rankers" / "mine")
    weighing(product=-1).save(tmp_path / "elsewhere")
    plain = QueryState(like=("red/0.png",), num_hits=12)
    expected = [hit.id for hit in index.search(coloured((200, 40, 40), 0), top_k=12)]
    for name in (str(tmp_path / "elsewhere"), "../index/rankers/mine", "nobody"):
        assert [hit.id for hit in workbench.find(plain.change(ranker=name)).hits] == expected
    found = workbench.find(plain.change(ranker="mine")).hits
    assert [hit.id for hit in found] != expected and found[1].similarity_rank is not None


def test_a_log_that_is_being_written(tmp_path):
    path = tmp_path / "log.jsonl"
    assert read_log(path) == []
    path.write_text('{"epoch": 0, "val_loss": 0.5}\n{"epoch": 1, "loss": 0.4, "val_lo')
    assert read_log(path) == [{"epoch": 0, "val_loss": 0.5}]
    rows = [{"epoch": 0, "val_loss": 0.5}, {"epoch": 1, "loss": 0.4, "val_loss": 0.3}]
    assert curve(rows, {"loss": "training"}) == [{"epoch": 1, "measure": "training", "value": 0.4}]


@pytest.mark.slow
def test_training_says_why_it_failed_and_can_be_stopped(index):
    training = Training(index.path, TrainingOptions(name="mine"))
    training._process.wait()
    assert training.report is None and "expected" in training.problem and "\n" not in training.problem
    training.forget()
    assert not training._folder.exists()
    stopped = Training(index.path, TrainingOptions(name="mine"))
    stopped.stop()
    assert stopped.was_stopped and not stopped.is_running and stopped.problem is None
    stopped.forget()


def test_the_command_line_of_a_training(tmp_path):
    options = TrainingOptions(name="mine", data="/pictures", epochs=3)
    line = options.arguments(tmp_path, tmp_path / "out", "cpu")
    assert line[:4] == ["train", "ranker", "--data", "/pictures"]
    assert line[4:] == [
        *("--feedback", str(tmp_path), "--name", "mine", "--out", str(tmp_path / "out"), "--epochs", "3"),
        *("--candidates", "100", "--device", "cpu", "--json"),
    ]
    asked = TrainingOptions(name="mine", learning_rate=0.01).arguments(tmp_path, tmp_path / "out", "cpu")
    assert asked[-3:] == ["--learning-rate", "0.01", "--json"]


def test_a_crop_is_of_the_upright_picture(workbench):
    picture = np.asarray(coloured((200, 40, 40), 0))
    assert np.array_equal(workbench.pictures.part("red/0.png", (3, 5, 10, 20)), picture[5:25, 3:13])
