"""The black-box conformance list: what a published client or a plain HTTP caller may rely on, one
row for each number. Rows that later parts of the product answer are listed with the reason."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest

import rows_admin  # noqa: F401
import rows_coordinator  # noqa: F401
import rows_gateway  # noqa: F401
import rows_sts  # noqa: F401
from conformance_row import ROWS, Ground
from conftest import StackFactory
from orchard import Orchard

ALL_ROWS = range(1, 96)

NOT_YET_COVERED = {
    22: "federated subjects come later",
    23: "federated subjects come later",
    24: "approval holds come later",
    25: "approval holds come later",
    26: "approval holds come later",
    27: "approval holds come later",
    28: "approval holds come later",
    29: "approval holds come later",
    30: "approval holds come later",
    31: "approval holds come later",
    73: "only a federated user's mandate carries no scope",
    84: "the control command interface comes later",
    85: "the control command interface comes later",
    89: "`caracal run` comes later",
    90: "`caracal run` comes later",
    91: "`caracal run` comes later",
    92: "`caracal run` comes later",
    93: "`caracal allowlist` comes with the console",
    94: "`caracal purge` comes later",
}

COVERED_ELSEWHERE = {
    58: ("test_streams", "test_a_resource_server_refuses_a_descendant_of_what_was_revoked"),
    76: ("test_streams", "test_every_message_is_signed_and_a_changed_one_is_set_aside"),
    86: ("test_cli", "test_version_is_one_json_line_with_four_keys"),
    87: ("test_cli", "test_status_names_the_service_that_is_down"),
    88: ("test_cli", "test_an_unknown_command_prints_the_usage_and_fails"),
    95: ("test_cli", "test_an_older_binary_refuses_a_newer_home_and_changes_nothing"),
}


@pytest.mark.parametrize(
    "number", [pytest.param(n, id=f"{n:02}-{ROWS[n].__name__}") for n in sorted(ROWS)]
)
def test_row(
    number: int, orchard: Orchard, plant: Callable[..., Orchard], private_stack: StackFactory
) -> None:
    ROWS[number](Ground(orchard, plant, private_stack))


def test_every_row_is_covered_or_named() -> None:
    """The summary of the run prints the numbers of the rows that are only named."""
    for module, function in COVERED_ELSEWHERE.values():
        assert callable(getattr(importlib.import_module(module), function))
    places = [set(ROWS), set(COVERED_ELSEWHERE), set(NOT_YET_COVERED)]
    assert sum(map(len, places)) == len(set().union(*places)), "a row is in two places"
    assert set().union(*places) == set(ALL_ROWS)
