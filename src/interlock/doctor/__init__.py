"""`interlock doctor`: looks at everything a service needs before it serves, and says what is wrong and the remedy."""

from interlock.doctor.examine import examine
from interlock.doctor.finding import Examination, Finding, Patient, State

__all__ = ["Examination", "Finding", "Patient", "State", "examine"]
