"""Load by the clock against a target's declared objectives, and its contract read by reflection."""

from interlock.bench.objectives import TIER_RATES, Goal, Judgement, State, goals, judge
from interlock.bench.operation import find_operation, only_operation, requests_of, sender
from interlock.bench.plan import Plan, Refused
from interlock.bench.processes import in_processes, together
from interlock.bench.reflected import reflected
from interlock.bench.report import Report, as_json, report
from interlock.bench.run import Measured, Progress, Run
from interlock.bench.target import Target, read_target, refuse_foreign

__all__ = [
    "TIER_RATES",
    "Goal",
    "Judgement",
    "Measured",
    "Plan",
    "Progress",
    "Refused",
    "Report",
    "Run",
    "State",
    "Target",
    "as_json",
    "find_operation",
    "goals",
    "in_processes",
    "judge",
    "only_operation",
    "read_target",
    "reflected",
    "refuse_foreign",
    "report",
    "requests_of",
    "sender",
    "together",
]
