"""The examinations, in the order in which a service would meet the faults."""

from collections.abc import Sequence

from interlock.doctor import credentials, reach, surroundings
from interlock.doctor.finding import Examination, Finding, Patient, fault

EXAMINATIONS: Sequence[Examination] = (
    surroundings.versions,
    surroundings.variables,
    surroundings.disk,
    surroundings.ports,
    credentials.keys,
    credentials.roles,
    credentials.certificates,
    reach.database,
    reach.broker,
    reach.upstreams,
    reach.collector,
)


async def examine(patient: Patient, examinations: Sequence[Examination] = EXAMINATIONS) -> list[Finding]:
    """Make every examination; one that fails itself is a fault of its part, and the others go on."""
    findings: list[Finding] = []
    for each in examinations:
        try:
            findings += await each(patient)
        except Exception as error:
            findings.append(
                fault(each.__name__, f"cannot be examined: {error}", "look at the text; report it if unclear")
            )
    return findings
