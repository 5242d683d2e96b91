"""Pictures of a query that need no file of their own: one of the index, by its id, and one that is encoded already."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexer.arguments import check_id

if TYPE_CHECKING:
    import numpy as np

    from retrieval.tokens import Tokens


@dataclass(frozen=True, slots=True)
class ImageId:
    """An image of the index by its id, accepted wherever a query takes a picture.

    Its picture is read again from where it lies. Where that is gone, or another one by now, the stored vector stands
    for it, which is cut at the image's own dim, and its stored tokens.
    """

    id: str

    def __post_init__(self):
        check_id(self.id)


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedPicture:
    """A picture as `Index.encode_pictures` gives it, accepted wherever a query takes a picture.

    `vector` (D,) float32: uncut, of unit length. `dim`: the length that is predicted for it. `tokens`: its local ones,
    None where the index has none. `attention` (h, w) float32: where pooling looked, and `token_places` (N,) int64:
    where on that map, row by row, each token lies; both None where the stored vector stands for a picture that is gone.
    `model` is the fingerprint of the embedder, whose indices alone take it.
    """

    vector: "np.ndarray"
    dim: int
    tokens: "Tokens | None"
    attention: "np.ndarray | None"
    token_places: "np.ndarray | None"
    model: str
