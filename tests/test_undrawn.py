"""Weights are loaded without drawing others first, and without what torch brings along where it draws none."""

import subprocess
import sys

import torch
from torch import nn

from retrieval import Embedder
from retrieval.undrawn import Undrawn


def test_nothing_is_drawn_and_all_else_is_as_ever():
    state = torch.random.get_rng_state()
    with Undrawn():
        layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 4), nn.LayerNorm(4))
        truncated = nn.init.trunc_normal_(torch.full((5, 5), 9.0))
        nn.init.constant_(layers[1].bias, 0.25)
        steps = torch.linspace(0, 1, 3)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert layers[1].bias.tolist() == [0.25] * 4 and layers[2].weight.tolist() == [1.0] * 4
    assert not truncated.any() and not layers[1].weight.any()
    assert steps.tolist() == [0, 0.5, 1] and layers[0].weight.shape == (8, 3, 3, 3)


def test_loading_weights_leaves_random_numbers_alone():
    state = torch.random.get_rng_state()
    Embedder.load(device="cpu")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_loading_weights_imports_no_compiler():
    script = (
        "import sys; from retrieval import Embedder; from retrieval.ranker_weights import Ranker; "
        "Embedder.load(device='cpu'); Ranker.load(); "
        "sys.exit(', '.join({'torch._dynamo', 'torch._inductor', 'sympy'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
