"""`GET /openapi.json` on a real socket."""

from pathlib import Path

from tests.frontend.rest.serving import DESCRIPTION, Api, run


def test_the_description_is_open_to_anybody(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        answer = await api("GET", "/openapi.json", auth=None)
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.json == DESCRIPTION.document
        assert (await api("HEAD", "/openapi.json", auth=None)).body == b""
        assert (await api("PUT", "/openapi.json", data=b"{}")).status == 405

    run(tmp_path, story)
