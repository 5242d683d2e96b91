"""The names and parameters that other people's scripts rely on."""

import inspect
from importlib import import_module

import pytest

import indexer
import retrieval


def parameters(function) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


@pytest.mark.parametrize(
    ("package", "names"),
    [
        (retrieval, ["Embedder", "Embeddings", "Ranker"]),
        (indexer, ["AddReport", "EncodedPicture", "Hit", "ImageId", "Index", "TokensReport"]),
    ],
    ids=["retrieval", "indexer"],
)
def test_names_of_a_package(package, names):
    assert sorted(package.__all__) == names
    for name in names:
        assert inspect.isclass(getattr(package, name)) and getattr(package, name).__doc__
    with pytest.raises(AttributeError, match=f"^module '{package.__name__}' has no attribute 'Imdex'$"):
        package.Imdex  # noqa: B018


def test_version():
    assert retrieval.__version__.count(".") == 2


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("retrieval.coatnet", "create", ["name", "overrides"]),
        ("retrieval.timm_weights", "load", ["name", "state_dict_or_path", "image_size"]),
        ("retrieval.backbones", "load_backbone", ["spec", "weights", "image_size"]),
        ("retrieval.pooling", "create", ["kind", "num_channels"]),
        ("retrieval.embedder", "Embedder.load", ["path_or_name", "device"]),
        (
            "retrieval.embedder",
            "Embedder.encode",
            ["images", "batch_size", "show_progress_bar", "device", "token_bytes"],
        ),
        ("retrieval.embedder", "Embeddings", ["vectors", "full", "dims", "attention", "tokens", "token_places"]),
        ("retrieval.ranker_weights", "Ranker", ["attention", "embedder", "name"]),
        ("retrieval.ranker_weights", "Ranker.load", ["path_or_name"]),
        ("retrieval.ranker_weights", "Ranker.save", ["folder", "notes"]),
        ("retrieval.ranker_weights", "Ranker.score", ["queries", "candidates", "feedback"]),
        ("retrieval.ranker_weights", "Ranker.explain", ["query", "candidate"]),
        (
            "retrieval.evaluate",
            "evaluate",
            ["embeddings", "labels", "pixels", "widths", "complexity", "distorted", "oracle", "seed"],
        ),
        ("retrieval.training.fit_head", "fit_head", ["network", "batches", "config"]),
        ("retrieval.metrics", "instance_ranks", ["queries", "gallery", "relevant_rows", "chunk_size"]),
        ("retrieval.pixels.complexity", "complexity", ["pixels_NSS3"]),
        ("indexer.buckets", "BucketedIndex.add", ["ids", "vectors", "dims"]),
        ("indexer.buckets", "BucketedIndex.search", ["queries", "top_k", "allowed"]),
    ],
)
def test_parameters(module, name, expected):
    found = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    assert parameters(found) == expected


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("create", ["path", "embedder", "widths", "dtype", "index_type", "token_bytes"]),
        ("open", ["path", "embedder", "device", "snapshot"]),
        ("newer", []),
        ("remove", ["ids", "where"]),
        ("compact", ["keep_snapshots"]),
        ("snapshots", []),
        ("restore", ["version"]),
        ("export", ["out", "tokens"]),
        ("import_", ["file"]),
        ("reencode", ["embedder", "drop_missing", "batch_size", "num_workers", "show_progress_bar", "commit_seconds"]),
        (
            "search",
            ["query", "top_k", "offset", "weights", "subtract", "crop", "where", "min_score"]
            + ["group_by", "group_size", "diverse"]
            + ["rerank", "ranker", "expand", "metadata", "user"],
        ),
        ("search_many", ["queries", "options"]),
        ("encode_pictures", ["pictures", "crop", "on_error"]),
        ("check_search", ["pictures", "options"]),
        ("uri_of", ["name"]),
        ("near_duplicates", ["threshold", "where", "exact", "show_progress_bar"]),
        ("explain", ["query", "image", "ranker", "crop"]),
        ("add_tokens", ["token_bytes", "batch_size", "num_workers", "show_progress_bar", "commit_seconds"]),
        ("info", []),
        ("verify", []),
        ("catalog", []),
        ("sample", ["num_images", "where", "seed", "offset"]),
        ("embedding_map", ["num_images", "seed"]),
        ("failures", []),
        ("ranker_in_use", []),
        ("use_ranker", ["name"]),
    ],
)
def test_parameters_of_the_index(method, expected):
    # More may follow; what is there keeps its name and place.
    assert parameters(getattr(indexer.Index, method))[: len(expected)] == expected


def test_parameters_of_add():
    assert {"sources", "label_from", "exclude_dirs", "num_workers", "batch_size", "on_error"} <= set(
        parameters(indexer.Index.add)
    )


def test_what_a_hit_and_a_report_hold():
    own = ["rank", "id", "uri", "score", "similarity", "dim", "label", "columns"]
    assert parameters(indexer.Hit) == [*own, "similarity_rank", "names"]
    assert parameters(indexer.TokensReport) == ["added", "unchanged", "skipped", "seconds", "failures"]
    assert parameters(indexer.AddReport) == [
        "added",
        "unchanged",
        "updated",
        "skipped",
        "seconds",
        "images_per_second",
        "failures",
        "renamed",
        "duplicates",
        "pruned",
    ]
