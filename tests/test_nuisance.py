"""What must not tell pictures apart, worked by hand."""

import torch

from retrieval.training.nuisance import Copies, nuisance_covariance, picture_covariance

# Copies of two pictures differ along the first axis alone, by ±2.
PICTURES = torch.tensor([[0.0, 0.0], [4.0, 6.0]])
ALONG_FIRST = Copies(PICTURES, PICTURES + torch.tensor([[[2.0, 0.0], [-2.0, 0.0]]]))
ALONG_SECOND = Copies(PICTURES, PICTURES + torch.tensor([[[0.0, 1.0], [0.0, 1.0]]]))
FLOOR = 0.05


def with_floor(first: float, second: float) -> torch.Tensor:
    return torch.tensor([[first, 0.0], [0.0, second]]).double() * (1 - FLOOR) + FLOOR * torch.eye(2).double()


def test_copies_alone_by_hand():
    # The mean square difference is diag(4, 0), of mean variance 2: scaled, diag(2, 0).
    torch.testing.assert_close(nuisance_covariance(None, None, ALONG_FIRST), with_floor(2, 0))


def test_a_change_that_all_share_is_no_difference_between_pictures():
    torch.testing.assert_close(nuisance_covariance(None, None, ALONG_SECOND), with_floor(0, 2))


def test_classes_join_copies_by_hand():
    # Within the one class the pictures are ±(2, 3) from the mean: covariance [[4, 6], [6, 9]], mean variance 6.5.
    within = torch.tensor([[4.0, 6.0], [6.0, 9.0]]).double() / 6.5
    expected = (0.8 * within + 0.2 * torch.tensor([[2.0, 0.0], [0.0, 0.0]]).double()) * (1 - FLOOR)
    expected += FLOOR * torch.eye(2).double()
    torch.testing.assert_close(nuisance_covariance(ALONG_FIRST, torch.tensor([0, 0]), None), expected)


def test_classes_count_by_the_share_of_pictures_in_company():
    # One pair, as above, and two pictures alone: half of the class share.
    pictures = torch.cat([PICTURES, PICTURES])
    copies = Copies(pictures, pictures + torch.tensor([[[2.0, 0.0], [-2.0, 0.0]] * 2]))
    within = torch.tensor([[4.0, 6.0], [6.0, 9.0]]).double() / 6.5
    expected = (0.4 * within + 0.6 * torch.tensor([[2.0, 0.0], [0.0, 0.0]]).double()) * (1 - FLOOR)
    expected += FLOOR * torch.eye(2).double()
    covariance = nuisance_covariance(copies, torch.tensor([0, 0, 1, 2]), None)
    torch.testing.assert_close(covariance, expected, rtol=1e-6, atol=1e-6)


def test_pictures_of_classes_of_their_own_add_nothing_but_the_copies():
    each = nuisance_covariance(ALONG_FIRST, torch.tensor([0, 1]), None)
    torch.testing.assert_close(each, torch.tensor([[2.0, 0.0], [0.0, 0.0]]).double() * 0.95 + 0.05 * torch.eye(2))


def test_labelled_and_unlabelled_copies_are_mixed_seven_to_three():
    each = nuisance_covariance(ALONG_FIRST, torch.tensor([0, 1]), ALONG_SECOND)
    torch.testing.assert_close(each, torch.diag(torch.tensor([1.4, 0.6])).double() * 0.95 + 0.05 * torch.eye(2))


def test_a_tenth_of_the_covariance_is_that_of_the_unlabelled():
    labelled, unlabelled = torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), torch.tensor([[5.0, 2.0], [5.0, -2.0]])
    expected = torch.diag(torch.tensor([0.9, 0.4])).double()
    torch.testing.assert_close(picture_covariance(labelled, unlabelled), expected)
    torch.testing.assert_close(picture_covariance(None, unlabelled), torch.diag(torch.tensor([0.0, 4.0])).double())
