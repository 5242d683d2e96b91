"""How a command ends: its exit code, and the one line on stderr that says what went wrong.

0 done, 1 failed, 2 wrong usage, 3 done but some images were skipped, 4 index and model do not match, 130 interrupted.

What is not there is 1 where it was to be read from a file or folder of its own: a picture, a source, an index, a model,
a ranker. It is 2 where only the index could have it, an id, a column, a snapshot, and in a judgment's query.
"""

import os
import sys
import traceback
from collections.abc import Callable

import typer

from retrieval.errors import MismatchError, SpyglassError, UsageError
from ui.printing import one_line

DONE, FAILED, WRONG_USAGE, SKIPPED, MISMATCH, INTERRUPTED = 0, 1, 2, 3, 4, 130

# Typer's own mistakes of usage (unknown option, missing argument) share the base of its one public class of them.
_TyperUsageError = typer.BadParameter.__bases__[0]


def exit_code_of(command: Callable[[], int | None]) -> int:
    """Run a command, print its error as one line on stderr if it has one, and return the exit code it ends with.

    With SPYGLASS_DEBUG=1 in the environment the traceback is printed as well.
    """
    try:
        code = command() or DONE
        sys.stdout.flush()
    except _TyperUsageError as error:
        return _complain(_usage_message(error), WRONG_USAGE)
    except MismatchError as error:
        return _complain(str(error), MISMATCH)
    except UsageError as error:
        return _complain(str(error), WRONG_USAGE)
    except SpyglassError as error:
        return _complain(str(error), FAILED)
    except BrokenPipeError:  # the reader of our output (`| head`) has seen enough
        _give_up_stdout()
        return FAILED
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except Exception as error:
        if isinstance(error, OSError) and _is_of_printing(error):
            _give_up_stdout()
            return _complain(f"expected to write to stdout, but cannot: {error.strerror or error}", FAILED)
        hint = "" if _debugging() else "; set SPYGLASS_DEBUG=1 to see the traceback"
        return _complain(f"unexpected {type(error).__name__}: {str(error) or 'no message'}{hint}", FAILED)
    if code == INTERRUPTED:  # Typer hands on most interruptions as their exit code
        print("interrupted; what was saved before stays", file=sys.stderr)
    return code


def _is_of_printing(error: OSError) -> bool:
    """Whether it was raised by what writes to stdout: such an error bears no name of a file."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return frame.f_code in (typer.echo.__code__, exit_code_of.__code__)


def _give_up_stdout() -> None:
    """Python's flush at exit must not complain once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, code: int) -> int:
    if _debugging():
        traceback.print_exc(file=sys.stderr)
    print(f"error: {one_line(message)}", file=sys.stderr)
    return code


def _usage_message(error: Exception) -> str:
    """Typer's message on one line, with the command whose help tells more."""
    message = " ".join(error.format_message().split())
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "spyglass"
    return f"{message.rstrip('.')}; see '{path} --help'"


def _debugging() -> bool:
    return os.environ.get("SPYGLASS_DEBUG", "") not in ("", "0")
