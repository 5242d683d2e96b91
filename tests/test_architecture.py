"""Imports run one way, between the packages and inside them, and cost nothing before they are needed."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("retrieval", "indexer", "ui")
FORBIDDEN = {
    "retrieval": {"indexer", "ui", "faiss", "streamlit", "typer", "duckdb"},
    "indexer": {"ui", "streamlit", "typer"},
    "ui": {"faiss"},
}
FOLDERS = {"retrieval", "indexer", "ui", "tests", "data", ".ci"}


def modules_in(root: Path, packages: tuple[str, ...] = PACKAGES) -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    found = {}
    for path in sorted(path for package in packages for path in (root / package).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(name: str, path: Path) -> set[str]:
    """Dotted names that a module imports, anywhere in it: at the top, in a function, for type checking."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join(base + ([node.module] if node.module else []))
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def module_graph(modules: dict[str, Path]) -> dict[str, set[str]]:
    """Which of our modules each of them imports; `from retrieval import images` is the module, not the package."""
    graph = {}
    for name, path in modules.items():
        graph[name] = set()
        for imported in imports_of(name, path):
            while imported and imported not in modules:
                imported = imported.rpartition(".")[0]
            if imported and imported != name:
                graph[name].add(imported)
    return graph


def forbidden_arrows(modules: dict[str, Path]) -> list[str]:
    return [
        f"{name} imports {imported}"
        for name, path in modules.items()
        for imported in sorted(imports_of(name, path))
        if imported.split(".")[0] in FORBIDDEN[name.split(".")[0]]
    ]


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_the_walk_finds_what_it_looks_for(tmp_path):
    sources = {
        "retrieval/__init__.py": "",
        "retrieval/a.py": "import faiss\nfrom retrieval import b",
        "retrieval/b.py": "def later():\n    from retrieval.inner.c import something",
        "retrieval/inner/__init__.py": "",
        "retrieval/inner/c.py": "from .. import a",
        "indexer/d.py": "import retrieval.a\nimport ui.e.f",
    }
    for name, source in sources.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    modules = modules_in(tmp_path)
    assert module_graph(modules)["indexer.d"] == {"retrieval.a"}
    assert forbidden_arrows(modules) == ["indexer.d imports ui.e.f", "retrieval.a imports faiss"]
    assert set(circle_in(module_graph(modules))) == {"retrieval.a", "retrieval.b", "retrieval.inner.c"}


def test_every_package_has_modules():
    assert {name.split(".")[0] for name in modules_in(ROOT)} == set(PACKAGES)
    assert {"retrieval.coatnet", "retrieval.layers.attention", "indexer.buckets", "ui.cli"} <= modules_in(ROOT).keys()


def test_no_forbidden_arrow():
    assert forbidden_arrows(modules_in(ROOT)) == []


def test_no_circle_between_modules():
    assert circle_in(module_graph(modules_in(ROOT))) == []


def test_no_circle_between_rooms():
    """A folder of a package is one room, whatever is in it; a module beside it is another."""
    modules = modules_in(ROOT)
    rooms = {name: name if path.name == "__init__.py" else room_of(name) for name, path in modules.items()}
    graph = {room: set() for room in rooms.values()}
    for name, imported in module_graph(modules).items():
        graph[rooms[name]] |= {rooms[other] for other in imported} - {rooms[name]}
    assert circle_in(graph) == []


def room_of(name: str) -> str:
    """`indexer.storage` of `indexer.storage.manifest`, and `indexer.buckets` of `indexer.buckets`."""
    return ".".join(name.split(".")[:2])


def test_no_circle_between_packages():
    modules = modules_in(ROOT)
    arrows = {(a.split(".")[0], b.split(".")[0]) for a, bs in module_graph(modules).items() for b in bs}
    assert {arrow for arrow in arrows if arrow[0] != arrow[1]} <= {
        ("indexer", "retrieval"),
        ("ui", "indexer"),
        ("ui", "retrieval"),
    }


def test_nothing_is_unpickled():
    for name, path in modules_in(ROOT).items():
        assert not {imported.split(".")[0] for imported in imports_of(name, path)} & {"pickle", "dill", "joblib"}, name
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                settings = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert settings.get("weights_only") == "True", f"{name}:{node.lineno}"
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert ast.unparse(node.value) == "False", f"{name}:{node.value.lineno}"


def test_top_level_folders_are_the_agreed_ones():
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), "ls-files"]
    listed = subprocess.run(command, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"no git checkout to list: {listed.stderr.strip()}")
    folders = {line.split("/")[0] for line in listed.stdout.splitlines() if "/" in line}
    assert "retrieval" in folders and folders <= FOLDERS


def test_tests_are_flat():
    folder = ROOT / "tests"
    nested = {path for path in folder.rglob("test_*.py") if path.parent not in (folder, folder / "benchmarks")}
    assert not nested


@pytest.mark.parametrize(
    "statement",
    ["import retrieval", "import indexer", "import retrieval.errors, retrieval.shipped, retrieval.images"],
)
def test_importing_prints_nothing_and_needs_no_torch(statement):
    heavy = "torch", "faiss", "kornia", "pytorch_metric_learning"
    script = f"{statement}; import sys; sys.exit(', '.join(sorted({set(heavy)!r} & sys.modules.keys())) or 0)"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
