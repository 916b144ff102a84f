"""A bucket's profile over HTTP, and what is told of the encoding anew."""

import dataclasses
from pathlib import Path

from raftmeta.commands import Done
from raftmeta.healing import HealingState, ReencodeProgress, ReencodingState
from raftmeta.reencoding import FinishReencode, ListReencodes, ReencodesListed
from tests.frontend.harness import BUCKET
from tests.frontend.rest.serving import Api, run

STATUS = "/v1/maintenance/reencode"


def led(api: Api, *progress: ReencodeProgress) -> None:
    """A leader that tells this."""
    state = ReencodingState(progress=progress, tasks=3, bytes_per_s=100.0)
    api.world.meta_rpc.soft = dataclasses.replace(
        api.world.meta_rpc.soft, healing=HealingState(reencoding=state)
    )


async def the_job(api: Api) -> int:
    listed = await api.world.meta.query(ListReencodes(), ReencodesListed)
    return listed.jobs[0].job


def test_what_cannot_be_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        led(api)
        for path, status, code in (
            (f"/buckets/{BUCKET}?profile=4-2&reencode=1", 400, "InvalidArgument"),
            (f"/buckets/{BUCKET}?profile=17%2B2", 400, "InvalidArgument"),
            (f"/buckets/{BUCKET}?reencode=1", 400, "InvalidArgument"),
            (f"/buckets/{BUCKET}?profile=14%2B1&reencode=1", 409, "Conflict"),
            ("/buckets/nowhere?profile=2%2B1", 404, "NoSuchBucket"),
        ):
            answer = await api("PATCH", path)
            assert (answer.status, answer.json["error"]["code"]) == (status, code), path
        assert (
            "needs 15 nodes at least"
            in (await api("PATCH", f"/buckets/{BUCKET}?profile=14%2B1")).json["error"]["message"]
        )
        assert (await api("GET", f"/buckets/{BUCKET}")).json["profile"] is None
        assert (await api("GET", STATUS)).json["jobs"] == []
        answer = await api("POST", f"{STATUS}/cancel?bucket={BUCKET}")
        assert (answer.status, answer.json["error"]["code"]) == (409, "Conflict")
        assert (await api("POST", f"{STATUS}/cancel")).status == 400
        assert (await api("GET", f"{STATUS}?bucket={BUCKET}")).status == 404

    run(tmp_path, story)


def test_without_reencode_only_new_writes_take_the_profile(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        led(api)
        path = f"/buckets/{BUCKET}/objects"
        await api("PUT", f"{path}/old", data=bytes(range(256)) * 40)
        answer = await api("PATCH", f"/buckets/{BUCKET}?profile=1%2B2&keep_versions=4")
        assert (answer.json["profile"], answer.json["keep_versions"]) == ("1+2", 4)
        await api("PUT", f"{path}/new", data=bytes(range(256)) * 41)
        found = [await api("GET", f"/explain/{key}?bucket={BUCKET}") for key in ("old", "new")]
        assert [each.json["stripes"][0]["coding"] for each in found] == ["4+2", "1+2"]
        assert (await api("GET", STATUS)).json["jobs"] == []

    run(tmp_path, story)


def test_a_job_is_told_while_it_runs_and_after(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        led(api)
        await api("PATCH", f"/buckets/{BUCKET}?profile=1%2B2&reencode=1")
        (told,) = (await api("GET", STATUS)).json["jobs"]
        assert (told["bucket"], told["profile"], told["state"]) == (BUCKET, "1+2", "running")
        assert told["left"] is None and told["eta_s"] is None  # nobody has looked yet
        job = await the_job(api)
        led(
            api,
            ReencodeProgress(job=0, is_surveyed=True, left_stripes=2, left_bytes=7, waits="nodes"),
            ReencodeProgress(job=job, is_surveyed=True, left_stripes=5, left_bytes=1000),
        )
        found = (await api("GET", f"{STATUS}?bucket={BUCKET}")).json
        left = {"surveyed": True, "stripes": 5, "bytes": 1000, "waits": None}
        assert (found["jobs"][0]["left"], found["jobs"][0]["eta_s"]) == (left, 10.0)
        assert found["replicas"] == {"surveyed": True, "stripes": 2, "bytes": 7, "waits": "nodes"}
        await api("POST", f"{STATUS}/pause")
        found = (await api("GET", STATUS)).json
        assert found["paused"] and found["jobs"][0]["eta_s"] is None
        await api.world.meta.propose(FinishReencode(job=job, kept_stripes=3), Done)
        (told,) = (await api("GET", STATUS)).json["jobs"]
        assert (told["state"], told["left"], told["kept_stripes"]) == ("done", None, 3)
        assert told["ended"] >= told["begun"]

    run(tmp_path, story)
