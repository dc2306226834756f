# What ruby-pg sees of a server: one line a check, nothing in it that changes from
# run to run.
require 'pg'

$stdout.sync = true
SCHEMA = ENV['DRIVER_SCHEMA']
$notices = []

def connect = PG.connect(application_name: 'ruby-pg')

def session
  $db&.close
  $db = connect
  $db.set_notice_receiver { |r| $notices << [PG::PG_DIAG_SEVERITY, PG::PG_DIAG_SQLSTATE, PG::PG_DIAG_MESSAGE_PRIMARY, PG::PG_DIAG_MESSAGE_DETAIL].map { |f| r.error_field(f) }.join('|') }
end

FIELDS = [PG::PG_DIAG_SEVERITY, PG::PG_DIAG_SQLSTATE, PG::PG_DIAG_MESSAGE_PRIMARY, PG::PG_DIAG_MESSAGE_DETAIL, PG::PG_DIAG_MESSAGE_HINT, PG::PG_DIAG_STATEMENT_POSITION,
          PG::PG_DIAG_SCHEMA_NAME, PG::PG_DIAG_TABLE_NAME, PG::PG_DIAG_COLUMN_NAME, PG::PG_DIAG_CONSTRAINT_NAME, PG::PG_DIAG_DATATYPE_NAME, PG::PG_DIAG_CONTEXT].freeze

def error(e)
  return "#{e.class} #{e.message.lines.first&.strip}" unless e.respond_to?(:result) && e.result
  "#{e.class} " + FIELDS.map { |f| e.result.error_field(f) }.join('|').gsub("\n", '\\n')
end

def check(name)
  value = begin
    v = yield
    v.is_a?(String) ? v : v.inspect
  rescue StandardError => e
    "ERROR #{error(e)}"
  end
  said = $notices.map { |n| " NOTICE #{n}" }.join
  $notices.clear
  puts "#{name}: #{value}#{said}".gsub("\n", '\\n')
end

def result(r)
  fields = (0...r.nfields).map { |i| [r.fname(i), r.ftype(i) < 16384 ? r.ftype(i) : 'own', r.fformat(i)] }
  [r.cmd_status, r.cmd_tuples, fields, r.values]
end

def execute(text, *args) = result(args.empty? ? $db.exec(text) : $db.exec_params(text, args))

def lines(name) = File.readlines("#{ENV['DRIVER_FILES']}/#{name}", chomp: true, encoding: 'UTF-8')

session
check('facts') { [$db.backend_pid.positive?, $db.server_version / 10000, $db.internal_encoding.to_s, $db.transaction_status, $db.parameter_status('TimeZone'), $db.protocol_version] }
%w[steps.tsv styles.tsv].each do |file|
  session
  lines(file).each do |line|
    next session if line.start_with?('#')
    name, text = line.split("\t", 2)
    check(name) { execute(text) }
  end
end
session
lines('types.tsv').each do |line|
  name, expr = line.split("\t", 2)
  check("text #{name}") { execute("SELECT #{expr}") }
  check("binary #{name}") { result($db.exec_params("SELECT #{expr}", [], 1)) } unless name == 'enum_array'
end
types = PG::BasicTypeMapForQueries.new($db)
results = PG::BasicTypeMapForResults.new($db)
[true, -1, 2**40, 2.5, Float::NAN, 'naïve 漢字', nil, [1, 2, nil], ['a', 'b"c'], Time.utc(2024, 1, 2, 3, 4, 5), { value: "\x00\xFF".b, format: 1, type: 17 }].each_with_index do |v, i|
  check("parameter #{i}") { v.is_a?(Hash) ? result($db.exec_params('SELECT $1', [v], 1)) : result($db.exec_params('SELECT $1 AS a', [v], 0, types).map_types!(results)) }
end

session
check('prepared_many') do
  50.times { |i| $db.prepare("p#{i}", "SELECT $1::int + #{i}") }
  total = 0
  4.times do
    50.times { |i| total += $db.exec_prepared("p#{i}", [1]).getvalue(0, 0).to_i }
    $db.transaction { |c| (0...50).step(7) { |i| total += c.exec_prepared("p#{i}", [2]).getvalue(0, 0).to_i } }
  end
  total
