"""What every part of training.json is made of: strict sections, and bounded numbers."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
PositiveInt = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0.0)]
NonNegativeFloat = Annotated[float, Field(ge=0.0)]
SimilarityName = Literal["cosine", "dot", "euclidean", "manhattan"]
"""How vectors are compared: as sentence-transformers names it; distances count as minus them."""
LARGEST = 2**63


class Section(BaseModel):
    """A part of training.json: unknown keys and wrong types are errors, and nothing changes."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _can_be_counted(cls, fields: Any) -> Any:  # noqa: ANN401 - whatever a person wrote
        """No number is larger than those that a computer's arrays are sized and indexed by."""
        for key, value in fields.items() if isinstance(fields, dict) else ():
            for one in value if isinstance(value, list) else (value,):
                if isinstance(one, int) and abs(one) >= LARGEST:
                    raise ValueError(f"{key}: {str(one)[:20]}... is too large: at most 2^63")
        return fields
