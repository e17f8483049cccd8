"""The shape of everything that is said over HTTP: camelCase, in one envelope."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

Payload = TypeVar("Payload")


class Wire(BaseModel):
    """camelCase JSON."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


class Request(Wire):
    """A request: fields that nobody knows are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ErrorDetail(Wire):
    """A field and what is wrong with it."""

    field: str
    message: str


class ErrorBody(Wire):
    """The machine-readable part of a failure."""

    code: str
    details: list[ErrorDetail] = []


class Failure(Wire):
    """The envelope of everything that went wrong."""

    success: Literal[False] = False
    message: str
    error: ErrorBody


class Success(Wire, Generic[Payload]):
    """The envelope of everything that went well."""

    success: Literal[True] = True
    message: str = Field(examples=["Done"])
    data: Payload