end
check('prepared_again') { $db.prepare('p1', 'SELECT 1') }
check('describe_prepared') { r = $db.describe_prepared('p1'); [r.nparams, r.paramtype(0), r.fname(0), r.ftype(0)] }
check('describe_missing') { $db.describe_prepared('missing') }
check('deallocate') { $db.exec('DEALLOCATE p1'); $db.exec_prepared('p1', [1]) }
check('deallocate_all') { $db.exec('DEALLOCATE ALL'); $db.exec_prepared('p2', [1]) }
check('prepared_error') { $db.prepare('d', 'SELECT 1 / $1::int'); $db.exec_prepared('d', [0]) }
check('prepared_after_error') { result($db.exec_prepared('d', [1])) }
check('prepared_missing') { $db.prepare('m', 'SELECT * FROM missing WHERE a = $1') }

session
check('pipeline') do
  $db.enter_pipeline_mode
  10.times { |i| $db.send_query_params('SELECT $1::int + 1', [i]) }
  $db.pipeline_sync
  got = []
  10.times { got << $db.get_result.getvalue(0, 0).to_i; $db.get_result }
  got << $db.get_result.result_status
  $db.exit_pipeline_mode
  got
end
check('pipeline_fails') do
  $db.enter_pipeline_mode
  $db.send_query_params("INSERT INTO pair VALUES ($1, 'pipeline')", [1])
  $db.send_query_params('SELECT 1 / $1::int', [0])
  $db.send_query_params("SELECT 'skipped'", [])
  $db.pipeline_sync
  $db.send_query_params("SELECT 'after'", [])
  $db.pipeline_sync
  got = []
  until got.count { |s| s == PG::PGRES_PIPELINE_SYNC } == 2
    r = $db.get_result
    got << r.result_status if r
  end
  $db.exit_pipeline_mode
  [got, execute("SELECT count(*) FROM pair WHERE b = 'pipeline'")]
end
check('several_statements') do
  $db.send_query("SELECT 1; SELECT 'two', 3; INSERT INTO pair VALUES (1, 'several')")
  got = []
  while (r = $db.get_result) do got << result(r) end
  got
end
check('several_fail') { execute("INSERT INTO pair VALUES (2, 'several'); SELECT 1 / 0") }
check('several_undone') { execute("SELECT count(*) FROM pair WHERE b = 'several'") }
check('empty_statement') { execute('') }
check('single_row') do
  $db.send_query('SELECT i FROM generate_series(1, 500) i')
  $db.set_single_row_mode
  sum = 0
  while (r = $db.get_result) do r.each { |x| sum += x['i'].to_i } end
  sum
end
check('escape') { [$db.escape_literal("it's"), $db.escape_identifier('a"b'), $db.escape_bytea("\x00\xFF".b)] }

session
def copy_in(rows, query = 'COPY pair FROM STDIN', coder = nil) = result($db.copy_data(query, coder) { rows.each { |r| $db.put_copy_data(r) } })

def copy_out(query)
  all = +''
  $db.copy_data(query) { while (row = $db.get_copy_data) do all << row end }
  all
end
check('copy_in') { copy_in((1..1000).map { |i| "#{i}\trow #{i}\n" }) }
check('copy_in_encoder') { copy_in((1..10).map { |i| [i, "coded\t#{i}"] }, 'COPY pair FROM STDIN', PG::TextEncoder::CopyRow.new) }
check('copy_out') { copy_out("COPY (SELECT * FROM pair WHERE b LIKE 'row%' ORDER BY a LIMIT 5) TO STDOUT") }
check('copy_out_binary') { copy_out("COPY (SELECT 1::int, 'x'::text, NULL) TO STDOUT (FORMAT BINARY)").unpack1('H*') }
check('copy_out_large') { copy_out("COPY (SELECT i, repeat('x', 50) FROM generate_series(1, 40000) i) TO STDOUT").bytesize }
check('copy_breaks') { copy_in(["1\tfine\n", "not a number\tbroken\n", "2\tmore\n" * 20_000]) }
check('copy_given_up') { $db.copy_data('COPY pair FROM STDIN') { $db.put_copy_data("1\tgiven up\n"); raise "the program's own" } }
check('copy_out_breaks') { copy_out('COPY (SELECT 1 / (5000 - i) FROM generate_series(1, 6000) i) TO STDOUT') }
check('copy_after') { execute("SELECT count(*) FROM pair WHERE b IN ('fine', 'given up', 'more')") }

