"""Write the same pictures in every dialect of region features that convert-features reads."""

from __future__ import annotations

import base64
import json
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from support.records import write_records

from selfalign_cli.data.features.records import ImageRecord

WIDTH, HEIGHT = 640, 480


@dataclass(frozen=True)
class Picture:
    """A picture with regions and boxes, of 640 x 480 pixels."""

    image_id: str
    features: npt.NDArray[np.float32]
    boxes: npt.NDArray[np.float32]


def make_pictures(counts: Sequence[int], width: int = 4, seed: int = 0, *, any_bits: bool = False) -> list[Picture]:
    """Pictures 11, 12, … with so many regions; `any_bits` features are any finite float32 numbers."""
    noise = np.random.default_rng(seed)
    pictures = []
    for number, count in enumerate(counts):
        features = noise.standard_normal((count, width)).astype(np.float32)
        if any_bits:
            features = noise.integers(0, 2**32, (count, width), dtype=np.uint32).view(np.float32)
            features = np.where(np.isfinite(features), features, np.float32(1.5))
        corners = noise.uniform(0, 200, (count, 2))
        boxes = np.concatenate([corners, corners + noise.uniform(1, 200, (count, 2))], axis=1)
        pictures.append(Picture(str(11 + number), features, boxes.astype(np.float32)))
    return pictures


@dataclass(frozen=True)
class Dialect:
    """A dialect of a format: pictures as one program writes them.

    Attributes:
        write: (folder, pictures) → sources for the command.
        format: what convert-features calls it.
        boxes: whether boxes are kept.
        sizes: whether picture sizes are kept.
        adaptive: whether pictures may have different numbers of regions.
        own_captions: whether the captions are among the sources, and no file of captions goes with them.
        each: captions of the picture in a row.
    """

    write: Callable[[Path, Sequence[Picture]], list[Path]]
    format: str
    boxes: bool = True
    sizes: bool = True
    adaptive: bool = True
    own_captions: bool = False
    each: Callable[[int], int] = lambda row: 1 + row % 3

    def save(self, folder: Path, pictures: Sequence[Picture]) -> tuple[list[Path], Path | None]:
        """Write pictures and captions; returns what to name as sources, and as captions."""
        captions = None if self.own_captions else write_captions(folder / "captions.json", pictures)
        return self.write(folder, pictures), captions

    def captions(self, pictures: Sequence[Picture]) -> list[str]:
        """The captions of some pictures; each begins with `a dog ID`."""
        return [f"a dog {p.image_id} {k}" for row, p in enumerate(pictures) for k in range(self.each(row))]


def b64(array: npt.NDArray[Any]) -> bytes:
    return base64.b64encode(np.ascontiguousarray(array).tobytes())


def tsv(path: Path, rows: Sequence[Sequence[object]], end: bytes = b"\r\n") -> Path:
    """Write rows; fields are bytes or anything that has a text."""
    fields = [[part if isinstance(part, bytes) else str(part).encode() for part in row] for row in rows]
    path.write_bytes(b"".join(b"\t".join(row) + end for row in fields))
    return path


