// What postgres.js sees of a server: one line a check, nothing in it that changes
// from run to run.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { inspect } from 'node:util'

const postgres = createRequire(process.env.DRIVER_MODULES + '/')('postgres')
const schema = process.env.DRIVER_SCHEMA
let sql
let notices = []

const open = more => postgres({
  host: process.env.PGHOST, port: process.env.PGPORT, database: process.env.PGDATABASE, username: process.env.PGUSER,
  max: 1, ssl: false, connect_timeout: 60, max_lifetime: null,
  connection: { application_name: 'postgres.js', search_path: `${schema},public`, lock_timeout: '60s' },
  onnotice: n => notices.push(`${n.severity} ${n.code} ${n.message}|${n.detail}|${n.hint}`),
  ...more,
})

async function session(more) {
  if (sql) await sql.end({ timeout: 5 })
  sql = open(more)
}

const lines = name => readFileSync(`${process.env.DRIVER_FILES}/${name}`, 'utf8').split('\n').filter(l => l)
const show = v => inspect(v, { depth: 9, breakLength: Infinity, maxArrayLength: 300, maxStringLength: 2000 })

function error(e) {
  if (!e.severity) return `${e.name} ${e.code} ${e.message.replace(/:\d+$/, '')}`
  return [e.severity, e.code, e.message, e.detail, e.hint, e.position, e.schema_name, e.table_name, e.column_name, e.constraint_name, e.type_name, e.where, e.routine]
    .map(x => x ?? '').join('|').replaceAll('\n', '\\n')
}

async function check(name, run) {
  let value
  try {
    value = await run()
    if (typeof value !== 'string') value = show(value)
  } catch (e) {
    value = 'ERROR ' + error(e)
  }
  const said = notices.map(n => ` NOTICE ${n}`).join('')
  notices = []
  console.log(`${name}: ${value}${said}`)
}

const result = r => `${r.command} ${r.count} ${show((r.columns ?? []).map(c => [c.name, c.type < 16384 ? c.type : 'own']))} ${show([...r])}`
const execute = text => sql.unsafe(text).then(r => Array.isArray(r[0]) && r[0].command !== undefined ? r.map(result).join(' ; ') : result(r))
const pause = ms => new Promise(done => setTimeout(done, ms))

await session()
for (const file of ['steps.tsv', 'styles.tsv']) {
  await session()
  for (const line of lines(file)) {
    if (line.startsWith('#')) {
      await session()
      continue
    }
    const [name, text] = line.split('\t')
    await check(name, () => execute(text))
  }
}
await session()
for (const line of lines('types.tsv')) {
  const [name, expr] = line.split('\t')
  await check(`simple ${name}`, () => execute(`SELECT ${expr}`))
  await check(`prepared ${name}`, async () => result(await sql.unsafe(`SELECT ${expr}`, [], { prepare: true })))
}
for (const [name, value] of Object.entries({ bool: true, int: -5, float: 1.5, text: 'naïve 漢字 🐘', null: null, date: new Date(1704164645006) })) {
  await check(`parameter ${name}`, async () => result(await sql`SELECT ${value} AS a`))
}
await check('parameter bytes', async () => result(await sql`SELECT ${Buffer.from([0, 255, 39])}::bytea AS a`))
await check('parameter json', async () => result(await sql`SELECT ${sql.json({ a: [1, null] })} AS a`))
await check('parameter array', async () => result(await sql`SELECT ${sql.array([1, 2, 3])} AS a, ${sql.array(['a', 'b"c'])} AS b`))
await check('parameter rows', async () => result(await sql`INSERT INTO pair ${sql([{ a: 1, b: 'object' }, { a: 2, b: 'object' }])} RETURNING a, b`))

