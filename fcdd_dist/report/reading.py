"""Files of a folder, read for a report: what is there must be whole, or reading it raises Damaged."""

from __future__ import annotations

from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ..errors import Damaged
from ..experiment import explain
from ..storage import Store

_PNG = b"\x89PNG\r\n\x1a\n"
Model = TypeVar("Model", bound=BaseModel)


class Read(BaseModel):
    """A file as far as a report needs it; finite numbers, other keys allowed."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def parsed(model: type[Model], where: str, data: bytes) -> Model:
    """``data`` as JSON. Raises Damaged that names ``where``, the path and what is wrong with it."""
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        raise Damaged(f"{where} is damaged: {explain(error, model)}") from None


def png(folder: Store, key: str) -> bytes:
    """The bytes of a picture. Raises Damaged where it is no PNG file."""
    data = folder.read(key)
    if not data.startswith(_PNG):
        raise Damaged(f"{folder.url}/{key} is no PNG file")
    return data
