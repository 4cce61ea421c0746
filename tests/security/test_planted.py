"""Secrets planted in a run of the sample as processes: none is in any log, trace, error, metric or repr."""

import gzip
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx2

from interlock.security.account_file import AccountFile
from interlock.security.api_keys import create_account, create_key
from interlock.security.keys import new_keys
from interlock.security.tokens import Issuer
from interlock.settings import Settings
from tests.server.processes import serving_process
from tests.waiting import until

PEPPER = "planted-pepper-5f1c"
HEADER = "planted-otlp-header-77aa"
BODY = "planted-password-91be"


class _Collector(BaseHTTPRequestHandler):
    received: list[bytes]

    def do_POST(self) -> None:
        type(self).received.append(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Be quiet."""


@contextmanager
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Take traces, and keep their bytes, unpacked."""
    received: list[bytes] = []
    handler = type("Handler", (_Collector,), {"received": received})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", received
        finally:
            server.shutdown()
            thread.join()


def _unpacked(body: bytes) -> bytes:
    return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body


async def test_no_planted_secret_is_anywhere(tmp_path: Path) -> None:
    """Tokens good and bad, API keys, a pepper, a header of the exporter, a password in a body that fails."""
    keys = new_keys(tmp_path / "keys")
    private = (tmp_path / "keys" / f"{keys.kid}.pem").read_text().splitlines()[1]
    good = Issuer(keys=keys).mint("ada", ["whisperer"])
    poor = Issuer(keys=keys).mint("bob", ["idle"])
    forged = good[:-8] + "AAAAAAAA"
    store = AccountFile(tmp_path / "accounts.json")
    await create_account(store, "billing", ["whisperer"])
    kept, key = await create_key(store, "billing", pepper=PEPPER.encode())
    revoked_key, revoked = await create_key(store, "billing", pepper=PEPPER.encode())
    await store.revoke(revoked_key.id, 0.0)
    (tmp_path / "roles.yaml").write_text(
        "roles: {whisperer: ['sample:whisper'], idle: []}\nprivileged: ['sample:whisper']\n"
    )
    planted = {
        "a good token": good.rpartition(".")[2],
        "a poor token": poor.rpartition(".")[2],
        "a forged token": forged.split(".")[1],
        "an API key": key.rpartition("_")[2],
        "a revoked key": revoked.rpartition("_")[2],
        "a key's hash": kept.hash.hex(),
        "the pepper": PEPPER,
        "the exporter's header": HEADER,
        "the private key": private,
        "a body": BODY,
    }
    seen: dict[str, str] = {}
    with collector() as (endpoint, spans):
        variables = {
            "accounts": str(tmp_path / "accounts.json"),
            "accounts_pepper": PEPPER,
            "keys": str(tmp_path / "keys"),
            "roles": str(tmp_path / "roles.yaml"),
            "log_level": "debug",
            "log_format": "json",
            "otlp_endpoint": endpoint,
            "otlp_headers": json.dumps({"x-key": HEADER}),
            "trace_ratio": "1",
            "token_endpoint": "true",
        }
        with serving_process(tmp_path, "tests.server.apps:make", **variables) as process:
            await process.ready()
            async with httpx2.AsyncClient(base_url=process.url, timeout=20) as http:
                for name, headers, status in (
                    ("good", {"authorization": f"Bearer {good}"}, 200),
                    ("poor", {"authorization": f"Bearer {poor}"}, 403),
                    ("forged", {"authorization": f"Bearer {forged}"}, 401),
                    ("scheme", {"authorization": f"Basic {good}"}, 401),
                    ("key", {"x-api-key": key}, 200),
                    ("revoked", {"x-api-key": revoked}, 401),
                    ("both", {"x-api-key": key, "authorization": f"Bearer {good}"}, 401),
                ):
                    answer = await http.post("/v1/whisper", json={"text": "hush"}, headers=headers)
                    assert answer.status_code == status, (name, answer.text)
                    seen[f"answer: {name}"] = answer.text + str(answer.headers)
                failed = await http.post("/v1/echo", json={"txet": BODY})
                assert failed.status_code == 400
                body = {"grant_type": "client_credentials", "client_id": "billing", "client_secret": revoked}
                seen["token endpoint"] = (await http.post("/oauth/token", json=body)).text
                metrics = await http.get(f"http://127.0.0.1:{process.operations_port}/metrics")
                seen["metrics"] = metrics.text
            await until(lambda: len(spans) > 0, 20)
            await until(lambda: '"audit": "refused"' in process.output, 20)
            process.send(signal.SIGTERM)
            await process.ended()
            seen["output"] = process.output
        seen["traces"] = "".join(_unpacked(each).decode("latin-1") for each in spans)
    assert "Whisper" in seen["traces"]
    assert '"audit": "privileged"' in seen["output"]
    assert f"ilk_{revoked_key.id} is revoked" in seen["output"], "what may be seen of a key is told"
    settings = Settings(accounts_pepper=PEPPER, otlp_headers={"x-key": HEADER})
    seen["settings"] = repr(settings) + settings.model_dump_json()
    found = [(what, where) for where, text in seen.items() for what, value in planted.items() if value in text]
    assert not found
