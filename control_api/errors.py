# ruff: noqa: N818  # a class is named by its cause, because its name is the code that clients read
"""Everything that can go wrong with a name; the docstring of a class is the sentence that the user reads.

MusterError
├── BadSettings
├── AlreadyRunning
├── DatabaseUnavailable
├── SchemaInUse
├── Overloaded
├── ClusterUnavailable
├── ApiRefused
├── Unauthorized
│   ├── InvalidRegistrationToken
│   ├── InvalidCredential
│   └── InvalidLogin
├── Forbidden
│   ├── NotApproved
│   ├── ForeignForm
│   └── NotPrivate
├── TooManyAttempts
├── TooManyStreams
├── InvalidRequest
├── BodyTooLarge
├── InternalError
├── NotFound
│   ├── WorkerNotFound
│   ├── EnrolmentTokenNotFound
│   ├── UserNotFound
│   ├── ApiKeyNotFound
│   ├── WebhookNotFound
│   └── DeliveryNotFound
├── WorkerRemoved
└── Conflict
    ├── HostnameTaken
    ├── NameTaken
    ├── MachineIdTaken
    ├── EnrolmentTokenNameTaken
    ├── UsernameTaken
    ├── KeyNameTaken
    ├── LastAdmin
    ├── TooManyWebhooks
    └── HeartbeatOutOfOrder
"""


class MusterError(Exception):
    """The control API could not do that."""

    def __init__(self, message: str = "", *, details: tuple[tuple[str, str], ...] = ()) -> None:
        """Take the docstring as the message, unless a more exact sentence is given.

        details: pairs of (field, what is wrong with it), for requests that name fields.
        """
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.details = details


def code(kind: type[MusterError]) -> str:
    """Return the code of an error: its class's name in capitals, `HOSTNAME_TAKEN`."""
    return "".join(f"_{letter}" if letter.isupper() else letter.upper() for letter in kind.__name__)[1:]


class InternalError(MusterError):
    """Something failed inside the control API; its log says what."""


class BadSettings(MusterError):
    """The settings are not usable."""


class AlreadyRunning(MusterError):
    """Another control API uses this SQLite file; stop it, or set DATABASE_URL to a PostgreSQL database."""


class DatabaseUnavailable(MusterError):
    """The database does not answer; try again in a few seconds."""


class SchemaInUse(MusterError):
    """A long transaction holds a table that must change; nothing was changed, try again when it has ended."""


class Overloaded(MusterError):
    """More requests are waiting than the database takes; try again in a few seconds."""


class ClusterUnavailable(MusterError):
    """The cluster does not answer."""


class ApiRefused(MusterError):
    """The control API refused the request."""


class Unauthorized(MusterError):
    """Authenticate with a bearer token that is valid here."""


class InvalidRegistrationToken(Unauthorized):
    """The registration token is not valid."""

    def __init__(self, *, cause: str = "unknown", token: str = "") -> None:
        """Note for the audit log what is wrong with which token; whoever asked is told neither."""
        super().__init__()
        self.cause = cause
        self.token = token


class InvalidCredential(Unauthorized):
    """The worker's credential is not valid; register again."""


class InvalidLogin(Unauthorized):
    """The username or the password is wrong."""


class Forbidden(MusterError):
    """Your role does not allow this."""


class NotApproved(Forbidden):
    """An operator must approve this worker first."""


class ForeignForm(Forbidden):
    """This form was not sent by a page of this service; open the page again and repeat it there."""


class NotPrivate(Forbidden):
    """Log in over HTTPS: on a plain connection from another machine your password could be read on its way."""


class TooManyStreams(MusterError):
    """Too many pages are being watched at once; close some, or reload this one in a minute."""


class TooManyAttempts(MusterError):
    """Too many attempts; wait as long as Retry-After says."""

    def __init__(self, message: str = "", *, retry_after: int = 60) -> None:
        """Take the seconds after which it is worth to try again."""
        super().__init__(message or f"Too many attempts; try again in {retry_after} s.")
        self.retry_after = retry_after


class InvalidRequest(MusterError):
    """The request is not valid."""


class BodyTooLarge(MusterError):
    """The body of the request is larger than 64 KiB."""


class NotFound(MusterError):
    """There is no such thing."""


class UserNotFound(NotFound):
    """There is no user with this id."""


class ApiKeyNotFound(NotFound):
    """There is no valid API key with this id."""


class WorkerNotFound(NotFound):
    """There is no worker with this id."""


class EnrolmentTokenNotFound(NotFound):
    """There is no enrolment token with this id."""


class WebhookNotFound(NotFound):
    """There is no webhook with this id."""


class DeliveryNotFound(NotFound):
    """There is no delivery with this id for this webhook."""


class WorkerRemoved(MusterError):
    """This worker was removed by an operator; register again to come back."""


class Conflict(MusterError):
    """The request contradicts what is stored."""


class HostnameTaken(Conflict):
    """Another machine is registered under this hostname; rename this one or remove the other."""


class NameTaken(Conflict):
    """Another worker has this name; choose another one, or rename or remove the other."""


class MachineIdTaken(Conflict):
    """Another worker has this machine id; give the cloned machine one of its own."""


class EnrolmentTokenNameTaken(Conflict):
    """Another enrolment token has this name; choose another one, or revoke the other."""


class UsernameTaken(Conflict):
    """There is a user of this name already."""


class KeyNameTaken(Conflict):
    """There is a valid API key of this name already."""


class LastAdmin(Conflict):
    """This is the last administrator who can log in; make another one first."""


class TooManyWebhooks(Conflict):
    """There are as many webhooks as this service serves; remove one first."""


class HeartbeatOutOfOrder(Conflict):
    """A later heartbeat of this worker is already stored: this is a replay, or a clone of the machine."""
