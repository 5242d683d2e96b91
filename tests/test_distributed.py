"""Training in two processes: the loss, the statistics and the weights that one process would have had."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from test_train_embedder import TINY, labelled
from torch import nn

from retrieval import distributed
from retrieval.distributed import Ranks, gather_rows, sum_over_ranks
from retrieval.errors import UsageError
from retrieval.layers.norm import BatchNormAct, SynchronisedBatchNorm, synchronise_batch_norms
from retrieval.train_embedder import train
from retrieval.training import represent

CONFIG = replace(TINY, epochs=1, drop_path=0.0, learning_rate=0.1, warmup_epochs=0.0)
SETS = labelled(4, 16, seed=0).with_unlabelled(labelled(2, 8, seed=2)), labelled(3, 8, seed=1)


class Still(nn.Module):
    """No augmentation: each process draws its own, and would see other pictures than one process alone."""

    def __init__(self, *_):
        super().__init__()

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures


def train_and_record(out: Path) -> None:
    """Five steps in full precision by plain gradient descent, which shows gradients as they are."""
    losses, original = [], represent.finite

    def records(name, value, *where):
        losses.append(original(name, value, *where))
        return losses[-1]

    with (
        mock.patch.object(represent, "Augment", Still),
        mock.patch.object(represent, "fast_autocast", lambda _: contextlib.nullcontext()),
        mock.patch.object(torch.optim, "AdamW", torch.optim.SGD),
        mock.patch.object(represent, "finite", records),
    ):
        network = train(CONFIG, *SETS, out, device="cpu")
    rank = dist.get_rank() if dist.is_initialized() else 0
    torch.save({"losses": losses, "network": network.state_dict()}, out / f"rank {rank}.pt")


def check_gathering() -> None:
    rank = dist.get_rank()
    rows = torch.tensor([[1.0, 2.0]]) + 10 * rank
    rows.requires_grad_()
    gathered = gather_rows(rows)
    assert gathered.tolist() == [[1.0, 2.0], [11.0, 12.0]]
    # Each process weighs the whole by its own factor, 1 and 3: a row's gradient is the sum over both.
    ((1 + 2 * rank) * gathered.square().sum()).backward()
    assert torch.equal(rows.grad, 4 * 2 * rows)
    total = sum_over_ranks(torch.tensor(5.0 + rank))
    assert total.item() == 11

    torch.manual_seed(0)
    features, plain = torch.randn(6, 3, 4, 4), nn.Sequential(BatchNormAct(3, "silu"), nn.BatchNorm2d(3))
    for norm in plain:
        nn.init.normal_(norm.weight), nn.init.normal_(norm.bias)
    synchronised = nn.Sequential(BatchNormAct(3, "silu"), nn.BatchNorm2d(3))
    synchronised.load_state_dict(plain.state_dict())
    synchronise_batch_norms(synchronised)
    expected = plain(features)
    part = slice(3 * rank, 3 * rank + 3)
    torch.testing.assert_close(synchronised(features[part]), expected[part])
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(synchronised.state_dict()[name], value, msg=name)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def in_two_processes(rank: int, port: int, out: Path) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank), "WORLD_SIZE": "2"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    try:
        check_gathering()
        (out / f"gathered {rank}").touch()
        train_and_record(out)
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def of_two(tmp_path_factory) -> Path:
    """The folder of two processes, which did all that needs two: most of their time goes into starting."""
    out = tmp_path_factory.mktemp("two")
    multiprocessing.spawn(in_two_processes, (free_port(), out), nprocs=2)
    return out


@pytest.mark.slow
def test_gathering_and_statistics_by_hand(of_two):
    assert {path.name for path in of_two.glob("gathered *")} == {"gathered 0", "gathered 1"}


@pytest.mark.slow
def test_two_processes_train_as_one(of_two, tmp_path):
    train_and_record(tmp_path)
    alone, first, second = (
        torch.load(path, weights_only=True)
        for path in (tmp_path / "rank 0.pt", of_two / "rank 0.pt", of_two / "rank 1.pt")
    )
    assert len(alone["losses"]) == 10 and len(set(alone["losses"])) == 10
    assert first["losses"] == pytest.approx(alone["losses"], rel=1e-5) and second["losses"] == first["losses"]
    saved = [torch.load(folder / "checkpoint.pt", weights_only=True)["learner"] for folder in (tmp_path, of_two)]
    assert saved[0].keys() == saved[1].keys()
    for name, expected in saved[0].items():
        torch.testing.assert_close(saved[1][name], expected, atol=1e-5, rtol=1e-4, msg=name)
    for name, value in first["network"].items():
        assert torch.equal(second["network"][name], value), f"{name} is not the same on both"
    assert len((of_two / "log.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize("activation", ["none", "silu"])
def test_synchronised_norm_of_one_process_is_the_plain_one(activation):
    torch.manual_seed(0)
    plain, features = BatchNormAct(3, activation), 5 + torch.randn(4, 3, 8, 8)
    nn.init.normal_(plain.weight), nn.init.normal_(plain.bias)
    copied = BatchNormAct(3, activation)
    copied.load_state_dict(plain.state_dict())
    holder = nn.Sequential(copied)
    synchronise_batch_norms(holder)
    assert isinstance(holder[0], SynchronisedBatchNorm) and holder[0].state_dict().keys() == plain.state_dict().keys()

    inputs = [features.clone().requires_grad_() for _ in range(2)]
    outputs = [norm(values) for norm, values in zip((plain, holder[0]), inputs, strict=True)]
    torch.testing.assert_close(*outputs)
    weights = torch.randn_like(features)
    for output in outputs:
        (output * weights).sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
    torch.testing.assert_close(holder[0].weight.grad, plain.weight.grad)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(holder[0].state_dict()[name], value, msg=name)
    plain.eval(), holder.eval()
    torch.testing.assert_close(holder(features), plain(features))


def test_each_process_takes_its_part_of_a_batch():
    batch = torch.arange(6)
    parts = [Ranks(rank=rank, size=3, device=torch.device("cpu")).part_of(batch).tolist() for rank in range(3)]
    assert parts == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(UsageError, match="expected a batch_size that 4 processes divide, got 6"):
        Ranks(rank=0, size=4, device=torch.device("cpu")).part_of(batch)


def test_a_process_alone():
    with distributed.join("cpu") as ranks:
        assert (ranks.rank, ranks.size, ranks.device.type) == (0, 1, "cpu") and ranks.is_first
        rows = torch.ones(2, 3)
        assert gather_rows(rows) is rows and sum_over_ranks(rows) is rows
        module = nn.Linear(2, 2)
        assert ranks.parallel(module) is module


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="lists threads as Linux does")
def test_no_thread_outlives_the_group():
    """A thread of it that lives to the interpreter's end may abort a process whose work is done."""
    script = """
        from pathlib import Path
        from torch import nn
        from retrieval.distributed import join

        def threads():
            names = [(task / "comm").read_text() for task in Path("/proc/self/task").iterdir()]
            return [name for name in names if "gloo" in name]

        with join("cpu"):
            nn.parallel.DistributedDataParallel(nn.Linear(2, 2))
            before = threads()
        assert before and not threads(), threads()
    """
    launched = {"TORCHELASTIC_RUN_ID": "1", "RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    environment = os.environ | launched | {"MASTER_PORT": str(free_port())}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_torchrun_from_the_command_line(tmp_path):
    """Two processes write one model and one report."""
    from PIL import Image

    for i, pixels in enumerate(labelled(4, 6, seed=0).pixels):
        path = tmp_path / "data" / f"class {i // 6}" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ui.cli"]
    settings = "--backbone coatnet_micro --epochs 1 --batch-size 8 --image-size 32 --train-size 32 --device cpu --json"
    command = ["train", "embedder", "--data", tmp_path / "data", "--out", tmp_path / "model", *settings.split()]
    done = subprocess.run([*launch, *command], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == str(tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").exists()
