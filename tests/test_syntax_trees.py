"""A syntax tree is built to its end, whatever becomes garbage meanwhile."""

import ast
import gc

ROUNDS = 20
SOURCE = "\n".join(f"def f{n}(a, b):\n    return [a + b * {n}, (a, b), {{}}]" for n in range(1000))


class Reports:
    """Builds a syntax tree of its own when it is collected, as a traceback does."""

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        ast.parse("(a + b)[1]")


def test_what_is_collected_disturbs_no_syntax_tree() -> None:
    for _ in range(ROUNDS):
        gc.collect()
        Reports()
        ast.parse(SOURCE)
    assert gc.isenabled()
