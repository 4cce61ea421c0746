"""The guide has every heading of the template, in its order."""

import re

import pytest

from interlock.guide import HEADINGS, Facts, build
from interlock.guide.build import BODIES
from interlock.guide.headings import GET, POST, TITLE
from tests.guide.subjects import all_facts, no_facts, sample_subject, shop_subject

FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)


def headings(text: str) -> list[str]:
    """The headings of a guide, comments in its code left out."""
    return re.findall(r"^#{1,6} .+$", FENCED.sub("", text), re.MULTILINE)


def test_the_template_has_a_title_and_59_headings() -> None:
    """The outline is the template's: one title, 15 chapters, their sections, two endpoints and three errors."""
    levels = [each.level for each in HEADINGS]
    assert (levels.count(1), len(HEADINGS) - 1) == (1, 59)
    assert levels.count(2) == 15
    assert levels.count(4) == 5
    assert len(set(HEADINGS)) == len(HEADINGS)
    assert str(HEADINGS[-1]) == "### API Changelog"


@pytest.mark.parametrize("facts", [all_facts(), no_facts()], ids=["all facts", "no facts"])
@pytest.mark.parametrize("subject", [sample_subject, shop_subject])
def test_a_guide_has_them_all_in_order(subject: object, facts: Facts) -> None:
    """Walking the template, each heading is the guide's next; only further endpoints stand between."""
    about = subject(facts)  # type: ignore[operator]  # one of two functions
    found = iter(headings(build(about).text))
    for heading in HEADINGS:
        here = next(found)
        if heading.text == TITLE:
            assert here == f"# {about.name} Integration Guide"
        elif heading.text in (GET, POST):
            verb = heading.text.partition(" ")[0]
            assert here.startswith(f"#### {verb} /api/v1/" if about.package == "shop.gen" else f"#### {verb} /v1/")
        else:
            while heading.text == "Code Examples" and re.match(r"#### [A-Z]+ /", here):
                here = next(found)
            assert here == str(heading)
    assert next(found, None) is None


def test_every_endpoint_is_described_once() -> None:
    """Each external route has a heading of its own."""
    about = shop_subject()
    found = [each.removeprefix("#### ") for each in headings(build(about).text) if re.match(r"#### [A-Z]+ /", each)]
    assert sorted(found) == sorted(str(each.binding) for each in about.routes)


def test_a_heading_without_a_body_has_sections() -> None:
    """What a section says is found by its heading's text; only chapters and groups say nothing themselves."""
    assert BODIES.keys() <= {each.text for each in HEADINGS}
    for heading, following in zip(HEADINGS, (*HEADINGS[1:], HEADINGS[0]), strict=True):
        special = heading.text in (TITLE, "Table of Contents", GET, POST)
        assert special or heading.text in BODIES or following.level > heading.level, heading


def test_an_api_without_a_get_keeps_the_place() -> None:
    """Where nothing is bound to GET the heading stays and says so."""
    text = build(sample_subject(overrides={"sample.v1.SampleService": {"exposure": "INTERNAL"}})).text
    assert "#### GET /resource\n\nNo external operation of Sample is bound to GET." in text
    assert "#### POST /resource\n\nNo external operation of Sample is bound to POST." in text


def test_links_of_the_contents_lead_to_chapters() -> None:
    """Each entry of the table of contents names a chapter by its anchor."""
    text = build(sample_subject()).text
    chapters = {each[3:].lower().replace(" ", "-") for each in headings(text) if each.startswith("## ")}
    linked = re.findall(r"^- \[[^]]+\]\(#([^)]+)\)$", text, re.MULTILINE)
    assert len(linked) == 12
    assert set(linked) <= chapters
