"""The README.txt of a scene folder."""

from __future__ import annotations

from selfalign_cli.demo.scenes.regions import FEATURE_WIDTH, REGIONS
from selfalign_cli.demo.scenes.world import BACKGROUNDS, CANVAS, COLOURS, GROUP_WEIGHTS, SHAPES, SIZES

TEXT = """\
Scenes: a made-up data set for image-text retrieval
===================================================

Made by: selfalign make-scenes OUT --images {train_images} --seed {seed}
Pictures: {train:,} train, {dev:,} dev, {test:,} test; nothing here was photographed or collected, and nobody is shown.

What is shown
  {canvas} x {canvas} pixels; three to five objects of {colours} colours, {shapes} shapes and {sizes} sizes
  on one of {backgrounds} backgrounds:
    {colour_names}
    {shape_names}; {size_names}; {background_names}
  Every surface has its own tint, and the whole picture grain. Objects may touch, and hide a little of each other.

  Half of the pictures of each split stand in groups of two or three with the same colours, shapes, sizes and
  background, that is, the same words. They differ in which object has which colour ({colour}% of the groups), shape
  ({shape}%) or size ({size}%), or the same objects stand the other way round ({turn}%). No two groups and no two
  splits share such a bag of attributes, so no scene is in two splits.

What is said
  Five captions a picture, and a sixth for some (in the JSON only):
    sentence   = [there is] OBJECT and OBJECT | OBJECT, OBJECT and OBJECT
               | OBJECT and OBJECT on a BACKGROUND background | a BACKGROUND picture of OBJECT and OBJECT
               | OBJECT RELATION OBJECT | OBJECT RELATION OBJECT and RELATION OBJECT | OBJECT bigger than OBJECT
    OBJECT     = a [SIZE] COLOUR SHAPE | a [SIZE] SHAPE that is COLOUR
    RELATION   = left of, right of, above, below, near (and other words for them)
  Each is true of its picture. None is true of a picture of the same group, but for two captions of five where the
  same objects stand the other way round. Some are true of other pictures as well, as captions are.
  Left, right, above and below: the centres are 6 pixels or more apart that way, and at least as far as the other way.
  Near: no more than 6 pixels between the circles around the objects.

Files
  images/scene_NNNNNN.png      the pictures; NNNNNN is the picture's number
  SPLIT_ims.npy                (N, {regions}, {width}) float32 region features
  SPLIT_boxes.npy              (N, {regions}, 4) float32 x1, y1, x2, y2 in pixels
  SPLIT_img_sizes.npy          (N, 2) float32 width, height
  SPLIT_caps.txt               captions, UTF-8, five lines a picture
  SPLIT_ids.txt                picture numbers, one line a picture
  dataset_scenes.json          all captions as in Karpathy's files; the dev split is called val there

Regions
  {regions} a picture: each object, one or two of them again, two pairs of neighbours, and random pieces of the
  picture, with loose uneven margins, in order of falling contrast. The {width} numbers of a region come from the
  pixels inside its box alone: averaged to 8 x 8 cells of 3 colours, through one fixed random layer with a ReLU.
"""


def readme(seed: int, train_images: int, images: dict[str, int]) -> str:
    """The text for a data set with this seed and these pictures per split."""
    return TEXT.format(
        seed=seed,
        train_images=train_images,
        **images,
        **dict(GROUP_WEIGHTS),
        canvas=CANVAS,
        colours=len(COLOURS),
        shapes=len(SHAPES),
        sizes=len(SIZES),
        backgrounds=len(BACKGROUNDS),
        colour_names=", ".join(COLOURS),
        shape_names=", ".join(SHAPES),
        size_names=", ".join(SIZES),
        background_names=", ".join(BACKGROUNDS),
        regions=REGIONS,
        width=FEATURE_WIDTH,
    )
