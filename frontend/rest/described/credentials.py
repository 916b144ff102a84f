"""Access keys, tokens and what signs them, and the audit."""

from typing import Annotated, Final

from msgspec import Meta

from frontend.openapi.shapes import EXAMPLE_TIME, HELLO_HEX, Count, Shape, Time
from frontend.openapi.words import (
    Node,
    all_answers,
    answers_json,
    answers_nothing,
    fails,
    gives,
    in_path,
    in_query,
    leading_to,
    operation,
    path,
    sends_json,
)
from frontend.rest.described.listings import AFTER, LIMIT
from frontend.rest.keys import KeyChange, KeyRotation, NewKey
from frontend.rest.tokens_admin import NewSystemToken, NewToken, SigningKeyRotation

Scope = Annotated[str, Meta(description="upload, download, info, delete or admin")]


class Key(Shape, frozen=True):
    """An access key without its secret; empty lists: no limit."""

    access_key: str
    scopes: list[Scope]
    buckets: list[str]
    prefixes: list[str]
    expires_at: Time | None
    note: str
    disabled: bool
    created_at: Time
    changed_at: Time
    previous_secret_until: Annotated[
        Time | None, Meta(description="Until when the secret before the last rotation works.")
    ]


class KeyWithSecret(Key, frozen=True):
    """An access key and its secret, which is shown here only."""

    secret_key: str


class KeysPage(Shape, frozen=True):
    """A page of keys, by id."""

    keys: list[Key]
    next: str | None


class TokenMade(Shape, frozen=True):
    """A token; `jti` is what to revoke it by."""

    token: str
    jti: str
    expires_at: Time


class SigningKey(Shape, frozen=True):
    """A key that tokens are signed with; null: it is the active one."""

    kid: str
    created_at: Time
    retires_at: Time | None


class SigningKeys(Shape, frozen=True):
    """The keys whose tokens are good."""

    keys: list[SigningKey]


class SigningKeyMade(Shape, frozen=True):
    """The new active key."""

    kid: str


class SystemTokenSet(Shape, frozen=True, omit_defaults=True):
    """`token`: where the request named none."""

    status: str
    token: str = ""


class AuditEntry(Shape, frozen=True):
    """One use of an administrative right; `outcome` is `done` or the code of the refusal."""

    number: Count
    at: Time
    actor: str
    action: str
    target: str
    detail: str
    request_id: str
    source: str
    outcome: str


class AuditPage(Shape, frozen=True):
    """A page of the audit; `next` is the `after` of the next one."""

    entries: list[AuditEntry]
    next: int | None


_KEY: Final = {
    "access_key": "BACKUP",
    "scopes": ["upload"],
    "buckets": ["backups"],
    "prefixes": [],
    "expires_at": None,
    "note": "nightly backup",
    "disabled": False,
    "created_at": EXAMPLE_TIME,
    "changed_at": EXAMPLE_TIME,
    "previous_secret_until": None,
}
_WITH_SECRET: Final = {**_KEY, "secret_key": "a-secret-that-is-shown-once"}
_ID: Final = in_path("access_key", str, "The key's id.", example="BACKUP")
_NEVER_KEPT: Final = {"Cache-Control": gives(str, "`no-store`: the answer holds a secret.")}
_UNAVAILABLE: Final = (400, 401, 403, 500, 503)
_NAMED: Final = (*_UNAVAILABLE, 404, 409)


def credential_paths() -> dict[str, Node]:
    """What only keys with `admin` and no limit may, but for making tokens."""
    return {
        "/v1/keys": path(get=_list_keys(), post=_make_key()),
        "/v1/keys/{access_key}": path(
            _ID, get=_show_key(), patch=_change_key(), delete=_revoke_key()
        ),
        "/v1/keys/{access_key}/rotate": path(_ID, post=_rotate_key()),
        "/v1/tokens": path(post=_make_token()),
        "/v1/tokens/{jti}": path(
            in_path("jti", str, "The id of a token or share."), delete=_revoke_token()
        ),
        "/v1/signing-keys": path(get=_list_signing_keys()),
        "/v1/signing-keys/rotate": path(post=_rotate_signing_key()),
        "/v1/system-token": path(put=_set_system_token()),
        "/v1/audit": path(get=_audit()),
    }


def _list_keys() -> Node:
    return operation(
        "listKeys",
        "credentials",
        "All access keys, by id",
        all_answers(
            {"200": answers_json("A page.", KeysPage, {"keys": [_KEY], "next": None})},
            fails(*_UNAVAILABLE),
        ),
        parameters=[AFTER, LIMIT],
    )


def _make_key() -> Node:
    headers = {"Location": gives(str, "`/v1/keys/ID`."), **_NEVER_KEPT}
    return operation(
        "makeKey",
        "credentials",
        "Make an access key",
        all_answers(
            {"201": _usable(answers_json("Made.", KeyWithSecret, _WITH_SECRET, headers))},
            fails(*_UNAVAILABLE, 409, 413),
        ),
        body=sends_json(
            "What it may. What is left out is made up, or not limited.",
            NewKey,
            {"scopes": ["upload"], "buckets": ["backups"], "note": "nightly backup"},
        ),
    )


