// Builds the pages that the binary serves: `node build.mjs`, Node 18 or newer, no network.
// Every file but index.html has a hash in its name, and each text file lies beside its .gz and .br form.
import { build } from 'esbuild'
import { existsSync } from 'node:fs'
import { mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { brotliCompressSync, constants, gzipSync } from 'node:zlib'

const here = path.dirname(fileURLToPath(import.meta.url))
const BASE = '/graphiql/'
const OUT = path.join(here, 'dist/graphiql')
const STAGING = path.join(here, 'dist/graphiql.new')

const common = {
  absWorkingDir: here,
  bundle: true,
  minify: true,
  target: ['chrome111', 'firefox114', 'safari16.4'],
  define: { 'process.env.NODE_ENV': '"production"' },
  entryNames: '[name]-[hash]',
  chunkNames: '[name]-[hash]',
  assetNames: '[name]-[hash]',
  outdir: STAGING,
  metafile: true,
  legalComments: 'none', // whole licence texts go into one file instead
  logLevel: 'warning',
}

// Workers first: the page must know their hashed names.
async function buildWorkers() {
  const result = await build({
    ...common,
    format: 'iife',
    entryPoints: {
      'editor.worker': 'monaco-editor/esm/vs/editor/editor.worker.js',
      'graphql.worker': 'monaco-graphql/esm/graphql.worker.js',
      'json.worker': 'monaco-editor/esm/vs/language/json/json.worker.js',
    },
  })
  const addresses = {}
  for (const file of Object.keys(result.metafile.outputs)) {
    const name = path.basename(file)
    addresses[name.split('.')[0]] = BASE + name
  }
  return { metafile: result.metafile, addresses }
}

// GraphiQL's style sheet holds its fonts as base64. As files the browser loads only the few subsets that a page uses.
const styles = {
  name: 'styles',
  setup(builder) {
    builder.onLoad({ filter: /graphiql[\\/]dist[\\/]style\.css$/ }, async ({ path: file }) => {
      const css = await readFile(file, 'utf8')
      const fonts = []
      const contents = css.replace(/url\(data:font\/(\w+);base64,([^)]+)\)/g, (_, type, base64) => {
        const bytes = Buffer.from(base64, 'base64')
        const name = `font-${createHash('sha256').update(bytes).digest('hex').slice(0, 8)}.${type}`
        fonts.push(writeFile(path.join(STAGING, name), bytes))
        return `url(${BASE}${name})`
      })
      await Promise.all(fonts)
      return { contents, loader: 'css' }
    })
    // Monaco imports its styles from its modules; GraphiQL's sheet has them already.
    builder.onLoad({ filter: /monaco-editor[\\/].*\.css$/ }, () => ({ contents: '', loader: 'empty' }))
    builder.onResolve({ filter: /^\/graphiql\// }, ({ path: address }) => ({ path: address, external: true }))
  },
}

async function buildPage(addresses) {
  const result = await build({
    ...common,
    entryPoints: { main: 'graphiql/main.jsx' },
    format: 'esm',
    splitting: true,
    jsx: 'automatic',
    publicPath: BASE,
    define: { ...common.define, WORKERS: JSON.stringify(addresses) },
    plugins: [styles],
  })
  const [script, { cssBundle }] = Object.entries(result.metafile.outputs).find(([, output]) => output.entryPoint === 'graphiql/main.jsx')
  const page = (await readFile(path.join(here, 'graphiql/index.html'), 'utf8'))
    .replace('{{style}}', BASE + path.basename(cssBundle))
    .replace('{{script}}', BASE + path.basename(script))
  await writeFile(path.join(STAGING, 'index.html'), page)
  return result.metafile
}

// The licences of all that was bundled ask for their text to go with it.
async function writeLicences(...metafiles) {
  const folders = new Set()
  for (const input of metafiles.flatMap(metafile => Object.keys(metafile.inputs))) {
    const folder = input.match(/^.*node_modules\/(?:@[^/]+\/)?[^/]+/)?.[0]
    if (folder) folders.add(folder)
  }
  const parts = []
  for (const folder of [...folders].sort()) {
    const { name, version, license } = JSON.parse(await readFile(path.join(here, folder, 'package.json'), 'utf8'))
    const file = (await readdir(path.join(here, folder))).find(entry => /^licen[cs]e/i.test(entry))
    const text = file ? await readFile(path.join(here, folder, file), 'utf8') : ''
    parts.push(`${name} ${version} (${license})\n\n${text.trim()}\n`)
  }
  await writeFile(path.join(STAGING, 'licences.txt'), parts.join(`\n${'-'.repeat(80)}\n\n`))
}

async function compressAll() {
  const total = { files: 0, raw: 0, gzip: 0, brotli: 0 }
  for (const name of await readdir(STAGING)) {
    const bytes = await readFile(path.join(STAGING, name))
    total.files += 1
    total.raw += bytes.length
    if (/\.woff2?$/.test(name)) continue
    // 9 of 11: a tenth larger than the best, in a tenth of the time.
    const brotli = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 9, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } })
    const gzip = gzipSync(bytes, { level: 9 })
    total.gzip += gzip.length
    total.brotli += brotli.length
    await writeFile(path.join(STAGING, `${name}.gz`), gzip)
    await writeFile(path.join(STAGING, `${name}.br`), brotli)
  }
  return total
}

await rm(STAGING, { recursive: true, force: true })
await mkdir(STAGING, { recursive: true })
const workers = await buildWorkers()
const page = await buildPage(workers.addresses)
await writeLicences(workers.metafile, page)
const total = await compressAll()
// Only a complete bundle takes the old one's place.
if (existsSync(OUT)) await rm(OUT, { recursive: true })
await rename(STAGING, OUT)
const kB = bytes => `${Math.round(bytes / 1000)} kB`
console.log(`console: ${total.files} files, ${kB(total.raw)}; texts as gzip ${kB(total.gzip)}, as brotli ${kB(total.brotli)}`)
