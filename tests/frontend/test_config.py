"""What a frontend refuses to be told."""

import pytest

from frontend.config import FrontendConfig
from osscore.errors import InvalidArgument
from raftmeta.commands import UPLOAD_LIFE_S_MAX


def told(**more: object) -> FrontendConfig:
    return FrontendConfig(id="f", metanodes=("http://m",), cluster_secret="s", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["upload_ttl_s", "upload_expiry_s", "temp_expiry_s"])
def test_uploads_wait_no_longer_than_a_row_may_live(name: str) -> None:
    told(**{name: UPLOAD_LIFE_S_MAX}).check()
    for value in (0, -1, UPLOAD_LIFE_S_MAX + 1):
        with pytest.raises(InvalidArgument, match=name):
            told(**{name: value}).check()
