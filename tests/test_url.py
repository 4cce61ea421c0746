"""URLs with passwords: shown without them, wherever a setting is shown."""

import copy
import json
import pickle
import traceback
from pathlib import Path

import pytest
from pydantic import ValidationError

from interlock import Settings, Url
from interlock.cli.settings import rows
from interlock.settings import IssuerSettings, explain
from interlock.url import shown

PLANTED = "hunter2-planted"


@pytest.mark.parametrize(
    "url, seen",
    [
        (f"amqp://shop:{PLANTED}@mq:5672/vhost", "amqp://shop:…@mq:5672/vhost"),
        (f"redis://:{PLANTED}@cache/0", "redis://:…@cache/0"),
        (f"nats://{PLANTED}@mq:4222?stream=shop", "nats://…@mq:4222?stream=shop"),
        (f"amqp://shop:p@s/{PLANTED}@mq", "amqp://shop:…@mq"),
        (f"nats://a:{PLANTED}@one,nats://b:{PLANTED}@two", "nats://a:…@two"),
        (f"postgresql://db/shop?user=shop&password={PLANTED}", "postgresql://db/shop?user=shop&password=…"),
        (f"https://id/keys?x=1&API_KEY={PLANTED}#a", "https://id/keys?x=1&API_KEY=…"),
        (f"https://id/keys?token=;{PLANTED}&x=1", "https://id/keys?token=…&x=1"),
        (f"https://id/keys#access_token={PLANTED}", "https://id/keys#access_token=…"),
        (f"https://{PLANTED}:@id/keys", "https://…@id/keys"),
        (f"shop:{PLANTED}@mq:4222", "shop:…@mq:4222"),
        (f"shop:a//{PLANTED}@mq:4222", "shop:…@mq:4222"),
        (f"nats:shop:{PLANTED}@mq:4222", "nats:…@mq:4222"),
        (f"host=db password={PLANTED} user=shop", "host=db password=…"),
        (f"postgresql://shop:%40{PLANTED}@/shop?host=/run/pg", "postgresql://shop:…@/shop?host=/run/pg"),
        (f"redis://:{PLANTED}@[::1]:6379/0", "redis://:…@[::1]:6379/0"),
        ("sqlite:////var/lib/shop.db", "sqlite:////var/lib/shop.db"),
        ("embedded:var/broker.db", "embedded:var/broker.db"),
        ("var/accounts.json", "var/accounts.json"),
        ("", ""),
    ],
)
def test_it_shows_where_it_leads(url: str, seen: str) -> None:
    """Host, path and harmless parameters are told; a password never, however it was written."""
    given = Url(url)
    assert shown(url) == str(given) == f"{given}" == seen
    assert repr(given) == f"Url({seen!r})"
    assert given.reveal() == url
    assert bool(given) is bool(url)
    assert given == Url(url) == copy.deepcopy(given)
    assert given != url


def test_nothing_gives_it_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the settings' repr, dump, table or mistakes, nor pickle or a traceback."""
    url = f"nats://shop:{PLANTED}@mq:4222"
    settings = Settings(
        broker=url,
        accounts=url,
        jwks=url,
        otlp_endpoint=url,
        rate_limit_redis=url,
        accounts_pepper=PLANTED,
        issuers={"corp": IssuerSettings(issuer="https://id", jwks=Url(url))},
        otlp_headers={"x-key": PLANTED},
    )
    assert settings.broker.reveal() == url
    texts = [repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())]
    texts += [f"{row.value} {row.default}" for row in rows(settings)]
    with pytest.raises(TypeError) as refused:
        pickle.dumps(settings.broker)
    texts.append(str(refused.value))
    monkeypatch.setenv("INTERLOCK_BROKER", url)
    for wrong in ({"tls_key": tmp_path}, {"rate_limit_redis": 7, "broker": 7}, {"port": "x"}):
        with pytest.raises(ValidationError) as raised:
            Settings(**wrong)
        texts += [str(raised.value), explain(raised.value), *traceback.format_exception(raised.value)]
    assert any("mq:4222" in each for each in texts)
    assert not [each for each in texts if PLANTED in each]
    assert "INTERLOCK_BROKER: a URL is a text (or broker" in "".join(texts)
    assert json.loads(settings.model_dump_json())["broker"] == "nats://shop:…@mq:4222"
