// The editor's three workers. `build.mjs` bundles each by itself and puts its address here; all are of this origin,
// so the page needs no blob: in its policy.
const addresses = { editorWorkerService: WORKERS.editor, graphql: WORKERS.graphql, json: WORKERS.json }

globalThis.MonacoEnvironment = {
  getWorker: (_id, label) => new Worker(addresses[label] ?? WORKERS.editor, { name: label }),
}
