import pytest
import torch
import torch.nn.functional as F

from retrieval.dimension import hard_cut
from retrieval.training.candidates import CandidateScores, candidate_scores, length_grid


def unit(rows: int, num_dims: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, num_dims, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_scores_by_hand():
    documents = torch.tensor([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]])
    queries = torch.tensor([[1.0, 0.0, 0.0]])
    found = candidate_scores(
        queries, documents, torch.tensor([0]), torch.tensor([1, 3]), num_candidates=1, own_first=True
    )
    assert found.documents.tolist() == [[0, 1]]
    # Cut at one number the first document is (1, 0, 0); whole it is as it was. The second has nothing at one number.
    torch.testing.assert_close(found.scores, torch.tensor([[[1.0, 0.6], [0.0, 0.0]]]))


def test_a_score_between_two_lengths_lies_on_the_line_in_log_d():
    table = CandidateScores(torch.tensor([[1]]), torch.tensor([[[0.2, 0.6]]]), torch.tensor([4, 16]))
    dims = torch.tensor([9.0, 8.0], requires_grad=True)  # 8 is half-way from 4 to 16 in log
    score = table.at(dims, torch.tensor([0]))
    assert score.item() == pytest.approx(0.4)
    score.backward()
    # d score / d log d = 0.4 / log 4, and d log d / d d = 1/8; the other document is no candidate.
    torch.testing.assert_close(dims.grad, torch.tensor([0.0, 0.4 / torch.tensor(4.0).log().item() / 8]))


@pytest.mark.parametrize("own_first", [True, False])
def test_the_table_holds_what_cutting_each_document_would_give(own_first):
    documents, queries = unit(40, 24, 0), unit(12, 24, 1)
    own, lengths = torch.arange(12), torch.tensor([4, 8, 16, 24])
    table = candidate_scores(queries, documents, own, lengths, num_candidates=10, own_first=own_first, chunk_size=5)
    assert table.documents.shape == (12, 10 + own_first)
    for place, length in enumerate(lengths):
        exact = queries @ hard_cut(documents, torch.full((40,), int(length))).T
        torch.testing.assert_close(table.scores[..., place], exact.gather(1, table.documents))
        dims = torch.full((40,), float(length))
        torch.testing.assert_close(table.at(dims, torch.arange(12)), exact.gather(1, table.documents))


def test_candidates_are_the_nearest_whole_and_the_nearest_by_prefix_without_the_own_document():
    documents, queries = unit(40, 24, 2), unit(12, 24, 3)
    own, lengths = torch.arange(12), torch.tensor([4, 24])
    table = candidate_scores(queries, documents, own, lengths, num_candidates=10, own_first=False)
    whole = (queries @ documents.T).scatter(1, own[:, None], -torch.inf)
    for query in range(12):
        found = table.documents[query].tolist()
        assert len(set(found)) == 10 and query not in found
        assert set(found[:5]) == set(whole[query].topk(5).indices.tolist())
        by_prefix = queries[query, :4] @ F.normalize(documents[:, :4], dim=-1).T
        by_prefix[[query, *found[:5]]] = -torch.inf
        assert set(found[5:]) == set(by_prefix.topk(5).indices.tolist())


def test_the_grid_runs_from_end_to_end_in_even_steps_of_log_length():
    grid = length_grid(32, 512)
    assert grid[0] == 32 and grid[-1] == 512 and len(grid) == 17
    ratios = grid[1:] / grid[:-1]
    assert 1.15 < ratios.min() and ratios.max() < 1.23
    assert length_grid(2, 5).tolist() == sorted(set(length_grid(2, 5).tolist()))
