import './style.css'
import './workers.js'

import { explorerPlugin } from '@graphiql/plugin-explorer'
import { useGraphiQL, useGraphiQLActions } from '@graphiql/react'
import { createGraphiQLFetcher } from '@graphiql/toolkit'
import { GraphiQL, HISTORY_PLUGIN } from 'graphiql'
import { createClient } from 'graphql-ws'
import { useEffect } from 'react'
import { createRoot } from 'react-dom/client'

import { headersToSend, keepHeaders, keptHeaders, storage, takeTokenFromAddress } from './headers.js'

const QUERY = `# The first ten tenants. Press Run, or Ctrl+Enter.
query Tenants {
  tenants(first: 10) {
    edges {
      node {
        id
        slug
        name
        status
      }
    }
    pageInfo {
      hasNextPage
      endCursor
    }
  }
}
`

const url = new URL('/graphql', location.href).href

// A browser cannot set headers on a WebSocket: subscriptions carry those of the headers editor in `connection_init`.
// The socket is closed after its last subscription, so the next one authorises anew.
let headers = {}
const wsClient = createClient({ url: url.replace(/^http/, 'ws'), lazy: true, connectionParams: () => headers })
const send = createGraphiQLFetcher({ url, wsClient, enableIncrementalDelivery: false })

// GraphiQL asks for the schema before its headers editor is there.
function fetcher(request, options) {
  const named = Object.entries(options?.headers ?? headersToSend())
  headers = Object.fromEntries(named.map(([name, value]) => [/^authorization$/i.test(name) ? 'Authorization' : name, value]))
  return send(request, { ...options, headers })
}

// Keeps the headers for a reload, fetches the schema once they let it, and says what is missing until then.
function SchemaHint() {
  const editor = useGraphiQL(state => state.headerEditor)
  const schema = useGraphiQL(state => state.schema)
  const refused = useGraphiQL(state => state.fetchError)
  const { introspect } = useGraphiQLActions()

  useEffect(() => {
    let timer
    const listener = editor?.onDidChangeModelContent(() => {
      keepHeaders(editor.getValue())
      clearTimeout(timer)
      if (!schema) timer = setTimeout(introspect, 500)
    })
    return () => {
      clearTimeout(timer)
      listener?.dispose()
    }
  }, [editor, schema, introspect])

  return refused && !schema ? (
    <div className="schema-hint">
      The schema could not be read. Put a token into <b>Headers</b>: <code>{'{"Authorization": "Bearer …"}'}</code>
    </div>
  ) : null
}

takeTokenFromAddress()
// Such an address opened in a tab that shows this page already.
addEventListener('hashchange', () => takeTokenFromAddress() && location.reload())
createRoot(document.getElementById('root')).render(
  <GraphiQL
    fetcher={fetcher}
    plugins={[HISTORY_PLUGIN, explorerPlugin()]}
    defaultQuery={QUERY}
    defaultHeaders={keptHeaders()}
    initialHeaders={keptHeaders()}
    defaultEditorToolsVisibility="headers"
    shouldPersistHeaders={false}
    storage={storage}
  >
    <GraphiQL.Footer>
      <SchemaHint />
    </GraphiQL.Footer>
  </GraphiQL>,
)
