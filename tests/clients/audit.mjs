// node audit.mjs BASE TOKEN: runs graphql-http's audit of the GraphQL-over-HTTP specification against BASE/graphql.
// Prints a line per audit that is not ok, then the counts as JSON; fails where a MUST is not kept.

import { serverAudits } from 'graphql-http';

const PATIENCE = 10_000;

const [base, token] = process.argv.slice(2);
if (!base || !token) {
  console.error('usage: node audit.mjs BASE TOKEN');
  process.exit(2);
}

const audits = serverAudits({
  url: `${base}/graphql`,
  fetchFn: (url, options = {}) =>
    fetch(url, {
      ...options,
      headers: { ...options.headers, authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(PATIENCE),
    }),
});

// An audit throws only where there was no answer to judge.
async function run({ id, name, fn }) {
  try {
    return await fn();
  } catch (error) {
    const reason = error.cause ? `${error.message}: ${error.cause.message}` : String(error);
    return { id, name, status: 'error', reason };
  }
}

const counts = { total: audits.length, ok: 0, notice: 0, warn: 0, error: 0 };
for (const audit of audits) {
  const result = await run(audit);
  counts[result.status] += 1;
  if (result.status !== 'ok') {
    const got = result.response ? `, got ${result.response.status}` : '';
    console.log(`${result.id} ${result.name}: ${result.status}: ${result.reason}${got}`);
  }
}
console.log(JSON.stringify(counts));
process.exitCode = counts.total === 0 || counts.error > 0 ? 1 : 0;
