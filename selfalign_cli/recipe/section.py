"""What the sections of a recipe have in common: their strictness, and the kinds of values of their keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

LARGEST = 1_000_000_000
"""Upper bound of every whole number: anything beyond is a slip, and would overflow somewhere far from the recipe."""


class Section(BaseModel):
    """Strict, frozen, and closed: unknown keys are faults, text is not a number, `yes` is not a word."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _or_fraction(least: int) -> WithJsonSchema:
    """What an editor accepts: whole epochs, or a fraction, which is a whole number when the recipe is validated."""
    whole = {"type": "integer", "minimum": least, "maximum": LARGEST}
    return WithJsonSchema({"anyOf": [whole, {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}]})


Text = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f]*$")]
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Epochs = Annotated[int, Field(ge=1, le=LARGEST), _or_fraction(1)]
FirstEpochs = Annotated[int, Field(ge=0, le=LARGEST), _or_fraction(0)]
TokenCount = Annotated[int, Field(ge=3, le=LARGEST)]
ChunkSize = Annotated[int, Field(ge=2, le=LARGEST)]
Rate = Annotated[float, Field(gt=0)]
StepSize = Annotated[float, Field(gt=0, le=1e30)]  # torch's Adam breaks down where float32 ends
Factor = Annotated[float, Field(gt=0, le=1)]
Weight = Annotated[float, Field(ge=0)]
Entropy = Annotated[float, Field(ge=0.02)]  # K·N·exp(1 / epsilon) is then below float32's largest number
Probability = Annotated[float, Field(ge=0, lt=1)]
