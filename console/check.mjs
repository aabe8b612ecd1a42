// Tries GraphiQL of a running server in a real browser: node check.mjs BASE TOKEN [--subscription DOCUMENT] [--picture FILE]
// TOKEN may list tenants. With --subscription its first event must come within ten seconds of pressing Run.
// Exit 0: all well. 1: what failed is printed. 77: no browser here (apt-get install chromium, or CHROMIUM=path).
import { existsSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { chromium } from 'playwright-core'

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { subscription: { type: 'string' }, picture: { type: 'string' } },
})
const [base, token] = positionals
if (!token) throw new Error('usage: node check.mjs BASE TOKEN [--subscription DOCUMENT] [--picture FILE]')

const executablePath = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(
  file => file && existsSync(file),
)
if (!executablePath) {
  console.log('skipped: no chromium')
  process.exit(77)
}

const faults = []
const expect = (holds, fault) => holds || faults.push(fault)
const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--no-first-run'],
})
try {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 } })
  const requests = []
  page.context().on('request', request => requests.push(request))
  page.on('pageerror', error => faults.push(`script error: ${error.message}`))
  page.on('console', message => {
    if (/Content Security Policy|Refused to/i.test(message.text())) faults.push(`policy: ${message.text()}`)
  })
  await page.addInitScript(() =>
    document.addEventListener('securitypolicyviolation', violation =>
      console.error(`Content Security Policy: ${violation.violatedDirective} ${violation.blockedURI}`),
    ),
  )
  page.setDefaultTimeout(20_000)
  const answer = () => page.locator('.graphiql-response').innerText()
  const answerHas = text =>
    page.waitForFunction(t => document.querySelector('.graphiql-response')?.innerText.includes(t), text, { timeout: 10_000 })
  const run = async () => {
    await page.click('.graphiql-execute-button')
    const item = page.locator('[role=menuitem]').first() // of several operations, the first
    if (await item.isVisible()) await item.click()
  }

  // Without a token the page says where it goes, and reads the schema as soon as it is there.
  await page.goto(`${base}/graphiql`)
  await page.waitForSelector('.schema-hint')
  await page.click('.graphiql-editor-tool .graphiql-editor:not(.hidden) .view-lines')
  for (const key of ['Control+End', 'ArrowUp', 'End', 'ArrowLeft']) await page.keyboard.press(key)
  await page.keyboard.insertText(token) // between "Bearer " and its closing quote
  await page.waitForSelector('.schema-hint', { state: 'detached' })

  // In a fresh tab the address alone makes it ready.
  await page.evaluate(() => sessionStorage.clear())
  await page.goto('about:blank')
  const start = Date.now()
  await page.goto(`${base}/graphiql#token=${encodeURIComponent(token)}`)
  await page.waitForSelector('.graphiql-query-editor .view-lines')
  const ready = Date.now() - start
  expect(page.url() === `${base}/graphiql`, `the token is still in the address: ${page.url()}`)
  const headers = async () => (await page.locator('.graphiql-editors').innerText()).replaceAll('\u00a0', ' ')
  await page.waitForFunction(() => document.querySelector('.graphiql-editors')?.innerText.includes('Authorization'))
  expect((await headers()).includes('Bearer'), 'the token is not in the headers editor')

  await page.click('button[aria-label="Show Documentation Explorer"]')
  await page.waitForSelector('.graphiql-doc-explorer-root-type, .graphiql-doc-explorer-section-title')
  await page.click('button[aria-label="Show GraphiQL Explorer"]')
  await page.waitForSelector('.graphiql-explorer-root')

  await run()
  await answerHas('tenants')
  expect(!(await answer()).includes('"errors"'), `the default query failed: ${await answer()}`)
  if (values.picture) await page.screenshot({ path: values.picture })

  if (values.subscription) {
    await page.click('.graphiql-query-editor .view-lines')
    await page.keyboard.press('Control+A')
    await page.keyboard.insertText(values.subscription)
    await page.waitForTimeout(1500) // GraphiQL learns of the operation half a second after the edit
    await run()
    await answerHas('"data"').catch(async () => faults.push(`the subscription brought nothing: ${await answer()}`))
    expect(!(await answer()).includes('tenants'), 'the answer is still that of the query')
  }

  await page.reload()
  await page.waitForSelector('.graphiql-query-editor .view-lines')
  expect((await headers()).includes('Bearer'), 'a reload lost the token')
  const stored = await page.evaluate(() => JSON.stringify(localStorage))
  expect(!stored.includes(token), 'the token is in local storage, which outlives the tab')
  const foreign = requests.map(request => request.url()).filter(url => !url.startsWith(`${base}/`) && !/^(data|about):/.test(url))
  expect(foreign.length === 0, `requests to other hosts: ${foreign.join(' ')}`)
  expect(!requests.some(request => request.url().includes(token)), 'the token was in a request address')
  console.log(`graphiql: editor after ${ready} ms, ${requests.length} requests`)
} catch (error) {
  faults.push(error.message)
} finally {
  await browser.close()
}
for (const fault of faults) console.log(`FAILED ${fault}`)
process.exit(faults.length ? 1 : 0)
