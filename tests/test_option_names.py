"""Errors call an option what its user typed."""

import typer
from command_line import Answer
from toy import write_pngs

from retrieval.errors import TrainingError
from ui.endings import exit_code_of
from ui.option_names import CommandLine


def answer_to(message: str, capsys) -> Answer:
    """What a command says that takes three options and an argument, and fails."""
    app = CommandLine()

    @app.command()
    def fail(
        the_file: str,
        group_by: str = typer.Option("", "-g", "--group-by"),
        token_bytes: int = typer.Option(0, "--tokens"),
        rerank: int = typer.Option(0, "--rerank"),
    ) -> None:
        raise TrainingError(message)

    code = exit_code_of(lambda: app(["a.png", "--tokens", "3"], standalone_mode=False))
    return Answer(code, *capsys.readouterr())


def test_python_s_names_become_those_of_the_command_line(capsys):
    for message, said in {
        "expected token_bytes of 0, got 3; lower group_by": "expected --tokens of 0, got 3; lower --group-by",
        "expected a token_bytes, or two images' group_by": "expected a --tokens, or two images' --group-by",
        "expected a rerank, the_file": "expected a rerank, the_file",  # a word is a word, and an argument has no option
        "expected num_token_bytes, token_bytes_a": "expected num_token_bytes, token_bytes_a",
    }.items():
        assert answer_to(message, capsys) == (1, "", f"error: {said}\n")


def test_what_is_the_user_s_own_stays(capsys):
    for message in (
        "expected a column, got 'group_by'; it's none",
        'expected an SQL condition, got "group_by = 3 OR token_bytes < 2"',
        "found nothing at photos/group_by/token_bytes.png",
    ):
        assert answer_to(message, capsys) == (1, "", f"error: {message}\n")


def test_options_that_are_called_otherwise(spyglass, tmp_path):
    index = ("--index", tmp_path / "p.index", "--device", "cpu")
    answer = spyglass("index", write_pngs(tmp_path / "photos", range(1)), *index, "--tokens", 5000)
    assert answer.code == 2 and answer.err.startswith("error: expected --tokens of 0, or from ")
    model = tmp_path / "model"
    answer = spyglass("train", "embedder", "--data", tmp_path, "--out", model, "--batch-size", 7)
    assert answer == (2, "", "error: expected a --batch-size that is a multiple of 2 views, got 7\n")
