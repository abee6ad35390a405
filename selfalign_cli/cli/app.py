"""The Typer app: registers the commands, and turns a `SelfAlignError` into message, hint and exit code."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from selfalign_cli import __version__
from selfalign_cli.cli import (
    bench,
    build_vocab,
    compare,
    convert_features,
    demo,
    evaluate,
    explain,
    export_embeddings,
    extract,
    import_checkpoint,
    index,
    inspect,
    make_scenes,
    recipes,
    report,
    search,
    serve,
    train,
)
from selfalign_cli.cli.console import show_error, show_message, write
from selfalign_cli.errors import RunError, SelfAlignError
from selfalign_cli.launch import is_first

OUT_OF_MEMORY_HINT = (
    "a smaller batch needs less: data.batch_size, optim.chunk_size and validation.batch_size in recipes, --batch-size"
)
FAULTS_OF_THE_MACHINE = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
    errno.ETIMEDOUT,
}


class CommandGroup(TyperGroup):
    """A group of commands whose faults end in one short message; a bug keeps its traceback."""

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Parse the options in front of the command."""
        with _edge():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with _edge():
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result


@contextmanager
def _edge() -> Iterator[None]:
    """Turn exceptions into a message and an exit code."""
    try:
        yield
    except SelfAlignError as error:
        show_error(error)
        raise typer.Exit(error.exit_code) from None
    except typer.TyperException as error:  # wrong options and arguments
        context = getattr(error, "ctx", None)
        hint = f"{context.command_path} --help" if context is not None else None
        show_error(SelfAlignError(error.format_message(), hint))
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        show_message("interrupted")
        raise typer.Exit(130) from None
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        show_error(RunError("out of memory", OUT_OF_MEMORY_HINT))
        raise typer.Exit(RunError.exit_code) from None
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            _silence_stdout()
            raise typer.Exit(1) from None
        if error.errno not in FAULTS_OF_THE_MACHINE:
            raise
        _silence_stdout()
        where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        show_error(RunError(f"{where}{error.strerror}"))
        raise typer.Exit(RunError.exit_code) from None


def _is_out_of_memory(error: Exception) -> bool:
    """Torch raises an error of its own for a GPU, and a plain RuntimeError for the CPU."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or "DefaultCPUAllocator: can't allocate memory" in str(error)
    )


def _silence_stdout() -> None:
    """Discard what is still buffered, so that the interpreter does not report the same fault again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


app = typer.Typer(
    name="selfalign",
    cls=CommandGroup,
    invoke_without_command=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        write(sys.stdout, f"selfalign {__version__}")
        raise typer.Exit


@app.callback()
def selfalign(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Image-text retrieval with independent embeddings: VSRN, CAMERA and VSE∞, with SelfAlign.

    Example: selfalign train recipes/vsrn_scenes.yaml && selfalign eval
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), nl=False)  # with rich it is printed already, and what is left is empty


app.command("demo")(demo.demo)
app.command("make-scenes")(make_scenes.make_scenes)
app.command("extract")(extract.extract)
app.command("convert-features")(convert_features.convert_features)
app.command("build-vocab")(build_vocab.build_vocab)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("export-embeddings")(export_embeddings.export_embeddings)
app.command("explain")(explain.explain)
app.command("index")(index.index)
app.command("search")(search.search)
app.command("serve")(serve.serve)
app.command("report")(report.report)
app.command("import-checkpoint")(import_checkpoint.import_checkpoint)
app.command("inspect")(inspect.inspect_file)
app.command("compare")(compare.compare)
app.command("recipes")(recipes.recipes)
app.command("bench")(bench.bench)


def main() -> None:
    """Run the `selfalign` command: what the console script and `python -m selfalign_cli` call."""
    if sys.stdout is None or sys.stderr is None:  # started with a closed stream: let prints go nowhere
        sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))
    if not is_first():
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - to the end of the process
    try:
        app(prog_name="selfalign")
    finally:
        _silence_stdout()
