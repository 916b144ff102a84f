"""Errors as this dialect tells them: an HTTP status and a number from 5500 on."""

from typing import NamedTuple

from osscore import errors
from osscore.errors import StoreError


class Told(NamedTuple):
    """What a client sees of an error."""

    http_status: int
    code: int


INTERNAL = 5500
TOO_FEW_NODES = 5502
NOT_UNDERSTOOD = 5521
TOKEN_LENGTH = 5523
NO_FILE_NAME = 5524
BAD_TOKEN = 5531
BAD_SYSTEM_TOKEN = 5533
BAD_FILE_PART = 5541
OTHER_CONTENT = 5543
UNREADABLE = 5544
CHUNK = 5545
ENDED_EARLY = 5546
NO_SUCH_FILE = 5547
DOWNLOAD_FAILED = 5549

TABLE: dict[type[StoreError], Told] = {
    StoreError: Told(500, INTERNAL),
    # The caller must change the request. Handlers say more where they know more
    # (`TokenAnswers.codes`).
    errors.RequestError: Told(400, NOT_UNDERSTOOD),
    errors.IncompleteBody: Told(400, ENDED_EARLY),
    errors.BadDigest: Told(422, OTHER_CONTENT),
    errors.ContentMismatch: Told(422, OTHER_CONTENT),
    errors.EntityTooLarge: Told(413, BAD_FILE_PART),
    errors.LengthRequired: Told(411, NOT_UNDERSTOOD),
    errors.MethodNotAllowed: Told(405, NOT_UNDERSTOOD),
    errors.Conflict: Told(409, CHUNK),
    errors.NotFound: Told(404, NO_SUCH_FILE),
    errors.PreconditionFailed: Told(412, DOWNLOAD_FAILED),
    errors.InvalidRange: Told(416, DOWNLOAD_FAILED),
    # Who may. An access key stands in for the system token.
    errors.Unauthenticated: Told(401, BAD_SYSTEM_TOKEN),
    errors.AccessDenied: Told(403, BAD_SYSTEM_TOKEN),
    errors.QuotaExceeded: Told(403, NOT_UNDERSTOOD),
    errors.MalformedToken: Told(401, BAD_TOKEN),
    errors.ForgedToken: Told(401, BAD_TOKEN),
    errors.ExpiredToken: Told(401, BAD_TOKEN),
    errors.RevokedToken: Told(401, BAD_TOKEN),
    errors.WrongTokenType: Told(403, BAD_TOKEN),
    # Not now.
    errors.Unavailable: Told(503, INTERNAL),
    errors.NotLeader: Told(503, INTERNAL),
    errors.TooFewNodes: Told(503, TOO_FEW_NODES),
    errors.QuorumLost: Told(503, TOO_FEW_NODES),
    errors.DiskFull: Told(507, TOO_FEW_NODES),
    errors.StripeUnreadable: Told(503, UNREADABLE),
    errors.Corrupt: Told(500, UNREADABLE),
}
"""By class; an error without a row is told as the nearest class above it that has one."""


def told(error: StoreError) -> Told:
    """The row of an error."""
    return next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
