"""Runs `async def` tests on a fresh event loop each."""

from tests.ossd.conftest import pytest_pyfunc_call as pytest_pyfunc_call
