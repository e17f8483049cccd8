"""The shape of everything that is said over HTTP: camelCase, in one envelope."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Generic, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

Payload = TypeVar("Payload")


def written(moment: object) -> object:
    """Refuse a number: pydantic takes one for seconds or milliseconds since 1970, and OpenAPI does not know it."""
    if isinstance(moment, int | float) or (isinstance(moment, str) and ":" not in moment):
        msg = "is not a time as in RFC 3339: 2030-12-31T18:00:00Z"
        raise ValueError(msg)
    return moment


def storable(moment: datetime) -> datetime:
    """Refuse what no database takes."""
    if not 1970 <= moment.year < 9999:
        msg = "is not between 1970 and 9998"
        raise ValueError(msg)
    return moment


# A moment that a request names, with its zone: RFC 3339.
Moment = Annotated[AwareDatetime, BeforeValidator(written), AfterValidator(storable)]


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
