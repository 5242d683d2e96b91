"""Questions to the index, and the answers to many of them at once."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from indexer import EncodedPicture, Hit, ImageId, Index
from retrieval.errors import SpyglassError


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """What is looked for in a snapshot of the index: pictures that are liked, and others that are not.

    Each is (S, S, 3) uint8 pixels, or an image of the index. `options` are other arguments of `Index.search`, of values
    that JSON knows.
    """

    index: Index
    liked: Sequence[np.ndarray | ImageId]
    disliked: Sequence[np.ndarray | ImageId] = ()
    options: dict[str, Any] = field(default_factory=dict)


def answer_all(questions: Sequence[Question]) -> list[list[Hit] | Exception]:
    """The hits of each question, or why it has none: what is wrong with one is not the others' fault.

    Those of one snapshot go through the model together, whatever they ask; those that also ask the same of it are
    searched for together.
    """
    of_snapshot, alike = defaultdict(list), defaultdict(list)
    for number, question in enumerate(questions):
        of_snapshot[id(question.index)].append(number)
        own = number if question.disliked else None  # what is subtracted is subtracted from all
        alike[id(question.index), json.dumps(question.options, sort_keys=True), own].append(number)
    encoded: dict[int, _Encoded] = {}
    for numbers in of_snapshot.values():
        encoded |= zip(numbers, _encoded([questions[number] for number in numbers]), strict=True)
    answers: dict[int, list[Hit] | Exception] = {}
    for numbers in alike.values():
        answers |= zip(numbers, _answers([encoded[number] for number in numbers]), strict=True)
    return [answers[number] for number in range(len(questions))]


@dataclass(frozen=True, eq=False)
class _Encoded:
    question: Question
    liked: list[EncodedPicture | SpyglassError]
    disliked: list[EncodedPicture | SpyglassError]

    @property
    def problem(self) -> SpyglassError | None:
        return next((one for one in [*self.liked, *self.disliked] if isinstance(one, SpyglassError)), None)


def _encoded(questions: Sequence[Question]) -> list[_Encoded]:
    """Questions of one snapshot."""
    pictures = [picture for question in questions for picture in [*question.liked, *question.disliked]]
    left = iter(questions[0].index.encode_pictures(pictures, on_error="skip"))
    return [_Encoded(one, [next(left) for _ in one.liked], [next(left) for _ in one.disliked]) for one in questions]


def _answers(asked: Sequence[_Encoded]) -> list[list[Hit] | Exception]:
    """Of questions that ask the same of one snapshot."""
    first = asked[0]
    try:
        for one in asked:
            if one.problem is not None:
                raise one.problem
        return first.question.index.search_many(
            [one.liked for one in asked], subtract=first.disliked, **first.question.options
        )
    except Exception as error:
        # One of several may have spoilt it for all.
        return [error] if len(asked) == 1 else [answer for one in asked for answer in _answers([one])]
