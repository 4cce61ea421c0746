"""`interlock doctor`: looks at all that a service needs, or at one that runs; says what is wrong and the remedy."""

from interlock.doctor.examine import examine, examine_platform
from interlock.doctor.finding import Examination, Finding, Patient, State
from interlock.doctor.running import running

__all__ = ["Examination", "Finding", "Patient", "State", "examine", "examine_platform", "running"]
