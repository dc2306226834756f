package embedded_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"qvpgw/internal/pgtest"
)

// conversations are played against the embedded and the native backend, whose
// answers must be the same messages.
var conversations = map[string]string{
	"simple queries": `
> Query "select 1 as a, null as b; select 'x' as c"
< ReadyForQuery
> Query ""
< ReadyForQuery
> Query "select 1/0; select 2"
< ReadyForQuery
> Query "select 1; select nonsense; select 3"
< ReadyForQuery
> Query "begin; select 1/0"
< ReadyForQuery
> Query "select 1"
< ReadyForQuery
> Query rollback
< ReadyForQuery
> Query "do $$ begin raise notice 'hello %', 1; end $$"
< ReadyForQuery
`,
	"extended protocol": `
> Parse s1 "select $1::int + 1 as n, $2::text as t"
> Describe S s1
> Bind "" s1 41 null
> Describe P ""
> Execute "" 0
> Sync
< ReadyForQuery
> Parse "" "select generate_series(1,5) as n"
> Bind p ""
> Execute p 2
> Execute p 2
> Execute p 2
> Close P p
> Sync
< ReadyForQuery
> Parse "" ""
> Bind "" ""
> Describe P ""
> Execute "" 0
> Sync
< ReadyForQuery
> Bind "" missing
> Execute "" 0
> Sync
< ReadyForQuery
> Close S s1
> Close S never
> Sync
< ReadyForQuery
`,
	"errors skip to Sync": `
> Parse "" "select nonsense"
> Bind "" ""
> Describe P ""
> Execute "" 0
> Query "select 'skipped'"
> Sync
< ReadyForQuery
> Parse "" "select 1/$1::int as n"
> Bind "" "" 0
> Execute "" 0
> Bind "" "" 1
> Execute "" 0
> Sync
> Parse "" "select 1 as after"
> Bind "" ""
> Execute "" 0
> Sync
< ReadyForQuery
< ReadyForQuery
`,
	"a pipeline is one transaction up to its Sync": `
> Query "create temp table p(a int primary key)"
< ReadyForQuery
> Parse ins "insert into p values ($1)"
> Bind "" ins 1
> Execute "" 0
> Bind "" ins 1
> Execute "" 0
> Sync
> Bind "" ins 2
> Execute "" 0
> Sync
> Query "select * from p"
< ReadyForQuery
< ReadyForQuery
< ReadyForQuery
`,
	"Flush answers without Sync": `
> Parse f "select $1::int as n"
> Describe S f
> Flush
< RowDescription
> Bind "" f 5
> Execute "" 0
> Flush
< CommandComplete
> Sync
< ReadyForQuery
> Parse "" "select nonsense"
> Flush
< ErrorResponse
> Bind "" ""
> Execute "" 0
> Flush
> Sync
< ReadyForQuery
> Query "select 'alive'"
< ReadyForQuery
`,
	"COPY in": `
> Query "create temp table c(a int, b text)"
< ReadyForQuery
> Query "-- data\n copy c from stdin"
< CopyInResponse
> CopyData "1\tone\n"
> CopyData "2\ttw"
> CopyData "o\n"
> CopyDone
< ReadyForQuery
> Query "copy c from stdin"
< CopyInResponse
> CopyData "3\tthree\n"
> CopyData "x\tbad\n"
> CopyData "4\tfour\n"
> CopyDone
< ReadyForQuery
> Query "copy c from stdin"
< CopyInResponse
> CopyFail "changed my mind"
< ReadyForQuery
> Query "select * from c order by a"
< ReadyForQuery
> Query "select 'copy c from stdin; copy c from stdin' as text /* ; copy c from stdin */"
< ReadyForQuery
> Query "select $x$;copy c from stdin$x$ as text, E'\\';copy c from stdin' as e"
< ReadyForQuery
> Query "copy c from stdin; select count(*) from c"
< CopyInResponse
> CopyData "5\tfive\n"
> CopyDone
< ReadyForQuery
> CopyData stray
> CopyDone
> Query "select 1"
< ReadyForQuery
`,
	"COPY in, extended": `
> Query "create temp table c(a int, b text)"
< ReadyForQuery
> Parse "" "copy c from stdin"
> Bind "" ""
> Describe P ""
> Execute "" 0
> Sync
< CopyInResponse
> CopyData "1\tone\n"
> CopyData "2\ttwo\n"
> CopyDone
> Sync
< ReadyForQuery
> Parse cp "copy c from stdin"
> Bind por cp
> Execute por 0
> Flush
< CopyInResponse
> CopyData "x\tbad\n"
> CopyData "3\tthree\n"
> CopyDone
> Sync
< ReadyForQuery
> Bind por cp
> Execute por 0
> Sync
< CopyInResponse
> CopyFail "no"
> Sync
< ReadyForQuery
> Query "select * from c"
< ReadyForQuery
`,
	"COPY in, binary": `
> Query "create temp table c(a int)"
< ReadyForQuery
> Query "copy c from stdin binary"
< CopyInResponse
> CopyData "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x04\x00\x00\x00\x2a\xff\xff"
> CopyDone
< ReadyForQuery
> Parse "" "copy c from stdin with (format binary)"
> Bind "" ""
> Execute "" 0
> Sync
< CopyInResponse
> CopyFail enough
> Sync
< ReadyForQuery
> Query "select * from c"
< ReadyForQuery
`,
	"COPY out": `
> Query "copy (select g, null from generate_series(1,3) g) to stdout"
< ReadyForQuery
> Parse "" "copy (select 'a', 1) to stdout"
> Bind "" ""
> Execute "" 0
> Sync
< ReadyForQuery
`,
	"transactions and savepoints": `
> Query begin
< ReadyForQuery
> Query "create table t(a int); savepoint s; insert into t values (1)"
< ReadyForQuery
> Query "insert into t values ('x')"
< ReadyForQuery
> Query "select 1"
< ReadyForQuery
> Query "rollback to s"
< ReadyForQuery
> Parse "" commit
> Bind "" ""
> Execute "" 0
> Sync
< ReadyForQuery
> Query "drop table t"
< ReadyForQuery
> Query commit
< ReadyForQuery
`,
	"parameters are reported": `
> Query "set timezone to 'Europe/Paris'"
< ReadyForQuery
> Query "begin; set local application_name to 'local'"
< ReadyForQuery
> Query commit
< ReadyForQuery
> Query "begin; set datestyle to 'german'"
< ReadyForQuery
> Query rollback
< ReadyForQuery
> Query "select set_config('application_name', 'by function', false)"
< ReadyForQuery
> Parse "" "set intervalstyle to 'iso_8601'"
> Bind "" ""
> Execute "" 0
> Sync
< ReadyForQuery
> Query "reset application_name"
< ReadyForQuery
> Query "show application_name"
< ReadyForQuery
> Query "reset all"
< ReadyForQuery
> Query "show timezone"
< ReadyForQuery
> Query "set timezone to 'Asia/Tokyo'"
< ReadyForQuery
> Query "discard all"
< ReadyForQuery
> Query "show timezone; show enable_seqscan; show client_min_messages"
< ReadyForQuery
`,
	"the unnamed statement outlives a SET": `
> Parse "" "select 7 as n"
> Sync
< ReadyForQuery
> Parse s "set application_name to 'z'"
> Bind p s
> Execute p 0
> Sync
< ReadyForQuery
> Bind "" ""
> Execute "" 0
> Sync
< ReadyForQuery
`,
	"roles are taken off": `
> Query "set session authorization pg_monitor"
< ReadyForQuery
> Query "select session_user"
< ReadyForQuery
> Query "reset session authorization"
< ReadyForQuery
> Query "select session_user"
< ReadyForQuery
> Query "set session authorization pg_monitor; set session authorization default"
< ReadyForQuery
> Query "select session_user"
< ReadyForQuery
> Query "set session authorization pg_monitor"
< ReadyForQuery
> Query "discard all"
< ReadyForQuery
> Query "select session_user, current_user"
< ReadyForQuery
> Query "set role pg_monitor"
< ReadyForQuery
> Query "reset role; select current_user"
< ReadyForQuery
`,
	"malformed messages": `
> raw 46 00000004
< ReadyForQuery
> raw 50 00000005 41
> Sync
< ReadyForQuery
> raw 42 0000000e 00 00 0001 0000 7fff0001
> Sync
< ReadyForQuery
> raw 51 00000005 41
< ReadyForQuery
> Query "select 1"
< ReadyForQuery
`,
	"listen and notify": `
> Query "listen c"
< ReadyForQuery
> Query "notify c, 'payload'"
< ReadyForQuery
> Query "select 1"
< ReadyForQuery
`,
	"function call and unknown statements": `
> Query "deallocate nothing"
< ReadyForQuery
> Query "prepare q as select 3 as n; execute q; deallocate q"
< ReadyForQuery
> Query "declare c cursor for select 1"
< ReadyForQuery
> Query "begin; declare c cursor for select generate_series(1,3) as g; fetch 2 from c; close c; commit"
< ReadyForQuery
> Query "expg_monitor (costs off) select 1"
< ReadyForQuery
`,
}

