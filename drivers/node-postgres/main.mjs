// What node-postgres sees of a server: one line a check, nothing in it that changes
// from run to run.
import { createRequire } from 'node:module'
import { readFileSync } from 'node:fs'
import { pipeline as stream } from 'node:stream/promises'
import { Readable, Writable } from 'node:stream'
import { inspect } from 'node:util'

const require = createRequire(process.env.DRIVER_MODULES + '/')
const pg = require('pg')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')

const schema = process.env.DRIVER_SCHEMA
const settings = { application_name: 'node-postgres', options: process.env.PGOPTIONS }
let client
let notices = []

async function connect() {
  const c = new pg.Client(settings)
  await c.connect()
  return c
}

// session begins a new session.
async function session() {
  if (client) await client.end()
  client = await connect()
  client.on('notice', n => notices.push(`${n.severity} ${n.code} ${n.message}|${n.detail}|${n.hint}`))
}

function lines(name) {
  return readFileSync(`${process.env.DRIVER_FILES}/${name}`, 'utf8').split('\n').filter(l => l)
}

const show = v => inspect(v, { depth: 9, breakLength: Infinity, maxArrayLength: 300, maxStringLength: 2000 })

function error(e) {
  if (!e.code || !e.severity) return `${e.constructor.name} ${e.message}`
  return [e.severity, e.code, e.message, e.detail, e.hint, e.position, e.schema, e.table, e.column, e.constraint, e.dataType, e.where, e.routine]
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
  console.log(`${name}: ${value}`)
}

function result(r) {
  if (Array.isArray(r)) return r.map(result).join(' ; ')
  const fields = r.fields.map(f => [f.name, f.dataTypeID < 16384 ? f.dataTypeID : 'own', f.format])
  return `${r.command} ${r.rowCount} ${show(fields)} ${show(r.rows)}`
}

async function execute(text, values, more) {
  const r = await client.query({ text, values, rowMode: 'array', ...more })
  const said = notices.map(n => ` NOTICE ${n}`).join('')
  notices = []
  return result(r) + said
}

const pause = ms => new Promise(done => setTimeout(done, ms))

await session()
await check('facts', () => [client.processID > 0, client.secretKey !== null])
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
  await check(`text ${name}`, () => execute(`SELECT ${expr}`))
  await check(`extended ${name}`, () => execute(`SELECT ${expr}`, []))
  if (name !== 'enum_array') await check(`binary ${name}`, () => execute(`SELECT ${expr}`, [], { binary: true }))
}
for (const [name, value] of Object.entries({
  bool: true, int: -5, float: 1.5, nan: NaN, infinity: -Infinity, text: 'naïve 漢字 🐘', bytes: Buffer.from([0, 255, 39]),
  date: new Date(1704164645006), list: [1, 2, null], texts: ['a', 'b"c', null], object: { a: [1, null] }, null: null, big: 2n ** 60n,
})) {
  await check(`parameter ${name}`, () => execute('SELECT $1 AS a', [value]))
}

await session()
await check('prepared_many', async () => {
  let total = 0
  for (let round = 0; round < 4; round++) {
    for (let i = 0; i < 60; i++) {
      total += (await client.query({ name: `many ${i}`, text: `SELECT $1::int + ${i} AS n`, values: [1] })).rows[0].n
    }
    await client.query('BEGIN')
    for (let i = 0; i < 60; i += 7) total += (await client.query({ name: `many ${i}`, text: `SELECT $1::int + ${i} AS n`, values: [1] })).rows[0].n
    await client.query('COMMIT')
  }
  return total
})
await check('prepared_error', () => execute('SELECT 1 / $1::int', [0], { name: 'divide' }))
await check('prepared_after_error', () => execute('SELECT 1 / $1::int', [1], { name: 'divide' }))
await check('prepared_no_table', () => execute('SELECT * FROM missing WHERE a = $1', [1], { name: 'missing' }))
await check('prepared_no_table_again', () => execute('SELECT * FROM missing WHERE a = $1', [1], { name: 'missing' }))
await check('prepared_rolled_back', async () => {
  await client.query('BEGIN')
  const inside = await execute('SELECT $1::text AS t', ['x'], { name: 'rolled' })
  await client.query('ROLLBACK')
  return [inside, await execute('SELECT $1::text AS t', ['y'], { name: 'rolled' })]
})
await check('prepared_types', async () => [
  await execute('SELECT * FROM item WHERE name = $1', ['first'], { name: 'find' }),
  await execute('SELECT $1::place, $2::colour, $3::vector', ['(1,b,2)', 'red', '[1,2,3]'], { name: 'own types' }),
])

