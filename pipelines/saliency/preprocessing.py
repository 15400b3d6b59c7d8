"""Settings of a saliency network's input and output, read from the JSON file beside it."""

import json
from typing import Annotated

from pydantic import Field, StrictBool, ValidationError, field_validator

from model.errors import ConfigurationError
from pipelines.contracts.yaml_reader import Number, StrictModel, Whole, problems

#: Networks above this side would need more memory for one photo than a worker has.
MAX_SIDE = 4096


_Sides = Annotated[Whole, Field(ge=1, le=MAX_SIDE)]
_Deviation = Annotated[Number, Field(gt=0)]


class Preprocessing(StrictModel):
    """Settings of one network; the JSON file's keys are these fields."""

    #: Height and width that photos are stretched to; in JSON also one number. None: the size that the network's file
    #: fixes, else DEFAULT_SIDE. Set it if the network was trained at another size (ISNet and BiRefNet: 1024).
    size: tuple[_Sides, _Sides] | None = None
    #: Subtracted from RGB in [0, 1]. ImageNet's by default, which U2-Net, TRACER and BiRefNet use; ISNet: 0.5 each.
    mean: tuple[Number, Number, Number] = (0.485, 0.456, 0.406)
    #: Divisor of the difference. ISNet: 1 each.
    std: tuple[_Deviation, _Deviation, _Deviation] = (0.229, 0.224, 0.225)
    #: Index of the output that is the mask, from 0; -1 is the last. Networks with side outputs differ here.
    output: Whole = 0
    #: True: the output is logits. None: decide for each photo; values clearly outside [0, 1] are logits.
    sigmoid: StrictBool | None = None

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, size: object) -> object:
        """Use one number for both sides."""
        return (size, size) if isinstance(size, int) else size

    def with_fixed(self, size: tuple[int, int] | None) -> "Preprocessing":
        """Return the settings with the size that the file fixes. Raises ConfigurationError if theirs differs."""
        if size is not None and self.size not in (None, size):
            raise ConfigurationError(
                f"the network takes {size[0]}x{size[1]} (height x width) only, the JSON file beside it says "
                f"{self.size}; remove `size` there"
            )
        return self.model_copy(update={"size": size or self.size})


def read_preprocessing(text: bytes) -> Preprocessing:
    """Return the settings in a JSON object. Raises ConfigurationError that names every wrong key."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"not a JSON text: {error}") from error
    try:
        return Preprocessing.model_validate(content)
    except ValidationError as error:
        errors = [(".".join(map(str, keys)), problem) for keys, problem in problems(error, Preprocessing)]
        raise ConfigurationError(
            "; ".join(f"{key or 'the file'}: {problem}" for key, problem in errors)
        ) from error