await session()
await check('prepared_many', async () => {
  let total = 0
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 60; i++) total += (await sql.unsafe(`SELECT $1::int + ${i} AS n`, [1], { prepare: true }))[0].n
    total += await sql.begin(async tx => {
      let n = 0
      for (let i = 0; i < 60; i += 7) n += (await tx.unsafe(`SELECT $1::int + ${i} AS n`, [1], { prepare: true }))[0].n
      return n
    })
  }
  return total
})
await check('unprepared', async () => {
  const plain = open({ prepare: false })
  const got = []
  for (let i = 0; i < 10; i++) got.push((await plain`SELECT ${i}::int AS n`)[0].n)
  await plain.end()
  return got
})
await check('prepared_error', () => sql`SELECT 1 / ${0}::int`)
await check('prepared_after_error', async () => result(await sql`SELECT 1 / ${1}::int`))
await check('prepared_missing', () => sql`SELECT * FROM missing WHERE a = ${1}`)
await check('describe', async () => {
  const d = await sql`SELECT id, name FROM item WHERE id = ${1}`.describe()
  return [d.types, d.columns.map(c => [c.name, c.type])]
})

await session()
await check('pipelined', async () => (await Promise.all(Array.from({ length: 80 }, (_, i) => sql`SELECT ${i}::int AS n`))).reduce((s, r) => s + r[0].n, 0))
await check('pipelined_fails', async () => (await Promise.allSettled([sql`SELECT 1 AS a`, sql`SELECT 1 / ${0}::int`, sql`SELECT 2 AS a`]))
  .map(r => r.status === 'fulfilled' ? [...r.value] : error(r.reason)))
await check('pipelined_transaction', () => sql.begin(tx => Promise.all([tx`INSERT INTO pair VALUES (1, 'piped')`, tx`INSERT INTO pair VALUES (2, 'piped')`, tx`SELECT count(*) FROM pair WHERE b = 'piped'`])).then(all => all.map(result)))
await check('pipelined_transaction_fails', () => sql.begin(tx => Promise.all([tx`INSERT INTO pair VALUES (3, 'piped')`, tx`SELECT 1 / ${0}::int`, tx`INSERT INTO pair VALUES (4, 'piped')`])))
await check('pipelined_seen', async () => result(await sql`SELECT array_agg(a ORDER BY a) FROM pair WHERE b = 'piped'`))
await check('several_statements', () => execute("SELECT 1; SELECT 'two', 3; INSERT INTO pair VALUES (1, 'several')"))
await check('several_fail', () => execute("INSERT INTO pair VALUES (2, 'several'); SELECT 1 / 0"))
await check('several_undone', () => execute("SELECT count(*) FROM pair WHERE b = 'several'"))
await check('empty_statement', () => execute(''))

await session()
await check('copy_in', async () => {
  await pipeline(Readable.from(Array.from({ length: 1000 }, (_, i) => `${i}\trow ${i}\n`)), await sql`COPY pair FROM STDIN`.writable())
  return execute("SELECT count(*), sum(a) FROM pair WHERE b LIKE 'row%'")
})
async function copied(query) {
  const parts = []
  for await (const chunk of await sql.unsafe(query).readable()) parts.push(chunk)
  return Buffer.concat(parts)
}
await check('copy_out', async () => (await copied("COPY (SELECT * FROM pair WHERE b LIKE 'row%' ORDER BY a LIMIT 5) TO STDOUT")).toString())
await check('copy_out_binary', async () => (await copied("COPY (SELECT 1::int, 'x'::text, NULL) TO STDOUT (FORMAT BINARY)")).toString('hex'))
// More rows at once than its stream buffers leave its socket paused for ever.
await check('copy_out_many', async () => (await copied("COPY (SELECT i, 'x' FROM generate_series(1, 200) i) TO STDOUT")).length)
await check('copy_after', () => execute("SELECT 'usable'"))

await session()
let heard = []
async function taken(n, patience = 5000) {
  for (let waited = 0; heard.length < n && waited < patience; waited += 20) await pause(20)
  const got = heard
  heard = []
  return got
}
const listening = await sql.listen(schema, payload => heard.push(payload))
await check('notify_self', async () => { await sql.notify(schema, 'to myself'); return taken(1) })
await check('notify_other', async () => {
  const o = open()
  await o.notify(schema, 'from another')
  await o.end()
  return taken(1)
})
await check('notify_transaction', async () => {
  await sql.begin(async tx => { for (let i = 0; i < 5; i++) await tx.unsafe(`NOTIFY ${schema}, '${i}'`) })
  return taken(5)
})
await check('notify_rolled_back', async () => {
  await sql.begin(async tx => { await tx.unsafe(`NOTIFY ${schema}, 'never'`); throw new Error('back') }).catch(() => {})
  await sql.notify(schema, 'only this')
  return taken(1)
})
await listening.unlisten()
await check('unlisten', async () => { await sql.notify(schema, 'unheard'); return taken(1, 300) })

