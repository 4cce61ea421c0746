"""Secrets: shown by nothing, read from everywhere, their rotation noticed."""

import asyncio
import copy
import json
import logging
import pickle
import traceback
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from interlock.security.secret import (
    Secret,
    SecretError,
    WatchedSecret,
    from_aws,
    from_directory,
    from_environment,
    from_file,
    secret_source,
)
from tests.security.forging import Clock
from tests.waiting import until

PLANTED = "hunter2-planted"


def test_nothing_shows_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    """No repr, format, log, JSON, pickle, container or traceback has it; only `reveal` does."""
    secret = Secret(PLANTED)
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>40}", "%s %r" % (secret, secret), repr([secret])]  # noqa: UP031
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("x").warning("%s", secret, extra={"given": secret})
        try:
            raise ValueError(secret)  # noqa: TRY301 - its traceback is what is looked at
        except ValueError as error:
            logging.getLogger("x").exception("failed")
            shown += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    shown += [caplog.text, *(str(vars(record)) for record in caplog.records)]
    for broken in (json.dumps, pickle.dumps, vars, hash):
        with pytest.raises(TypeError) as raised:
            broken(secret)
        shown.append(str(raised.value))
    assert not any(PLANTED in each for each in shown)
    assert secret.reveal() == PLANTED
    assert secret == Secret(PLANTED) != Secret("other")
    assert secret != PLANTED
    assert copy.deepcopy(secret) is copy.copy(secret) is secret
    assert not Secret("")


def test_a_secret_is_a_field_of_settings() -> None:
    """A model takes one from text; neither its repr nor its dump nor its mistakes show it."""

    class Model(BaseModel):
        password: Secret
        number: int = 0

    model = Model(password=PLANTED)
    assert model.password.reveal() == PLANTED
    assert PLANTED not in repr(model) + model.model_dump_json()
    with pytest.raises(ValueError, match="a secret is a text"):
        Model(password=5)


async def test_where_secrets_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment, file and directory; the line end is not part of it."""
    (tmp_path / "password").write_text(f"{PLANTED}\n")
    monkeypatch.setenv("SHOP_PASSWORD", PLANTED)
    for source in (
        from_environment("SHOP_PASSWORD"),
        from_file(tmp_path / "password"),
        from_directory(tmp_path, "password"),
        secret_source("env:SHOP_PASSWORD"),
        secret_source(f"file:{tmp_path}/password"),
    ):
        assert (await source()).secret.reveal() == PLANTED


async def test_what_is_no_secret_says_where_it_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Missing, empty, huge, not text, or outside its directory: the place is named, the content never."""
    monkeypatch.delenv("SHOP_PASSWORD", raising=False)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "huge").write_text("x" * 70_000)
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for source, says in (
        (from_environment("SHOP_PASSWORD"), "SHOP_PASSWORD"),
        (from_file(tmp_path / "missing"), "missing"),
        (from_file(tmp_path / "empty"), "empty"),
        (from_file(tmp_path / "huge"), "larger"),
        (from_file(tmp_path / "binary"), "UTF-8"),
    ):
        with pytest.raises(SecretError, match=says):
            await source()
    for name in ("../password", "", "..", "a/b", "a\\b"):
        with pytest.raises(SecretError, match="no name"):
            from_directory(tmp_path, name)
    for place in ("password", "env:", "vault:x", ""):
        with pytest.raises(ValueError, match="env:NAME"):
            secret_source(place)


async def test_a_rotation_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A swapped link is seen half a minute later, and nobody waits; while the source fails the last one stays."""
    clock = Clock()
    for name, text in (("old", "first"), ("new", "second")):
        (tmp_path / name).write_text(text)
    (tmp_path / "current").symlink_to("old")
    watched = WatchedSecret(from_file(tmp_path / "current"), "the shop's password", now=clock)
    assert (await watched.get()).reveal() == "first"
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").rename(tmp_path / "current")
    assert (await watched.get()).reveal() == "first"
    clock.at += 31
    assert (await watched.get()).reveal() == "first"
    await until(lambda: not watched._renewed.busy)
    assert (await watched.get()).reveal() == "second"
    (tmp_path / "current").unlink()
    clock.at += 31
    assert (await watched.get()).reveal() == "second"
    await until(lambda: "the shop's password could not be renewed" in caplog.text)
    assert (await watched.get()).reveal() == "second"


async def test_its_age_is_known(tmp_path: Path) -> None:
    """From the file's own time; where the source does not know, from when it was seen to change."""
    import os

    place = tmp_path / "password"
    place.write_text("x")
    clock = Clock()
    os.utime(place, (clock.at - 500, clock.at - 500))
    watched = WatchedSecret(from_file(place), now=clock)
    assert watched.age == 0
    await watched.get()
    assert watched.age == 500


@pytest.mark.filterwarnings("default")  # moto's server and boto3 warn of themselves
async def test_a_secret_of_aws_rotates_under_load(aws: Any) -> None:
    """The value, or a field of it; a rotation is noticed within the interval, and every reader has one of the two."""
    aws.create_secret(Name="shop/password", SecretString=json.dumps({"password": "first", "user": "shop"}))
    watched = WatchedSecret(
        from_aws("shop/password", field="password", endpoint=aws.endpoint), "shop", every=timedelta(seconds=0.2)
    )
    assert (await watched.get()).reveal() == "first"
    aws.put_secret_value(SecretId="shop/password", SecretString=json.dumps({"password": "second"}))
    seen = set()
    async with asyncio.timeout(20):
        while "second" not in seen:
            seen |= {(await watched.get()).reveal() for _ in range(50)}
            await asyncio.sleep(0.01)
    assert seen == {"first", "second"}
    assert 0 <= watched.age < 600
    for source in (
        from_aws("shop/other", endpoint=aws.endpoint),
        from_aws("shop/password", field="none", endpoint=aws.endpoint),
    ):
        with pytest.raises(SecretError, match="shop/") as raised:
            await source()
        assert "second" not in "".join(traceback.format_exception(raised.value))
