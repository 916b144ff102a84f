"""A page of another site with a token in its hands, as browsers let it ask."""

from pathlib import Path
from typing import Any

import pytest

from tests.frontend.harness import random_bytes
from tests.frontend.rest.test_temp import begin
from tests.frontend.tokens.client import FORM, TokenApi, form_of, run

PAGE = "https://shop.example"
BODY = random_bytes(10_000, seed=1)


async def preflight(api: TokenApi, path: str, method: str, headers: str = "token") -> Any:
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }
    return await api("OPTIONS", path, headers=asked)


def allowed(answer: Any) -> set[str]:
    return {m.strip() for m in answer.headers["Access-Control-Allow-Methods"].split(",")}


def test_a_page_uploads_and_downloads_with_a_token(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        for path, method in (
            ("/upload/single", "POST"),
            ("/upload/chuck", "POST"),
            ("/upload/chunk", "POST"),
            ("/download", "GET"),
        ):
            answer = await preflight(api, path, method, "token, content-type")
            assert answer.status == 204 and answer.body == b""
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert method in allowed(answer)
            assert answer.headers["Access-Control-Allow-Headers"] == "token, content-type"
        token = await api.token("upload", BODY)
        stored = await api(
            "POST",
            "/upload/single",
            token=token,
            data=form_of(BODY),
            headers={"Content-Type": FORM, "Origin": PAGE},
        )
        assert (stored.status, stored.headers["Access-Control-Allow-Origin"]) == (200, "*")
        refused = await api("GET", "/download", token="x.y", headers={"Origin": PAGE})
        assert refused.status == 401
        assert refused.headers["Access-Control-Allow-Origin"] == "*"

    run(tmp_path, story)


def test_a_page_goes_on_with_an_upload_it_was_handed(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        where = (await begin(api.api)).headers["Location"]
        answer = await preflight(api, where, "PUT", "upload-offset")
        assert {"PUT", "HEAD"} <= allowed(answer) and "POST" not in allowed(answer)
        head = await api("HEAD", where, headers={"Origin": PAGE})
        assert "Upload-Offset" in head.headers["Access-Control-Expose-Headers"]

    run(tmp_path, story)


def test_what_needs_a_secret_of_ours_is_not_for_pages(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        for path in ("/server/token", "/upload/token", "/upload/finish", "/file", "/objects/k"):
            answer = await preflight(api, path, "PUT")
            assert answer.status == 405, path
            assert "Access-Control-Allow-Origin" not in answer.headers

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("origins", "named"), [((PAGE,), PAGE), (("https://other.example",), None), ((), None)]
)
def test_only_the_sites_that_are_named_may(
    tmp_path: Path, origins: tuple[str, ...], named: str | None
) -> None:
    async def story(api: TokenApi) -> None:
        answer = await preflight(api, "/download", "GET")
        assert answer.status == 204
        assert answer.headers.get("Access-Control-Allow-Origin") == named
        assert ("Access-Control-Allow-Methods" in answer.headers) == (named is not None)
        assert "Origin" in answer.headers["Vary"]

    run(tmp_path, story, cors_origins=origins)


def test_names_of_headers_are_not_repeated_unseen(tmp_path: Path) -> None:
    async def story(api: TokenApi) -> None:
        for text in ("x" * 1001, "a;b", "ü"):
            answer = await preflight(api, "/download", "GET", text)
            assert "Access-Control-Allow-Headers" not in answer.headers

    run(tmp_path, story)
