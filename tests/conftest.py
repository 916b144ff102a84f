"""What every test stands on."""

from tests.fakes import syntax

syntax.leave_undisturbed()
