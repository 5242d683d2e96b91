"""What a run leaves in its folder: a log that a kill cannot upset, files that are whole."""

import json
import pickle

import numpy as np
import pytest
import torch

from retrieval.datasets import LabelledImages
from retrieval.errors import TrainingError
from retrieval.training import checkpoints
from retrieval.training.checkpoints import Log, digest_of, save_atomically


def test_a_log_goes_on_where_its_run_does(tmp_path):
    lines = [json.dumps({"epoch": epoch, "step": 10 * epoch}) + "\n" for epoch in (1, 2, 3)]
    (tmp_path / "log.jsonl").write_text("".join(lines) + '{"epoch": 4, "st')
    with Log(tmp_path, step=20, is_silent=False) as log:
        log.line(epoch=3, step=30, loss=0.123456)
        log.number("represent/loss", 0.5, 30)
    kept = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert kept == [{"epoch": 1, "step": 10}, {"epoch": 2, "step": 20}, {"epoch": 3, "step": 30, "loss": 0.1235}]
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1


def test_a_silent_log_writes_nothing(tmp_path):
    with Log(tmp_path, step=0, is_silent=True) as log:
        log.line(step=1)
        log.number("loss", 1.0, 1)
    assert not list(tmp_path.iterdir())


def test_a_file_is_replaced_only_by_a_whole_one(tmp_path, monkeypatch):
    path = tmp_path / "best.pt"
    save_atomically({"recall": 1.0}, path)

    def breaks(state, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", breaks)
    with pytest.raises(KeyboardInterrupt):
        save_atomically({"recall": 2.0}, path)
    assert torch.load(path, weights_only=True) == {"recall": 1.0}


def test_pictures_are_told_apart_by_classes_shape_and_pixels():
    pixels, labels = np.zeros((3, 28, 28, 3), np.uint8), ("a", "b", "a")
    digests = {digest_of(LabelledImages(pixels=pixels, labels=labels))}
    assert digest_of(LabelledImages(pixels=pixels.copy(), labels=labels)) in digests
    digests.add(digest_of(LabelledImages(pixels=pixels, labels=("a", "b", "b"))))
    digests.add(digest_of(LabelledImages(pixels=pixels[:, :14, :14], labels=labels)))
    digests.add(digest_of(LabelledImages(pixels=pixels + np.uint8(1), labels=labels)))
    assert len(digests) == 4


@pytest.mark.parametrize(
    "data", [b"", b"no checkpoint", pickle.dumps([1, 2], protocol=2), pickle.dumps(print, protocol=2)]
)
def test_a_file_that_is_no_checkpoint_is_refused_in_a_sentence(tmp_path, data):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(data)
    with pytest.raises(TrainingError, match="^expected a checkpoint of a training run in .*, got a file that is none"):
        checkpoints.read(path)


def test_a_checkpoint_that_is_cut_short_or_holds_something_else_is_refused(tmp_path):
    path = tmp_path / "checkpoint.pt"
    checkpoints.save_atomically({"step": 3, "weights": torch.zeros(100)}, path)
    assert checkpoints.read(path)["step"] == 3
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(TrainingError, match="remove it to start anew, or give another folder"):
        checkpoints.read(path)
    torch.save([1, 2], path)
    with pytest.raises(TrainingError, match="remove it to start anew"):
        checkpoints.read(path)


def test_a_number_that_is_none_says_what_to_do(tmp_path):
    assert checkpoints.finite("loss", torch.tensor(2.0), 3, tmp_path) == 2
    with pytest.raises(TrainingError, match="got nan at step 3; no weights were saved yet: run again with a lower"):
        checkpoints.finite("loss", torch.tensor(float("nan")), 3, tmp_path)
