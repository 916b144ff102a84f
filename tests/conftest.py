"""What every test stands on."""

import pytest

from tests.compiled import compile_store
from tests.fakes import syntax

syntax.leave_undisturbed()


def pytest_configure(config: pytest.Config) -> None:
    """Once, not in each worker."""
    if not hasattr(config, "workerinput"):
        compile_store()