def _usable(made: Node) -> Node:
    for following in ("showKey", "changeKey", "rotateKey", "revokeKey"):
        made = leading_to(made, following, access_key="$response.body#/access_key")
    return made


def _show_key() -> Node:
    return operation(
        "showKey",
        "credentials",
        "What an access key may",
        all_answers({"200": answers_json("It.", Key, _KEY)}, fails(*_UNAVAILABLE, 404)),
    )


def _change_key() -> Node:
    return operation(
        "changeKey",
        "credentials",
        "Change what an access key may, at once and everywhere",
        all_answers({"200": answers_json("As it is now.", Key, _KEY)}, fails(*_NAMED, 413)),
        body=sends_json(
            "What changes; `expires_at` null: never.",
            KeyChange,
            {"disabled": True},
            required=False,
        ),
    )


def _revoke_key() -> Node:
    return operation(
        "revokeKey",
        "credentials",
        "Revoke an access key and the links it made",
        all_answers({"204": answers_nothing("Refused from here on.")}, fails(*_NAMED)),
    )


def _rotate_key() -> Node:
    return operation(
        "rotateKey",
        "credentials",
        "Give an access key a new secret",
        all_answers(
            {"200": answers_json("The new one.", KeyWithSecret, _WITH_SECRET, _NEVER_KEPT)},
            fails(*_NAMED, 413),
        ),
        body=sends_json(
            "How long the former secret works on, in seconds.",
            KeyRotation,
            {"overlap_s": 3600},
            required=False,
        ),
    )


def _make_token() -> Node:
    made = TokenMade(token="eyJ0b2tlbl90eXBl...", jti="Zb3cT0kX", expires_at=EXAMPLE_TIME)
    shown = answers_json("Made.", TokenMade, made, _NEVER_KEPT)
    return operation(
        "makeToken",
        "credentials",
        "Make a token that uploads or downloads one content",
        all_answers(
            {"201": leading_to(shown, "revokeToken", jti="$response.body#/jti")},
            fails(*_UNAVAILABLE, 413),
        ),
        says="Needs the same right in bucket `files`. `type`: upload, download or both.",
        body=sends_json(
            "For what.", NewToken, {"type": "upload", "hash": HELLO_HEX, "ttl_s": 3600}
        ),
    )


def _revoke_token() -> Node:
    return operation(
        "revokeToken",
        "credentials",
        "Revoke one token or share",
        all_answers({"204": answers_nothing("Refused from here on.")}, fails(*_UNAVAILABLE)),
    )


def _list_signing_keys() -> Node:
    key = SigningKey(kid="k1", created_at=EXAMPLE_TIME, retires_at=None)
    return operation(
        "listSigningKeys",
        "credentials",
        "The keys whose tokens are good, the active one first",
        all_answers(
            {"200": answers_json("All.", SigningKeys, SigningKeys(keys=[key]))},
            fails(*_UNAVAILABLE),
        ),
    )


def _rotate_signing_key() -> Node:
    return operation(
        "rotateSigningKey",
        "credentials",
        "Sign with a new key",
        all_answers(
            {"200": answers_json("Its id.", SigningKeyMade, SigningKeyMade(kid="k2"))},
            fails(*_UNAVAILABLE, 409, 413),
        ),
        body=sends_json(
            "How long tokens of former keys work on, in seconds.",
            SigningKeyRotation,
            {"overlap_s": 3600},
            required=False,
        ),
    )


def _set_system_token() -> Node:
    done = SystemTokenSet(status="success")
    return operation(
        "setSystemToken",
        "credentials",
        "Replace the system token; the former one is refused from here on",
        all_answers(
            {"200": answers_json("Set.", SystemTokenSet, done, _NEVER_KEPT)},
            fails(*_UNAVAILABLE, 413),
        ),
        body=sends_json(
            "Empty: one is made up.",
            NewSystemToken,
            {"token": "a-token-of-twenty-or-more"},
            required=False,
        ),
    )


def _audit() -> Node:
    entry = AuditEntry(
        number=17,
        at=EXAMPLE_TIME,
        actor="root",
        action="key.create",
        target="BACKUP",
        detail='{"scopes":["upload"]}',
        request_id="5f0c1a2b",
        source="10.0.0.9",
        outcome="done",
    )
    return operation(
        "readAudit",
        "credentials",
        "Who used an administrative right",
        all_answers(
            {"200": answers_json("A page.", AuditPage, AuditPage(entries=[entry], next=None))},
            fails(*_UNAVAILABLE),
        ),
        parameters=[
            in_query("after", Annotated[int, Meta(ge=0)], "`next` of the page before."),
            LIMIT,
            in_query("actor", str, "Only of this access key, or `system`."),
            in_query("action", str, "Only this action, or this kind.", example="key"),
            in_query("newest", str, "`1`: newest first.", example="1"),
        ],
    )
