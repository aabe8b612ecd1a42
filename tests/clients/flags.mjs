// node flags.mjs BASE TOKEN: OpenFeature's own SDKs with their OFREP providers, server (one flag at a time) and web (all
// flags, with an entity tag). TOKEN is a service's; the flags are those of tests/it/flags.rs. Prints what was answered as JSON.

import { OpenFeature } from '@openfeature/server-sdk';
import { OFREPProvider } from '@openfeature/ofrep-provider';
import { OpenFeature as Web } from '@openfeature/web-sdk';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';

const PATIENCE = 20_000;

const [base, token] = process.argv.slice(2);
if (!base || !token) {
  console.error('usage: node flags.mjs BASE TOKEN');
  process.exit(2);
}

const timeout = setTimeout(() => fail('timeout'), PATIENCE);
const headers = [['Authorization', `Bearer ${token}`]];

function fail(message) {
  console.error(message);
  process.exit(1);
}

async function server() {
  await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: base, headers }));
  const client = OpenFeature.getClient();
  const context = { targetingKey: 'user-1', country: 'AT' };
  return {
    boolean: await client.getBooleanDetails('sdk-boolean', false, context),
    string: await client.getStringDetails('sdk-string', 'fallback', context),
    number: await client.getNumberDetails('sdk-number', 0, context),
    object: await client.getObjectDetails('sdk-object', {}, context),
    // What goes wrong is told in the SDK's own words, and its caller's default is the value.
    unknown: await client.getBooleanDetails('sdk-unknown', true, context),
    mismatch: await client.getStringDetails('sdk-boolean', 'fallback', context),
  };
}

async function web() {
  const statuses = [];
  const fetchImplementation = async (request) => {
    const response = await fetch(request);
    statuses.push(response.status);
    return response;
  };
  const options = { baseUrl: base, headers, fetchImplementation, pollInterval: 100, cacheMode: 'disabled' };
  await Web.setContext({ targetingKey: 'user-1', country: 'AT' });
  await Web.setProviderAndWait(new OFREPWebProvider(options));
  const client = Web.getClient();
  const first = client.getBooleanDetails('sdk-boolean', false);
  // It polls with the entity tag, and keeps what it has.
  while (statuses.length < 3) await new Promise((resolve) => setTimeout(resolve, 20));
  const second = client.getBooleanDetails('sdk-boolean', false);
  const string = client.getStringDetails('sdk-string', 'fallback');
  await Web.clearProviders();
  return { statuses: statuses.slice(0, 3), first, second, string };
}

try {
  console.log(JSON.stringify({ server: await server(), web: await web() }));
} catch (error) {
  fail(error.stack ?? String(error));
}
clearTimeout(timeout);
process.exit(0);
