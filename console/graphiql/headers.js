// Where the headers, and so the token, live: in the editor, and in this browser tab's session storage for a reload.
// Never in local storage, which outlives the tab.
const KEY = 'tenantry.graphiql.headers'

const withToken = token => JSON.stringify({ Authorization: `Bearer ${token}` }, null, 2)
const HINT = `// Put a token of \`tenantry token\` here:\n${withToken('')}`

export const keepHeaders = text => sessionStorage.setItem(KEY, text)
export const keptHeaders = () => sessionStorage.getItem(KEY) ?? HINT

// `/graphiql#token=…`: a fragment never reaches the server; it leaves the address bar and the history as soon as it is read.
// Answers whether there was one.
export function takeTokenFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get('token')?.trim()
  if (!token) return false
  history.replaceState(history.state, '', location.pathname + location.search)
  keepHeaders(withToken(token))
  return true
}

// For what is sent before the editor is there; it allows comments.
export function headersToSend() {
  try {
    return JSON.parse(keptHeaders().replace(/^\s*\/\/.*$/gm, ''))
  } catch {
    return {}
  }
}

// GraphiQL's history keeps the headers of every operation. Here it keeps none, and an operation chosen from it gets
// the present ones instead of an empty editor.
const LISTS = { 'graphiql:queries': 'queries', 'graphiql:favorites': 'favorites' }

function mapHeaders(key, text, headers) {
  const list = LISTS[key]
  if (!list || !text) return text
  return JSON.stringify({ [list]: JSON.parse(text)[list].map(item => ({ ...item, headers })) })
}

export const storage = {
  getItem: key => mapHeaders(key, localStorage.getItem(key), keptHeaders()),
  setItem: (key, text) => localStorage.setItem(key, mapHeaders(key, text, undefined)),
  removeItem: key => localStorage.removeItem(key),
  clear: () => Object.keys(localStorage).filter(key => key.startsWith('graphiql:')).forEach(key => localStorage.removeItem(key)),
  get length() {
    return localStorage.length
  },
}
