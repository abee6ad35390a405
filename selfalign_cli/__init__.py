"""selfalign: image-text retrieval with independent embeddings, VSRN, CAMERA and VSE∞ with SelfAlign."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfalign_cli.assembly.retriever import Retriever

__all__ = ["Retriever", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import `Retriever` when it is asked for (PEP 562): it brings torch along, which `selfalign --help` can spare."""
    if name == "Retriever":
        from selfalign_cli.assembly.retriever import Retriever

        return Retriever
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
