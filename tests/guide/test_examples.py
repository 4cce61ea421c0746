"""The examples as texts: they compile, and their requests keep the contract's rules."""

import json

import pytest
from protovalidate import Validator

from interlock.contract.rest_shape import body_message
from interlock.guide import Subject, build
from interlock.guide.sample import sample
from interlock.guide.subject import request_of
from interlock.guide.verify import examples
from tests.guide.subjects import sample_subject, shop_subject

SUBJECTS = pytest.mark.parametrize("subject", [sample_subject(), shop_subject()], ids=["sample", "shop"])


@SUBJECTS
def test_python_examples_are_python(subject: Subject) -> None:
    """Each compiles, and no line is longer than the project's own."""
    found = [each for each in examples(build(subject).text) if each.language == "python"]
    assert len(found) >= 8
    for each in found:
        compile(each.text, each.heading, "exec")
        assert max(map(len, each.text.splitlines())) <= 120, each.heading


@SUBJECTS
def test_requests_of_creations_keep_the_rules(subject: Subject) -> None:
    """What the guide sends to create a resource is valid by the contract."""
    assert subject.chosen is not None
    assert subject.chosen.create is not None
    kind = subject.chosen.create.operation.request_type
    message = kind.from_json(json.dumps(request_of(subject.chosen.create)))
    Validator().validate(message)


@SUBJECTS
def test_made_up_requests_are_messages(subject: Subject) -> None:
    """A value made from types alone parses as the message it was made for."""
    bodies = [each for each in subject.routes if body_message(each.operation, each.binding) is not None]
    assert bodies
    for each in bodies:
        kind = each.operation.request_type
        made = sample(kind.desc(), request=True)
        assert kind.from_json(json.dumps(made)) != kind()


@SUBJECTS
def test_steps_that_are_not_run_say_why(subject: Subject) -> None:
    """AWS and Terraform steps are shown with the reason why nobody runs them."""
    shown = {each.why_not for each in examples(build(subject).text) if not each.runs}
    assert {"it needs an AWS account", "Terraform needs an account to apply it to"} <= shown
    assert "the guide does not mark it to be run" not in shown
