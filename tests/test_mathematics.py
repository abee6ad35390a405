"""The mathematics in docs/MODELS.md: what docstrings cite exists, and its table of oddities is that of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest

from selfalign_cli.recipe.compat import PRESET_KEYS
from selfalign_cli.recipe.hosts import HOSTS, HostSection
from selfalign_cli.recipe.schema import Recipe

CHECKOUT = Path(__file__).parents[1]
DOCS = CHECKOUT / "docs"
MODELS = (DOCS / "MODELS.md").read_text(encoding="utf-8")
SECTIONS = set(re.findall(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", MODELS, re.M))
ODDITIES = MODELS.partition("\n## 12. ")[2]
SOURCES = sorted(path for folder in ("selfalign_cli", "tests") for path in (CHECKOUT / folder).rglob("*.py"))
NUMBER = r"\d+(?:\.\d+)?"
# "MODELS.md 2.1, 2.2, 9", "MODELS.md section 6", "MODELS.md 2.1-2.4", "MODELS.md 3.4 (dot) and 4.3"; `#` of a comment
# and line ends may stand between the words.
CITATION = re.compile(rf"MODELS\.md[\s#]+(?:sections?[\s#]+)?({NUMBER}(?:(?: \(\w+\))?(?:,| and|-)[\s#]*{NUMBER})*)")


def cited_sections() -> list[tuple[str, str]]:
    """Every (file, section) that a source file cites, once."""
    found = {
        (path.relative_to(CHECKOUT).as_posix(), section)
        for path in SOURCES
        if path != Path(__file__).resolve()
        for citation in CITATION.findall(path.read_text(encoding="utf-8"))
        for section in re.findall(NUMBER, citation)
    }
    return sorted(found)


def test_citations_and_sections_are_found():
    assert {"0", "1.3", "2.1", "4.2", "12"} <= SECTIONS
    assert ("selfalign_cli/models/hosts/vsrn.py", "9") in cited_sections()
    assert ("selfalign_cli/assembly/objective.py", "3.4") in cited_sections()


@pytest.mark.parametrize(("file", "section"), cited_sections())
def test_a_cited_section_exists(file, section):
    assert section in SECTIONS


def test_documents_that_the_code_names_are_in_the_checkout():
    names = {name for path in SOURCES for name in re.findall(r"\b[A-Z]{3,}\.md\b", path.read_text(encoding="utf-8"))}
    missing = [name for name in sorted(names) if not any((folder / name).is_file() for folder in (DOCS, CHECKOUT))]
    assert missing == []


def test_rows_that_the_code_names_are_in_the_table():
    row = re.compile(r"\((?:published, )?([MOD]\d{1,2}(?:, [MOD]\d{1,2})*)\)")
    cited = {
        name
        for path in SOURCES
        if path.is_relative_to(CHECKOUT / "selfalign_cli")
        for names in row.findall(path.read_text(encoding="utf-8"))
        for name in names.split(", ")
    }
    assert cited
    assert cited <= set(re.findall(r"^\| ([MOD]\d+) \|", ODDITIES, re.M))


@pytest.mark.parametrize("key", PRESET_KEYS, ids=lambda key: key.path)
def test_every_preset_key_stands_in_its_row(key):
    name = ""
    for line in ODDITIES.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 4:
            name = cells[0] or name
            if f"`{key.path}`" in cells[2]:
                break
    else:
        pytest.fail(f"{key.path} is not in section 12")
    values = ["null" if value is None else str(value).lower() for value in (key.corrected, key.published)]
    assert name == key.row
    assert cells[3].replace("`", "").partition(",")[0] == " / ".join(values)


def test_keys_of_the_table_exist():
    for path in re.findall(r"`((?:data|model|padding|loss|optim|validation)\.[\w.]+)`", ODDITIES):
        sections: list[type] = [Recipe]
        for name in path.split("."):
            fields = [kind.model_fields[name] for kind in sections if name in getattr(kind, "model_fields", {})]
            assert fields, path
            sections = [kind for field in fields for kind in (get_args(field.annotation) or (field.annotation,))]
            sections += [host.section for host in HOSTS.values()] if HostSection in sections else []
