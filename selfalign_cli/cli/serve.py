"""`selfalign serve`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from selfalign_cli.cli.console import show_message, write
from selfalign_cli.cli.options import DeviceOpt
from selfalign_cli.errors import RunError

IndexArg = Annotated[
    str,
    typer.Argument(metavar="INDEX", help="Folder that selfalign index made, or an engine, as --to has it."),
]
ModelOpt = Annotated[
    Path | None,
    typer.Option("--model", metavar="CKPT", help="With an engine: where the checkpoint is now.", show_default=False),
]
PortOpt = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")]
HostOpt = Annotated[str, typer.Option("--host", metavar="ADDRESS", help="IP address of this machine to listen on.")]
PublicOpt = Annotated[
    bool, typer.Option("--yes-public", help="Let others than this machine reach it; there is no password.")
]
NamesOpt = Annotated[
    list[str] | None,
    typer.Option("--name", metavar="HOST", help="With --yes-public: a name by which browsers reach it."),
]
PicturesOpt = Annotated[
    list[Path] | None,
    typer.Option("--pictures", metavar="DIR", help="Folder of the pictures, if the index does not lead to it."),
]


def serve(
    index: IndexArg,
    port: PortOpt = 8088,
    host: HostOpt = "127.0.0.1",
    yes_public: PublicOpt = False,
    name: NamesOpt = None,
    pictures: PicturesOpt = None,
    model: ModelOpt = None,
    device: DeviceOpt = "auto",
) -> None:
    """Serve an index as a page: type a sentence, see the pictures, see why. Prints its address once it answers.

    Only this machine can reach it, unless --host and --yes-public say otherwise. `selfalign search` of the same index
    asks a running server in place of loading the model.

    Example: selfalign serve INDEX --port 0
    """
    if find_spec("uvicorn") is None or find_spec("starlette") is None:
        raise RunError("serve needs the packages starlette and uvicorn", 'pip install "selfalign[serve]"')
    from selfalign_cli.serve.run import Place
    from selfalign_cli.serve.run import serve as run

    place = Place(host, port, yes_public, tuple(name or ()))
    run(
        index,
        place,
        model=model,
        pictures=pictures or (),
        device=device,
        ready=lambda address: write(sys.stdout, address),
        notify=show_message,
    )
