"""Make `tests/golden`, the small copy of a full golden folder that tests use when SELFALIGN_GOLDEN is not set.

    python tests/copy_golden.py FULL_FOLDER [DESTINATION]

Files are copied as they are or left out, never edited; of those in THINNED the largest tensors are left out. GROUPS
lists what to take, most useful first; a group whose files do not all fit into what is left of the budget is left out
whole. `LEFT_OUT.txt` in the copy names every file and tensor that stayed behind: a test that needs such a file skips
itself, while any other missing file is a failure.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from safetensors.torch import save
from support.golden import LEFT_OUT, tensors
from torch import Tensor

BUDGET = 13_300_000  # bytes

GROUPS: tuple[tuple[str, ...], ...] = (
    # Every model case: its start, its batches, and the losses of its five steps in both precisions.
    ("*/meta.json", "*/init.safetensors", "*/inputs.safetensors"),
    # Every single module.
    ("units/*",),
    # Ranking, both measures.
    ("eval/matrix_*", "eval/order_*"),
    # One case of each host: all outputs, in evaluation and in training.
    ("vsrn_f30k/eval.*", "vsrn_f30k/train.*", "camera/eval.*", "camera/train.*", "vsrn_f30k/ctx_relu_0.*"),
    # Files of the released programs: data, vocabularies, BERT, captions as ids.
    ("legacy/data/**/*", "legacy/vocab/*", "legacy/bert/*", "legacy/expected/tokenisation_cases.json"),
    ("legacy/expected/vsrn_captions.json", "legacy/expected/camera_captions.json", "legacy/expected/camera_batches.*"),
    # One checkpoint in the oldest form, a second one for the ensemble, and what they scored.
    (
        "legacy/expected/vsrn_selfalign.*",
        "legacy/vsrn_selfalign/model_best_py2_cuda.*",
        "legacy/vsrn_selfalign_b/model_best_py2_cuda.*",
    ),
    # VSE∞: outputs of one text encoder, dropout of the other; altered captions; a checkpoint in the oldest form.
    ("vse_infty_region_bigru/eval.*", "vse_infty_region_bigru/train.*", "vse_infty_region_bert/dropout.*"),
    (
        "legacy/bert_long/*",
        "legacy/expected/vse_infty_*_dropping.json",
        "legacy/expected/vse_infty_token*",
        "eval/cxc_*",
    ),
    (
        "legacy/expected/vse_infty_region_bigru.*",
        "legacy/vse_infty_region_bigru/*_cuda.*",
        "legacy/vse_infty_region_bigru_b/*",
    ),
    # Other people's formats.
    ("legacy/karpathy/*", "legacy/tsv/*"),
    # The detector: single steps, then all stages on two pictures.
    ("frcnn/config.yaml", "frcnn/ops.*"),
    ("frcnn/weights.*", "frcnn/pictures.*", "frcnn/eval.*"),
    # Gradients of every parameter; single precision is judged against double.
    ("vsrn_f30k/grads_f64.*",),
    ("vsrn_f30k/grads_f32.*",),
    # More of the same, as far as it fits.
    ("vsrn_f30k/step5_f64.*",),
    ("camera/grads_*",),
    ("eval/multiview_*",),
    ("legacy/expected/vsrn_batches.*",),
)
THINNED = {"frcnn/eval.safetensors": 100_000}
"""Tensors of these files that are larger, in bytes, stay behind; what is made from them is there."""
NEVER = ("INDEX.json", LEFT_OUT)  # they describe the full folder, or an earlier copy


def files_under(folder: Path) -> list[Path]:
    """All files, as sorted relative paths."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in found if str(path) not in NEVER)


def select(folder: Path, budget: int = BUDGET) -> list[Path]:
    """Choose the files of the copy."""
    chosen: list[Path] = []
    for patterns in GROUPS:
        matching = {
            path.relative_to(folder) for pattern in patterns for path in folder.glob(pattern) if path.is_file()
        }
        wanted = sorted(matching - set(chosen))
        size = sum(len(content(folder, path)) for path in wanted)
        if size <= budget:
            chosen += wanted
            budget -= size
    return sorted(chosen)


def content(folder: Path, path: Path) -> bytes:
    """What a file of the copy holds."""
    if path.as_posix() not in THINNED:
        return (folder / path).read_bytes()
    large = large_tensors(folder, path)
    return save({name: value for name, value in tensors(folder / path).items() if name not in large})


def large_tensors(folder: Path, path: Path) -> dict[str, Tensor]:
    """Tensors of a file that stay behind."""
    if path.as_posix() not in THINNED:
        return {}
    return {name: one for name, one in tensors(folder / path).items() if one.nbytes > THINNED[path.as_posix()]}


def copy(source: Path, destination: Path) -> None:
    """Replace the destination by a copy of the chosen files."""
    files = files_under(source)
    chosen = select(source)
    if not chosen:
        raise SystemExit(f"{source} holds nothing that looks like golden data")
    if destination.exists():
        shutil.rmtree(destination)
    for path in chosen:
        (destination / path).parent.mkdir(parents=True, exist_ok=True)
        (destination / path).write_bytes(content(source, path))
    left_out = [path.as_posix() for path in files if path not in set(chosen)]
    left_out += [f"{path.as_posix()}: {name}" for path in chosen for name in sorted(large_tensors(source, path))]
    (destination / LEFT_OUT).write_text("".join(f"{name}\n" for name in left_out), encoding="utf-8")
    size = sum((destination / path).stat().st_size for path in chosen)
    print(f"{destination}: {len(chosen)} files, {size:,} bytes; {len(left_out)} files left out")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="FULL_FOLDER")
    parser.add_argument("destination", type=Path, nargs="?", default=Path(__file__).parent / "golden")
    given = parser.parse_args()
    if given.source.resolve() == given.destination.resolve():
        parser.error("source and destination are the same folder")
    copy(given.source, given.destination)


if __name__ == "__main__":
    main()