def write_bua(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    rows = [[p.image_id, WIDTH, HEIGHT, len(p.features), b64(p.boxes), b64(p.features)] for p in pictures]
    return [tsv(folder / "detected.tsv", rows)]


def write_vilbert(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    rows = [
        [p.image_id, WIDTH, HEIGHT, len(p.features), b64(p.boxes), b64(p.features), b64(p.boxes[:, :1])]
        for p in pictures
    ]
    return [tsv(folder / "detected.tsv.0", rows, b"\n")]


def write_lxmert(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    rows = []
    for p in pictures:
        ids, sure = b64(np.zeros(len(p.features), np.int64)), b64(np.zeros(len(p.features), np.float32))
        rows.append([p.image_id, HEIGHT, WIDTH, ids, sure, ids, sure, len(p.features), b64(p.boxes), b64(p.features)])
    return [tsv(folder / "detected_obj36.tsv", rows, b"\n")]


def write_vinvl(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    """Meaningless keys: the pictures are named by imageid2idx.json; predictions come in another order."""
    features = tsv(
        folder / "features.tsv",
        [[f"k{row}", len(p.features), b64(p.features)] for row, p in enumerate(pictures)],
        b"\n",
    )
    starts, start = [], 0
    for line in features.read_bytes().splitlines(keepends=True):
        starts.append(start)
        start += len(line)
    (folder / "features.lineidx").write_text("".join(f"{start}\n" for start in starts))
    (folder / "imageid2idx.json").write_text(json.dumps({p.image_id: row for row, p in enumerate(pictures)}))
    contents = [
        {"image_w": WIDTH, "image_h": HEIGHT, "objects": [{"rect": box, "class": "dog"} for box in p.boxes.tolist()]}
        for p in pictures
    ]
    rows = [[f"k{row}", json.dumps(content)] for row, content in enumerate(contents)]
    tsv(folder / "predictions.tsv", rows[::-1], b"\n")
    return [features]


def write_bare_vinvl(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    tsv(folder / "features.tsv", [[p.image_id, len(p.features), b64(p.features)] for p in pictures], b"\n")
    return [folder]


def write_self_critical(folder: Path, pictures: Sequence[Picture], key: str = "feat") -> list[Path]:
    for name in ("cocobu_att", "cocobu_fc", "cocobu_box"):
        (folder / name).mkdir()
    for p in pictures:
        np.savez_compressed(folder / "cocobu_att" / p.image_id, **{key: p.features})
        np.save(folder / "cocobu_fc" / p.image_id, p.features[0])
        np.save(folder / "cocobu_box" / p.image_id, p.boxes)
    return [folder / "cocobu_att"]


def write_misnamed_self_critical(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    return write_self_critical(folder, pictures, "z")


def write_x_modaler(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    (folder / "features").mkdir()
    for p in pictures:
        np.savez(folder / "features" / p.image_id, feat=p.features)
    return [folder / "features"]


def write_milvlg(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    (folder / "features").mkdir()
    for p in pictures:
        info = np.array({"objects": p.boxes[:, 0], "anything": object}, dtype=object)
        np.savez_compressed(
            folder / "features" / p.image_id,
            x=p.features,
            bbox=p.boxes,
            num_bbox=len(p.features),
            image_h=HEIGHT,
            image_w=WIDTH,
            info=info,
        )
    return [folder / "features"]


def write_mmf(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    (folder / "features").mkdir()
    for p in pictures:
        info = {
            "bbox": p.boxes,
            "num_boxes": len(p.features),
            "image_width": WIDTH,
            "image_height": np.int64(HEIGHT),
            "objects": np.zeros(len(p.features), np.int64),
            "cls_prob": np.zeros((len(p.features), 3), np.float32),
        }
        np.save(folder / "features" / f"{p.image_id}.npy", p.features)
        np.save(folder / "features" / f"{p.image_id}_info.npy", info)  # type: ignore[arg-type]
    return [folder / "features"]


def write_npy(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    (folder / "features").mkdir()
    for p in pictures:
        np.save(folder / "features" / p.image_id, np.asfortranarray(p.features))
    return [folder / "features"]


def spatial(p: Picture) -> npt.NDArray[np.float32]:
    """x1 y1 x2 y2 w h, divided by width and height."""
    parts = p.boxes / np.array([WIDTH, HEIGHT, WIDTH, HEIGHT], np.float32)
    return np.concatenate([parts, parts[:, 2:] - parts[:, :2]], axis=1)


def imgid2idx(path: Path, pictures: Sequence[Picture]) -> None:
    path.write_bytes(pickle.dumps({int(p.image_id): row for row, p in enumerate(pictures)}, protocol=0))


def write_butd(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    with h5py.File(folder / "train36.hdf5", "w") as file:
        file["image_features"] = np.stack([p.features for p in pictures])
        file["image_bb"] = np.stack([p.boxes for p in pictures])
        file["spatial_features"] = np.stack([spatial(p) for p in pictures])
    imgid2idx(folder / "train36_imgid2idx.pkl", pictures)
    return [folder / "train36.hdf5"]


def write_ban(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    ends = np.cumsum([len(p.features) for p in pictures])
    with h5py.File(folder / "val.hdf5", "w") as file:
        features = np.concatenate([p.features for p in pictures])
        file.create_dataset(
            "image_features", data=features, chunks=(min(2, len(features)), features.shape[1]), compression="gzip"
        )
        file["image_bb"] = np.concatenate([p.boxes for p in pictures])
        file["spatial_features"] = np.concatenate([spatial(p) for p in pictures])
        file["pos_boxes"] = np.stack([ends - [len(p.features) for p in pictures], ends], axis=1).astype(np.int32)
    imgid2idx(folder / "val_imgid2idx.pkl", pictures)
    return [folder / "val.hdf5"]


def write_nocaps(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    with h5py.File(folder / "nocaps.h5", "w") as file:
        lists = h5py.vlen_dtype(np.float32)
        for name in ("features", "boxes"):
            rows = file.create_dataset(
                name, (len(pictures),), lists, chunks=(min(2, len(pictures)),) if name == "boxes" else None
            )
            for row, p in enumerate(pictures):
                rows[row] = getattr(p, name).reshape(-1)
        file["image_id"] = [int(p.image_id) for p in pictures]
        file["num_boxes"] = [len(p.features) for p in pictures]
        file["width"], file["height"] = [WIDTH] * len(pictures), [HEIGHT] * len(pictures)
        file.attrs["split"] = "val"
    return [folder / "nocaps.h5"]


def write_flat_nocaps(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    """All pictures have as many regions; ids are texts of variable length."""
    with h5py.File(folder / "nocaps.h5", "w") as file:
        file["features"] = np.stack([p.features.reshape(-1) for p in pictures])
        file["num_boxes"] = [len(p.features) for p in pictures]
        file.create_dataset("image_id", data=[p.image_id for p in pictures], dtype=h5py.string_dtype())
    return [folder / "nocaps.h5"]


def write_padded_nocaps(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    """Padded with zeros to one more than the largest number of regions."""
    most = 1 + max(len(p.features) for p in pictures)
    with h5py.File(folder / "nocaps.h5", "w") as file:
        for name in ("features", "boxes"):
            arrays = [getattr(p, name) for p in pictures]
            file[name] = np.stack([np.pad(array, ((0, most - len(array)), (0, 0))) for array in arrays])
        file["num_boxes"] = [len(p.features) for p in pictures]
        file["image_id"] = np.array([p.image_id.encode() for p in pictures])
    return [folder / "nocaps.h5"]


def write_m2(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    with h5py.File(folder / "coco_detections.hdf5", "w") as file:
        for p in pictures:
            file[f"{p.image_id}_features"], file[f"{p.image_id}_boxes"] = p.features, p.boxes
            file[f"{p.image_id}_cls_prob"] = np.zeros((len(p.features), 3), np.float32)
    return [folder / "coco_detections.hdf5"]


def write_vlp(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    """Each picture in the file of its last three digits; a file beside them has six columns: box, class, score."""
    sources = []
    with h5py.File(folder / "dets_bbox.h5", "w") as boxes:
        for p in pictures:
            path = folder / f"dets_feat{int(p.image_id) % 1000:03}.h5"
            with h5py.File(path, "w") as file:
                file[p.image_id] = p.features
            boxes[p.image_id] = np.pad(p.boxes, ((0, 0), (0, 2)))
            sources.append(path)
    return sources


def write_own(folder: Path, pictures: Sequence[Picture]) -> list[Path]:
    """Our own layout, with captions that others then replace."""
    size = (float(WIDTH), float(HEIGHT))
    records = [ImageRecord(p.image_id, p.features, "all", ["none"], boxes=p.boxes, size=size) for p in pictures]
    return [write_records(folder / "own.h5", records)]


DIALECTS = {
    "bottom-up-attention": Dialect(write_bua, "bua-tsv"),
    "ViLBERT": Dialect(write_vilbert, "bua-tsv"),
    "LXMERT": Dialect(write_lxmert, "bua-tsv"),
    "VinVL": Dialect(write_vinvl, "vinvl-tsv"),
    "VinVL features only": Dialect(write_bare_vinvl, "vinvl-tsv", boxes=False, sizes=False),
    "self-critical": Dialect(write_self_critical, "per-image", sizes=False),
    "self-critical, z": Dialect(write_misnamed_self_critical, "per-image", sizes=False),
    "X-modaler": Dialect(write_x_modaler, "per-image", boxes=False, sizes=False),
    "MILVLG": Dialect(write_milvlg, "per-image"),
    "MMF": Dialect(write_mmf, "per-image"),
    "npy": Dialect(write_npy, "per-image", boxes=False, sizes=False),
    "BUTD": Dialect(write_butd, "butd-hdf5", adaptive=False),
    "BAN": Dialect(write_ban, "butd-hdf5"),
    "nocaps": Dialect(write_nocaps, "nocaps-hdf5"),
    "nocaps, flat": Dialect(write_flat_nocaps, "nocaps-hdf5", boxes=False, sizes=False, adaptive=False),
    "nocaps, padded": Dialect(write_padded_nocaps, "nocaps-hdf5", sizes=False),
    "M2": Dialect(write_m2, "picture-hdf5", sizes=False),
    "VLP": Dialect(write_vlp, "picture-hdf5", sizes=False),
    "own": Dialect(write_own, "selfalign"),
}


def write_captions(path: Path, pictures: Sequence[Picture], splits: Sequence[str] = ("train", "dev", "test")) -> Path:
    """The plain JSON list: pictures go round the splits, each with one caption more than its number modulo 3."""
    entries = [
        {
            "image": f"{p.image_id}.jpg",
            "split": splits[row % len(splits)],
            "captions": [f"a dog {p.image_id} {k}" for k in range(1 + row % 3)],
        }
        for row, p in enumerate(pictures)
    ]
    path.write_text(json.dumps(entries))
    return path
