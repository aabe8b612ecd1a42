// node cloudevents.mjs BASE TOKEN TENANT: the CloudEvents SDK of npm sends an event in binary mode, in structured mode, and a batch, and what it
// sends twice is a duplicate. Prints what each was answered as JSON.

import { CloudEvent, emitterFor, httpTransport, HTTP, Mode } from 'cloudevents';

const [base, token, tenant] = process.argv.slice(2);
if (!base || !token || !tenant) {
  console.error('usage: node cloudevents.mjs BASE TOKEN TENANT');
  process.exit(2);
}

const target = `${base}/api/v1/usage/events`;
const headers = { authorization: `Bearer ${token}` };
const event = (id, quantity) =>
  new CloudEvent({ id, source: '/stock', type: 'api_calls', tenantid: tenant, data: { quantity } });

async function post(message) {
  const body = typeof message.body === 'string' ? message.body : JSON.stringify(message.body);
  const answer = await fetch(target, { method: 'POST', headers: { ...message.headers, ...headers }, body });
  return { status: answer.status, body: await answer.json() };
}

const emitted = [];
for (const mode of [Mode.BINARY, Mode.STRUCTURED]) {
  const emit = emitterFor(httpTransport(target), { mode });
  const answer = await emit(event(`emitted-${mode}`, 1.5), { headers });
  emitted.push(JSON.parse(answer.body));
}
const answers = [];
for (const id of ['one', 'one']) answers.push(await post(HTTP.binary(event(id, 10))));
answers.push(await post(HTTP.structured(event('one', 10))));
answers.push(
  await post({
    headers: { 'content-type': 'application/cloudevents-batch+json' },
    body: JSON.stringify([event('one', 10), event('two', 100)]),
  }),
);
console.log(JSON.stringify({ emitted, answers }));
