// node subscribe.mjs BASE TOKEN: stock graphql-ws over BASE/graphql. A client without a token is refused, a query runs over
// the socket, and the event of a tenant made by POST arrives at a subscription. Prints that event as JSON.

import { randomBytes } from 'node:crypto';
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const PATIENCE = 10_000;
const PROBE_EVERY = 500;
const CREATE = 'mutation($slug: String!) { createTenant(input: {slug: $slug, name: $slug}) { tenant { id } } }';
const FOLLOW = 'subscription { tenantEvents { event sequence tenantId } }';

const [base, token] = process.argv.slice(2);
if (!base || !token) {
  console.error('usage: node subscribe.mjs BASE TOKEN');
  process.exit(2);
}

let doing = 'beginning';
// Keeps the process alive, too: one that has nothing left to wait for must not end as if all were well.
const timeout = setTimeout(() => fail(`timeout while ${doing}`), PATIENCE);

function fail(message) {
  console.error(message);
  process.exit(1);
}

// What a client is told may be the server's close event, a connection's error event or a plain error.
function describe(error) {
  if (error.code && error.reason !== undefined) return `closed with ${error.code} ${error.reason}`;
  const message = error.message || JSON.stringify(error);
  return error.cause ? `${message}: ${error.cause.message}` : message;
}

function connect(connectionParams) {
  return createClient({
    url: `${base.replace(/^http/, 'ws')}/graphql`,
    webSocketImpl: WebSocket,
    retryAttempts: 0,
    connectionParams,
  });
}

// What the client is told when its operation cannot run: the server's close event.
async function refusal(client, query) {
  try {
    for await (const result of client.iterate({ query })) {
      return { answered: result };
    }
    return { answered: null };
  } catch (error) {
    return { code: error.code, reason: describe(error) };
  }
}

async function createTenant() {
  const slug = `client-${randomBytes(6).toString('hex')}`;
  const response = await fetch(`${base}/graphql`, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ query: CREATE, variables: { slug } }),
  });
  const { data, errors } = await response.json();
  if (errors) throw new Error(`createTenant: ${JSON.stringify(errors)}`);
  return data.createTenant.tenant.id;
}

// The events of a subscription as they arrive, to be waited for by tenant.
function follow(client) {
  const created = new Map();
  const waiting = new Map();
  let disposed = false;
  const complete = client.subscribe(
    { query: FOLLOW },
    {
      next({ data, errors }) {
        if (errors) fail(`tenantEvents: ${JSON.stringify(errors)}`);
        const event = data.tenantEvents;
        if (event.event !== 'TenantCreated') return;
        created.set(event.tenantId, event);
        const told = waiting.get(event.tenantId);
        if (told) told(event);
      },
      error: (error) => fail(`tenantEvents: ${describe(error)}`),
      complete: () => disposed || fail('tenantEvents: completed by the server'),
    },
  );
  const arrival = (id) =>
    created.has(id) ? Promise.resolve(created.get(id)) : new Promise((resolve) => waiting.set(id, resolve));
  const dispose = () => {
    disposed = true;
    complete();
  };
  return { created, arrival, dispose };
}

const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

async function main() {
  doing = 'connecting without a token';
  const refused = await refusal(connect(), '{ __typename }');
  if (refused.code !== 4403) fail(`a client without a token: ${JSON.stringify(refused)}, must be closed with 4403`);

  doing = 'asking over the socket';
  const client = connect({ Authorization: `Bearer ${token}` });
  const answers = [];
  for await (const result of client.iterate({ query: '{ __typename }' })) answers.push(result);
  if (answers.length !== 1 || answers[0].errors || typeof answers[0].data?.__typename !== 'string') {
    fail(`a query over the socket: ${JSON.stringify(answers)}`);
  }

  // The protocol does not tell when a subscription has begun, and events from before are none of it: the first event tells.
  // From then on, nothing may be missed.
  doing = 'waiting for a first event';
  const events = follow(client);
  while (events.created.size === 0) {
    await createTenant();
    await pause(PROBE_EVERY);
  }

  doing = 'waiting for TenantCreated';
  const id = await createTenant();
  const received = await events.arrival(id);
  console.log(JSON.stringify({ received }));

  doing = 'closing';
  events.dispose();
  await client.dispose();
  clearTimeout(timeout);
}

main().catch((error) => fail(`${doing}: ${describe(error)}`));
