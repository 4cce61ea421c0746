"""The examinations, in the order in which a service would meet the faults."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from interlock.doctor import credentials, reach, surroundings
from interlock.doctor.finding import Examination, Finding, Patient, fault

if TYPE_CHECKING:
    from interlock.app import App

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


OF_EACH: Sequence[Examination] = (credentials.roles, reach.database)
"""What the services of a platform do not have in common."""


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


async def examine_platform(apps: "Mapping[str, App]") -> list[Finding]:
    """Examine what the services of a platform share, then each of them; its neighbours need not run yet."""
    findings = await examine(Patient(settings=next(iter(apps.values())).settings))
    findings = [each for each in findings if each.part != "roles" and not each.part.startswith("upstream ")]
    for name, app in apps.items():
        own = await examine(Patient(settings=app.settings, app=app), OF_EACH)
        findings += [replace(each, part=f"{name}: {each.part}") for each in own if each.part != "clock" or each.remedy]
    return findings