// residue is what may differ: process ids, versions and roles.
var residue = regexp.MustCompile(`(?m)^(ParameterStatus (server_version|session_authorization|is_superuser)|BackendKeyData|NotificationResponse \d+).*\n`)

// comparable drops the residue and puts parameters that were reported together
// into one order, as PostgreSQL's is that of a hash table.
func comparable(transcript string) string {
	lines := strings.Split(residue.ReplaceAllString(transcript, ""), "\n")
	for i := 0; i < len(lines); {
		end := i
		for end < len(lines) && strings.HasPrefix(lines[end], "ParameterStatus") {
			end++
		}
		slices.Sort(lines[i:end])
		i = end + 1
	}
	return strings.Join(lines, "\n")
}

func TestTheEmbeddedServerAnswersAsPostgreSQLDoes(t *testing.T) {
	embedded := pgtest.Embedded(t).Addr()
	native := pgtest.Native(t).Addr()
	for name, text := range conversations {
		t.Run(name, func(t *testing.T) {
			for _, segment := range []int{0, 1} {
				s := pgtest.MustScript(t, "startup user=postgres database=postgres application_name=start\n"+strings.TrimSpace(text)+"\n> Terminate\n")
				s.Segment = segment
				want, err := s.Transcript(t.Context(), native)
				if err != nil {
					t.Fatalf("native: %v\n%s", err, want)
				}
				have, err := s.Transcript(t.Context(), embedded)
				if err != nil {
					t.Fatalf("embedded: %v\n%s", err, have)
				}
				if want, have = comparable(want), comparable(have); want != have {
					t.Errorf("native:\n%s\nembedded:\n%s", want, have)
					return
				}
			}
		})
	}
}