await session()
await check('queued', async () => {
  const all = await Promise.all(Array.from({ length: 50 }, (_, i) => client.query('SELECT $1::int AS n', [i])))
  return all.reduce((sum, r) => sum + r.rows[0].n, 0)
})
await check('queued_fails', async () => {
  const all = await Promise.allSettled([client.query('SELECT 1 AS a'), client.query('SELECT 1 / $1::int', [0]), client.query('SELECT 2 AS a')])
  return all.map(r => r.status === 'fulfilled' ? r.value.rows : error(r.reason))
})
await check('several_statements', () => execute("SELECT 1; SELECT 'two', 3; INSERT INTO pair VALUES (1, 'several'); SELECT count(*) FROM pair WHERE b = 'several'"))
await check('several_fail', () => execute("INSERT INTO pair VALUES (2, 'several'); SELECT 1 / 0"))
await check('several_undone', () => execute("SELECT count(*) FROM pair WHERE b = 'several'"))
await check('empty_statement', () => execute(''))
await check('empty_extended', () => execute('', [1]))
await check('too_few_parameters', () => execute('SELECT $1::int, $2::int', [1]))
await check('bad_parameter', () => execute('SELECT $1::int', ['abc']))

await session()
const copy = async (query, chunks) => { await stream(Readable.from(chunks), client.query(copyFrom(query))) }
async function copied(query) {
  const parts = []
  await stream(client.query(copyTo(query)), new Writable({ write(chunk, _, done) { parts.push(chunk); done() } }))
  return Buffer.concat(parts)
}
await check('copy_in', () => copy('COPY pair FROM STDIN', Array.from({ length: 1000 }, (_, i) => `${i}\trow ${i}\n`)))
await check('copy_in_seen', () => execute("SELECT count(*), sum(a) FROM pair WHERE b LIKE 'row%'"))
await check('copy_out', async () => (await copied("COPY (SELECT * FROM pair WHERE b LIKE 'row%' ORDER BY a LIMIT 5) TO STDOUT")).toString())
await check('copy_out_binary', async () => (await copied("COPY (SELECT 1::int, 'x'::text, NULL) TO STDOUT (FORMAT BINARY)")).toString('hex'))
await check('copy_out_large', async () => (await copied("COPY (SELECT i, repeat('x', 50) FROM generate_series(1, 40000) i) TO STDOUT")).length)
await check('copy_breaks', () => copy('COPY pair FROM STDIN', ['1\tfine\nnot a number\tbroken\n', '2\tmore\n'.repeat(20000)]))
await check('copy_out_breaks', async () => (await copied('COPY (SELECT 1 / (5000 - i) FROM generate_series(1, 6000) i) TO STDOUT')).length)
await check('copy_given_up', () => copy('COPY pair FROM STDIN', (async function * () { yield '1\tgiven up\n'; throw new Error("the program's own") })()))
await check('copy_after', () => execute("SELECT count(*) FROM pair WHERE b IN ('fine', 'given up', 'more')"))
await check('copy_in_transaction', async () => {
  await client.query('BEGIN')
  await copy('COPY pair FROM STDIN', ['1\tundone\n'])
  await client.query('ROLLBACK')
  return execute("SELECT count(*) FROM pair WHERE b = 'undone'")
})

await session()
let heard = []
const listen = () => client.on('notification', n => heard.push([n.channel === schema, n.payload, n.processId === client.processID]))
async function taken(n, patience = 5000) {
  for (let waited = 0; heard.length < n && waited < patience; waited += 20) await pause(20)
  const got = heard
  heard = []
  return got
}
async function other(run) {
  const c = await connect()
  await run(c)
  await c.end()
}
listen()
await check('notify_self', async () => {
  await client.query(`LISTEN ${schema}`)
  await client.query('SELECT pg_notify($1, $2)', [schema, 'to myself'])
  return taken(1)
})
await check('notify_other', async () => {
  await other(c => c.query(`NOTIFY ${schema}, 'from another'`))
  return taken(1)
})
await check('notify_transaction', async () => {
  await other(async c => {
    await c.query('BEGIN')
    for (let i = 0; i < 5; i++) await c.query('SELECT pg_notify($1, $2)', [schema, String(i)])
    await c.query('COMMIT')
  })
  return taken(5)
})
await check('notify_rolled_back', async () => {
  await other(async c => {
    await c.query('BEGIN')
    await c.query(`NOTIFY ${schema}, 'never'`)
    await c.query('ROLLBACK')
    await c.query(`NOTIFY ${schema}, 'only this'`)
  })
  return taken(1)
})
await check('notify_while_inside', async () => {
  await client.query('BEGIN')
  await other(c => c.query(`NOTIFY ${schema}, 'while inside'`))
  await pause(100)
  const inside = heard.length
  await client.query('COMMIT')
  return [inside, await taken(1)]
})
await check('unlisten', async () => {
  await client.query('UNLISTEN *')
  await client.query(`NOTIFY ${schema}, 'unheard'`)
  return taken(1, 300)
})

