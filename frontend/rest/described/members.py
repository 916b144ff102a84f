"""`/v1/meta/members` and `/v1/meta/lead`."""

from typing import Final

from frontend.openapi.words import (
    Node,
    all_answers,
    answers_json,
    fails,
    in_path,
    operation,
    path,
    sends_json,
)
from frontend.rest.described.answers import MemberShown, MembersShown
from frontend.rest.members import Addition, Transfer

_SHOWN: Final = MembersShown(
    leader="meta-1",
    term=3,
    applied_index=1200,
    members_index=1100,
    metanodes=[
        MemberShown(
            id=name,
            raft=f"10.0.0.{number}:9102",
            url=f"http://10.0.0.{number}:9101",
            state=state,
            entries_behind=0,
            silent_ms=0 if state == "leader" else 40,
        )
        for number, (name, state) in enumerate(
            [("meta-1", "leader"), ("meta-2", "member"), ("meta-4", "joining")], 1
        )
    ],
)
_ID: Final = in_path("id", str, "The metanode's id.", example="meta-2")


def member_paths() -> dict[str, Node]:
    """Which metanodes there are."""
    return {
        "/v1/meta/members": path(get=_list(), post=_add()),
        "/v1/meta/members/{id}": path(_ID, delete=_remove()),
        "/v1/meta/lead": path(post=_lead()),
    }


def _list() -> Node:
    return operation(
        "listMetanodes",
        "cluster",
        "The metanodes as their leader sees them",
        all_answers(
            {"200": answers_json("Those that count and those that join.", MembersShown, _SHOWN)},
            fails(401, 403, 500, 503),
        ),
    )


def _add() -> Node:
    return operation(
        "addMetanode",
        "cluster",
        "Count a metanode that has joined, perhaps in the place of another",
        all_answers(
            {"200": answers_json("It counts.", MembersShown, _SHOWN)},
            fails(400, 401, 403, 404, 409, 413, 500, 503),
        ),
        says="It was started with the cluster secret and the address of any metanode. 409 says"
        " what speaks against it: a change that is open, an id that counts, too few that would"
        " follow closely. 503 while it has not caught up.",
        body=sends_json("Which.", Addition, Addition(id="meta-4", replaces="meta-2")),
    )


def _remove() -> Node:
    return operation(
        "removeMetanode",
        "cluster",
        "Count a metanode no more",
        all_answers(
            {"200": answers_json("It counts no more.", MembersShown, _SHOWN)},
            fails(400, 401, 403, 404, 409, 500, 503),
        ),
        says="409 if those left would be no majority. A leader gives its place away first.",
    )


def _lead() -> Node:
    return operation(
        "transferLeader",
        "cluster",
        "Let another metanode lead",
        all_answers(
            {"200": answers_json("It leads.", MembersShown, _SHOWN)},
            fails(400, 401, 403, 404, 409, 413, 500, 503),
        ),
        body=sends_json("To whom; optional.", Transfer, Transfer(to="meta-2"), required=False),
    )
