"""What need not be loaded is not, and may be afterwards."""

import sys

import pytest

from ossd.lean_import import absent


def test_a_module_is_hidden_only_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with absent("colorsys"), pytest.raises(ImportError):
        import colorsys
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)
    with absent("colorsys"):
        import colorsys as again
    assert again is colorsys


def test_it_is_found_again_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with pytest.raises(ZeroDivisionError), absent("colorsys"):
        raise ZeroDivisionError
    import colorsys

    assert colorsys in sys.modules.values()
