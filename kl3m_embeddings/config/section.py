"""What every part of training.json is made of: strict sections, and bounded numbers."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NonNegativeFloat = Annotated[float, Field(ge=0.0)]
SimilarityName = Literal["cosine", "dot", "euclidean", "manhattan"]
"""How vectors are compared: as sentence-transformers names it; distances count as minus them."""


class Section(BaseModel):
    """A part of training.json: unknown keys and wrong types are errors, and nothing changes."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
