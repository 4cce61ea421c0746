"""A real OpenID Connect provider as the second issuer: discovered, its tokens taken beside our own."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from interlock.security.access import roles_from
from interlock.security.keys import new_keys
from interlock.security.oauth2 import ClientCredentials
from interlock.security.tokens import Issuer
from interlock.server import serving
from interlock.settings import IssuerSettings, Settings
from tests.npm import NotInstalled, installed
from tests.sample.gen.sample.v1.sample_rpc import SampleServiceClient
from tests.sample.handlers import make
from tests.server.processes import free_port

PROVIDER = "oidc-provider@9"
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import { Provider } from 'oidc-provider';
const [port] = process.argv.slice(2);
const issuer = `http://127.0.0.1:${port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: 'billing', client_secret: 'provided-secret', grant_types: ['client_credentials'],
    redirect_uris: [], response_types: [], scope: 'hush',
  }],
  scopes: ['hush'],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => 'https://shop.example',
      getResourceServerInfo: () => ({
        scope: 'hush', audience: 'shop', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});
const { default: http } = await import('node:http');
http.createServer(provider.callback()).listen(port, '127.0.0.1', () => console.log('ready'));
"""


@contextmanager
def provider(port: int) -> Iterator[str]:
    """Run the provider on `port`, and give its issuer."""
    try:
        directory = installed("oidc", PROVIDER)
    except NotInstalled as reason:
        pytest.skip(f"NOT TESTED with a real OpenID Connect provider: {reason}")
    program = directory / "provider.mjs"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        ["node", str(program), str(port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "ready" in line:
                break
        else:
            raise AssertionError("".join(said))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.timeout(300)
async def test_a_real_provider_is_believed_beside_our_own(tmp_path: Path) -> None:
    """Our client gets a token of it, our service finds its keys by discovery and maps its scope to a role."""
    port = free_port()
    keys = new_keys(tmp_path / "keys")
    opened = provider(port)
    issuer = await asyncio.to_thread(opened.__enter__)
    try:
        corp = IssuerSettings(issuer=issuer, audience="shop", roles={"scope:hush": ("whisperer",)})
        settings = Settings(keys=tmp_path / "keys", issuers={"corp": corp})
        app = make(settings=settings, roles=roles_from({"whisperer": ["sample:whisper"]}))
        theirs = ClientCredentials(f"{issuer}/token", "billing", "provided-secret", scope="hush")
        async with serving(app) as address:
            async with SampleServiceClient(str(address), credentials=theirs) as client:
                assert (await client.whisper(text="theirs")).text == "theirs"
            ours = Issuer(keys=keys).mint("orders", ["whisperer"])
            async with SampleServiceClient(str(address)) as client:
                known = client.using(metadata={"authorization": f"Bearer {ours}"})
                assert (await known.whisper(text="ours")).text == "ours"
    finally:
        await asyncio.to_thread(opened.__exit__, None, None, None)