await session()
async function cancelled() {
  const q = sql`SELECT pg_sleep(30)`
  const said = q.then(() => 'not cancelled', error)
  await pause(300)
  q.cancel()
  return said
}
await check('cancel', cancelled)
await check('cancel_after', () => execute("SELECT 'usable'"))
await check('cancel_again', cancelled)
await pause(200)
await check('cancel_again_after', () => execute("SELECT 'usable'"))

await session()
await check('cursor', async () => {
  const got = []
  for await (const rows of sql`SELECT i FROM generate_series(1, 50) i`.cursor(7)) got.push(rows.map(r => r.i).reduce((a, b) => a + b))
  return got
})
await check('cursor_left', async () => {
  let n = 0
  for await (const _ of sql`SELECT i FROM generate_series(1, 500) i`.cursor(10)) if (++n === 3) break
  return [n, await execute("SELECT 'usable'")]
})
await check('cursor_breaks', async () => {
  for await (const _ of sql`SELECT 1 / (30 - i) FROM generate_series(1, 50) i`.cursor(10)) { /* until it breaks */ }
})
await check('for_each', async () => {
  let sum = 0
  await sql`SELECT i FROM generate_series(1, 3000) i`.forEach(r => { sum += r.i })
  return sum
})
await check('savepoints', async () => {
  const said = []
  await sql.begin(async tx => {
    await tx`INSERT INTO pair VALUES (1, 'nested')`
    await tx.savepoint(async s => { await s`INSERT INTO pair VALUES (2, 'nested')`; await s`SELECT 1 / ${0}::int` }).catch(e => said.push(error(e)))
    await tx.savepoint(async s => { await s`INSERT INTO pair VALUES (3, 'nested')` })
  })
  return [said, await execute("SELECT array_agg(a ORDER BY a) FROM pair WHERE b = 'nested'")]
})
await check('transaction_modes', () => sql.begin('isolation level serializable read only', tx => tx`SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')`.then(result)))
await check('two_phase', async () => {
  await sql.begin(async tx => { await tx`INSERT INTO pair VALUES (1, 'prepared')`; await tx.prepare(schema) })
  await sql.unsafe(`COMMIT PREPARED '${schema}'`)
  return execute("SELECT count(*) FROM pair WHERE b = 'prepared'")
})
await check('reserved', async () => {
  const r = await sql.reserve()
  await r`SET work_mem TO '9MB'`
  const got = (await r`SHOW work_mem`)[0]
  await r`RESET work_mem`
  r.release()
  return got
})
await check('notice', () => execute("SELECT says('heard')"))

await session()
await check('large_values', async () => {
  const b = Buffer.alloc(4 << 20, 'a b\0c')
  const s = 'é漢'.repeat(1 << 20)
  await sql`INSERT INTO wide VALUES (1, ${b}, ${s})`
  const [row] = await sql`SELECT b, t, length(t) AS l FROM wide WHERE b = ${b}`
  return [row.b.equals(b), row.t === s, row.l]
})
await check('large_rows', async () => (await sql`SELECT repeat('y', 100) AS y FROM generate_series(1, 30000)`).reduce((n, r) => n + r.y.length, 0))
await check('many_small', async () => {
  let sum = 0
  for (let i = 0; i < 500; i++) sum += (await sql`SELECT ${i}::int AS n`)[0].n
  return sum
})
await check('pool', async () => {
  const pool = open({ max: 5 })
  const all = await Promise.all(Array.from({ length: 60 }, (_, i) => i % 6 ? pool`SELECT ${i}::int AS n` : pool.begin(tx => tx`SELECT ${i}::int AS n`)))
  await pool.end()
  return all.reduce((s, r) => s + r[0].n, 0)
})
await sql.end()
