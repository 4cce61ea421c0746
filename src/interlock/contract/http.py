"""Routes of `google.api.http`, read from their options."""

from interlock.contract.gen.google.api.http_pb import CustomHttpPattern, HttpRule
from interlock.contract.model import HttpBinding
from interlock.contract.path_template import PathTemplate


def verb_and_path(rule: HttpRule) -> tuple[str, str]:
    """Return the HTTP method and the path of a rule; both are empty where it names none."""
    pattern = rule.pattern
    if pattern is None:
        return "", ""
    if isinstance(pattern.value, CustomHttpPattern):
        return pattern.value.kind.upper(), pattern.value.path
    return pattern.field.upper(), pattern.value


def binding(rule: HttpRule) -> HttpBinding:
    """Return the route that a rule describes; ValueError if its path is malformed."""
    verb, path = verb_and_path(rule)
    return HttpBinding(verb=verb, template=PathTemplate.parse(path), body=rule.body, response_body=rule.response_body)
