"""Setup and configuration; authentication and authorization."""

import json
from datetime import timedelta

from interlock.guide.markdown import checks, joined, not_run, numbered, run, table
from interlock.guide.subject import Subject
from interlock.settings import PREFIX, Settings

AWS = "it needs an AWS account"
INSTALLS = "it installs software on this machine"


def service_account(subject: Subject) -> str:
    """Show how the caller's account is made."""
    role, policy = subject.facts.text("setup.role"), subject.facts.text("setup.policy_arn")
    text = f"""
# Create IAM role
aws iam create-role --role-name {role} --assume-role-policy-document file://trust-policy.json

# Attach policy
aws iam attach-role-policy --role-name {role} --policy-arn {policy}
"""
    done = checks(["Role created successfully", "Permissions attached"])
    return joined("The caller gets a role of its own.", not_run("bash", text, AWS), f"**Verification:**\n{done}")


def service_settings(subject: Subject) -> str:
    """Show the service's settings, then the caller's configuration."""
    operations = sum(len(each.operations) for each in subject.services)
    rows = (
        (f"`{PREFIX}{name.upper()}`", _shown(field.get_default(call_default_factory=True)), field.description or "")
        for name, field in Settings.model_fields.items()
    )
    return joined(
        f"The service reads these settings from its environment, or without the prefix from `interlock.toml`. The "
        f"{operations} operations have their timeouts and limits from the contract; `operations` overrides them.",
        table(("Setting", "Default", "Meaning"), rows),
        "**Via Terraform:**",
        not_run("hcl", subject.facts.text("setup.terraform"), "Terraform needs an account to apply it to"),
        f"**Via AWS Console:**\n{numbered(subject.facts.list('setup.console'))}",
        f"**Verification:**\n{checks(['Configuration applied', 'Settings visible in console'])}",
    )


def _shown(value: object) -> str:
    if isinstance(value, timedelta):
        return f"`{value.total_seconds():g}s`"
    return f"`{value}`" if value not in (None, "", {}, ()) else ""


def environment_variables(subject: Subject) -> str:
    """Show the caller's variables, for `.env`, CI and production."""
    facts = subject.facts
    endpoint, token, region = (subject.variable(each) for each in ("ENDPOINT", "TOKEN", "REGION"))
    production = facts.text("environments.production")
    lines = f"""
# Add to .env or GitHub Secrets
{token}="your-token"
{endpoint}="{production}"
{region}="{facts.text("variables.region")}"
"""
    meanings = (
        (f"`{endpoint}`", "The base URL: scheme, host and port, without a path."),
        (f"`{token}`", "The token that each call shows."),
        (f"`{region}`", "Where the service runs."),
    )
    return joined(
        "Required environment variables:",
        not_run("bash", lines, "these are values to replace; the examples run with those of the target"),
        table(("Variable", "Meaning"), meanings),
        "**For production**, store in AWS Secrets Manager:",
        _store(subject, {"token": "token", "endpoint": production}),
        f"**Verification:**\n{checks([f'`{endpoint}` and `{token}` are set where the application runs'])}",
    )


def _store(subject: Subject, values: dict[str, str]) -> str:
    text = f"""
aws secretsmanager create-secret \\
  --name {subject.facts.text("setup.secret")} \\
  --secret-string '{json.dumps(values)}'
"""
    return not_run("bash", text, AWS)


def dependencies(subject: Subject) -> str:
    """Show what callers install."""
    facts = subject.facts
    node = facts.text("dependencies.node")
    other = (
        "Any gRPC or HTTP client: the contract's `.proto` files, `/openapi.json` or gRPC reflection describe the API."
    )
    return joined(
        "**For Node.js:**",
        not_run("bash", f"npm install {node}", INSTALLS)
        if node
        else "Nothing: the examples use the `fetch` of Node.js.",
        "**For Python:**",
        not_run("bash", f"pip install {facts.text('dependencies.python')}", INSTALLS),
        "**Verification:**",
        run("python", f"import {subject.package}\n\nprint({subject.package}.__name__)"),
        "**For other languages:**",
        facts.text("dependencies.other") or other,
    )


def method(subject: Subject) -> str:
    """Say how callers prove who they are."""
    guarded = any(not each.operation.unauthenticated for each in subject.routes)
    text = (
        "Each call carries a JSON Web Token, signed with RS256, as `Authorization: Bearer`. The service verifies "
        "signature, issuer, audience and lifetime; the roles in it give the permissions that the contract asks for."
        if guarded
        else "The external operations of this API need no credential."
    )
    return joined(text, checks({"API Key": False, "OAuth 2.0": False, "JWT": guarded, "IAM Role": False}))


def obtaining(subject: Subject) -> str:
    """Show how a token is got, and how it is tried."""
    command = f'export {subject.variable("TOKEN")}="$({subject.facts.text("credentials.command")})"'
    return joined("**JWT:**", not_run("bash", command, "it issues a credential; the examples run with a token given"))


def management(subject: Subject) -> str:
    """Show where credentials are kept."""
    return joined("Store credentials securely, never in source code or logs:", _store(subject, {"token": "TOKEN"}))


def rotation(subject: Subject) -> str:
    """Say how often and how credentials change."""
    schedule = subject.facts.text("credentials.rotation_schedule")
    procedure = subject.facts.text("credentials.rotation_procedure")
    return joined(
        "The services publish several keys at a time, so that tokens of the former key go on counting until they end.",
        f"- **Rotation Schedule**: {schedule}\n- **Rotation Procedure**: {procedure}",
    )


BODIES = {
    "Step 1: Create Service Account": service_account,
    "Step 2: Configure Service Settings": service_settings,
    "Step 3: Set Up Environment Variables": environment_variables,
    "Step 4: Install Dependencies": dependencies,
    "Authentication Method": method,
    "Obtaining Credentials": obtaining,
    "Credential Management": management,
    "Rotating Credentials": rotation,
}