session
def taken(n = 1, patience = 10)
  got = []
  n.times do
    break unless $db.wait_for_notify(patience) { |channel, pid, payload| got << [channel == SCHEMA, payload, pid == $db.backend_pid] }
  end
  got
end

def other(*texts)
  c = connect
  texts.each { |t| c.exec(t) }
  c.close
end
check('notify_self') { $db.exec("LISTEN #{SCHEMA}"); $db.exec("NOTIFY #{SCHEMA}, 'to myself'"); taken }
check('notify_other') { other("NOTIFY #{SCHEMA}, 'from another'"); taken }
check('notify_transaction') { other('BEGIN', "NOTIFY #{SCHEMA}, 'a'", "NOTIFY #{SCHEMA}, 'b'", 'COMMIT'); taken(2) }
check('notify_rolled_back') { other('BEGIN', "NOTIFY #{SCHEMA}, 'never'", 'ROLLBACK', "NOTIFY #{SCHEMA}, 'only this'"); taken }
check('unlisten') { $db.exec('UNLISTEN *'); $db.exec("NOTIFY #{SCHEMA}, 'unheard'"); taken(1, 0.3) }

session
check('cancel') { $db.send_query('SELECT pg_sleep(30)'); sleep 0.3; $db.cancel; $db.get_last_result }
check('cancel_after') { execute("SELECT 'usable'") }
check('cancel_in_transaction') do
  $db.exec('BEGIN')
  $db.send_query('SELECT pg_sleep(30)')
  sleep 0.3
  $db.cancel
  said = begin
    $db.get_last_result
  rescue PG::Error => e
    error(e)
  end
  status = $db.transaction_status
  $db.exec('ROLLBACK')
  [said, status, $db.transaction_status]
end
check('savepoints') do
  $db.exec('BEGIN')
  $db.exec("INSERT INTO pair VALUES (1, 'nested')")
  $db.exec('SAVEPOINT s')
  said = begin
    $db.exec_params('SELECT 1 / $1::int', [0])
  rescue PG::Error => e
    error(e)
  end
  $db.exec('ROLLBACK TO s')
  $db.exec("INSERT INTO pair VALUES (2, 'nested')")
  $db.exec('COMMIT')
  [said, execute("SELECT array_agg(a ORDER BY a) FROM pair WHERE b = 'nested'")]
end
check('cursor') do
  $db.transaction do |c|
    c.exec('DECLARE c CURSOR FOR SELECT i FROM generate_series(1, 30) i')
    got = []
    until (r = c.exec('FETCH 7 FROM c')).ntuples.zero? do got << r.ntuples end
    got
  end
end
check('describe_portal') do
  $db.transaction do |c|
    c.exec('DECLARE p CURSOR FOR SELECT 1 AS a, 2 AS b')
    c.describe_portal('p').fields
  end
end
check('large_object') do
  $db.transaction do |c|
    oid = c.lo_creat
    lo = c.lo_open(oid, PG::INV_READ | PG::INV_WRITE)
    c.lo_write(lo, 'some bytes')
    c.lo_lseek(lo, 5, PG::SEEK_SET)
    got = c.lo_read(lo, 5)
    c.lo_close(lo)
    c.lo_unlink(oid)
    got
  end
end
check('notice') { execute("SELECT says('heard')") }
check('encoding') { $db.set_client_encoding('LATIN1'); got = $db.exec("SELECT 'x'").getvalue(0, 0).encoding.to_s; $db.set_client_encoding('UTF8'); got }
check('large_values') do
  b = "a\x00b\xFF".b * (1 << 20)
  t = 'é漢' * (1 << 19)
  $db.exec_params('INSERT INTO wide VALUES (1, $1, $2)', [{ value: b, format: 1 }, t])
  r = $db.exec_params('SELECT b, t FROM wide', [], 1)
  [r.getvalue(0, 0) == b, r.getvalue(0, 1) == t.b]
end
check('large_rows') { $db.exec("SELECT repeat('y', 100) AS y FROM generate_series(1, 30000)").sum { |r| r['y'].size } }
check('many_small') { (0...500).sum { |i| $db.exec_params('SELECT $1::int', [i]).getvalue(0, 0).to_i } }
check('reset') { $db.reset; execute("SELECT 'new session'") }
$db.close
