"""Fill a template in. Whatever data say is text: the engine escapes it."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent / "templates"


def render(template: str, **values: object) -> str:
    """A whole page.

    Args:
        template: its name in `templates`.
        values: what it reads; a name that is missing is a bug and raises.
    """
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    engine = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    engine.globals["style"] = lambda name: Markup((FOLDER / name).read_text(encoding="utf-8"))
    engine.filters["signed"] = signed
    engine.filters["largest"] = lambda values: max(map(abs, values))
    engine.filters["dot"] = lambda text: "·" if text == "0" else text
    return engine


def signed(value: float, digits: int = 3) -> str:
    """`+0.123`, `−0.123`, or `0` for what rounds to nothing."""
    text = f"{abs(value):.{digits}f}"
    if not float(text):
        return "0"
    return f"{'−' if value < 0 else '+'}{text}"