await session()
async function cancelled(text) {
  const { processID, secretKey } = client
  const running = client.query(text).then(() => 'not cancelled', error)
  await pause(300)
  const c = new pg.Connection({})
  const sent = new Promise(done => c.once('end', done))
  c.once('connect', () => c.cancel(processID, secretKey))
  c.on('error', () => {})
  c.connect(Number(process.env.PGPORT), process.env.PGHOST)
  await sent
  return running
}
await check('cancel', () => cancelled('SELECT pg_sleep(30)'))
await check('cancel_after', () => execute("SELECT 'usable'"))
await check('cancel_in_transaction', async () => {
  await client.query('BEGIN')
  const said = await cancelled('SELECT pg_sleep(30)')
  const inside = await client.query('SELECT 1').catch(error)
  await client.query('ROLLBACK')
  return [said, inside]
})
await check('query_timeout', async () => {
  await client.query("SET statement_timeout TO '100ms'")
  const said = await client.query('SELECT pg_sleep(5)').catch(error)
  await client.query('SET statement_timeout TO DEFAULT')
  return said
})

await session()
await check('cursor', async () => {
  const cursor = client.query(new Cursor('SELECT i FROM generate_series(1, 20) i WHERE i > $1', [2]))
  const first = await cursor.read(5)
  const second = await cursor.read(7)
  await cursor.close()
  return [first.map(r => r.i), second.map(r => r.i)]
})
await check('cursor_to_the_end', async () => {
  const cursor = client.query(new Cursor('SELECT i FROM generate_series(1, 25) i'))
  let n = 0
  for (let rows = await cursor.read(10); rows.length > 0; rows = await cursor.read(10)) n += rows.length
  await cursor.close()
  return n
})
await check('cursor_fails', async () => {
  const cursor = client.query(new Cursor('SELECT 1 / (3 - i) AS a FROM generate_series(1, 5) i'))
  const first = await cursor.read(2)
  const said = await cursor.read(2).catch(error)
  await cursor.close()
  return [first, said]
})
await check('cursor_in_transaction', async () => {
  await client.query('BEGIN')
  const cursor = client.query(new Cursor('SELECT i FROM generate_series(1, 9) i'))
  const first = await cursor.read(4)
  const rest = await cursor.read(10)
  await cursor.close()
  await client.query('COMMIT')
  return [first.length, rest.length]
})
await check('query_stream', async () => {
  let sum = 0
  for await (const row of client.query(new QueryStream('SELECT i FROM generate_series(1, 5000) i', [], { batchSize: 100 }))) sum += row.i
  return sum
})
await check('query_stream_left', async () => {
  let n = 0
  for await (const _ of client.query(new QueryStream('SELECT i FROM generate_series(1, 5000) i', [], { batchSize: 10 }))) if (++n === 25) break
  return [n, await execute("SELECT 'usable'")]
})

await session()
await check('savepoints', async () => {
  await client.query('BEGIN')
  await client.query("INSERT INTO pair VALUES (1, 'nested')")
  await client.query('SAVEPOINT s')
  const said = await client.query('SELECT 1 / $1::int', [0]).catch(error)
  await client.query('ROLLBACK TO s')
  await client.query("INSERT INTO pair VALUES (2, 'nested')")
  await client.query('COMMIT')
  return [said, await execute("SELECT array_agg(a ORDER BY a) FROM pair WHERE b = 'nested'")]
})
await check('notice_handler', () => execute("SELECT says('in a handler')"))
await check('large_values', async () => {
  const b = Buffer.alloc(4 << 20, 'a b\0c')
  const s = 'é漢'.repeat(1 << 20)
  await client.query('INSERT INTO wide VALUES (1, $1, $2)', [b, s])
  const { rows: [row] } = await client.query('SELECT b, t, length(t) AS l FROM wide WHERE b = $1', [b])
  return [row.b.equals(b), row.t === s, row.l]
})
await check('large_values_binary', async () => {
  const { rows: [row] } = await client.query({ text: 'SELECT b, t FROM wide', binary: true })
  return [row.b.length, row.t.length]
})
await check('large_rows', async () => (await client.query("SELECT repeat('y', 100) AS y FROM generate_series(1, 30000)")).rows.reduce((n, r) => n + r.y.length, 0))
await check('many_small', async () => {
  let sum = 0
  for (let i = 0; i < 500; i++) sum += (await client.query('SELECT $1::int AS n', [i])).rows[0].n
  return sum
})

await session()
await check('pool', async () => {
  const pool = new pg.Pool({ ...settings, max: 5 })
  const all = await Promise.all(Array.from({ length: 40 }, (_, i) => pool.query("SELECT $1::int AS n, current_setting('application_name') AS a", [i])))
  const inside = await pool.connect()
  await inside.query('BEGIN')
  const tx = (await inside.query('SELECT now() = transaction_timestamp() AS same')).rows
  await inside.query('COMMIT')
  inside.release()
  await pool.end()
  return [all.reduce((sum, r) => sum + r.rows[0].n, 0), [...new Set(all.map(r => r.rows[0].a))], tx]
})
await check('wrong_database', async () => {
  const c = new pg.Client({ ...settings, database: 'no such database' })
  await c.connect()
})
await client.end()
