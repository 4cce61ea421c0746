"""The standard as checks: rules over contracts, rules over running services, and what they found."""

from interlock.standards.contract import NothingToCheck, check_contract, check_image
from interlock.standards.live.checking import LIVE_RULES, Unreachable, check_live
from interlock.standards.live.target import Target
from interlock.standards.report import Finding, Outcome, Report, Silenced, Verdict, as_data
from interlock.standards.rule import ContractRule, LiveRule, Page, explain
from interlock.standards.rules import CONTRACT_RULES

__all__ = [
    "CONTRACT_RULES",
    "LIVE_RULES",
    "ContractRule",
    "Finding",
    "LiveRule",
    "NothingToCheck",
    "Outcome",
    "Page",
    "Report",
    "Silenced",
    "Target",
    "Unreachable",
    "Verdict",
    "as_data",
    "check_contract",
    "check_image",
    "check_live",
    "explain",
]
