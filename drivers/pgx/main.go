// Program pgx prints what pgx sees of a server: one line a check, nothing in it
// that changes from run to run.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// session is one connection and what it said by the way.
type session struct {
	*pgx.Conn
	notices []string
}

func connect(ctx context.Context) *session {
	s := &session{}
	config, err := pgx.ParseConfig("application_name=pgx")
	if err == nil {
		config.RuntimeParams["options"] = os.Getenv("PGOPTIONS")
		config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { s.notices = append(s.notices, fields((*pgconn.PgError)(n))) }
		s.Conn, err = pgx.ConnectConfig(ctx, config)
	}
	if err != nil {
		fmt.Printf("connect: ERROR %v\n", err)
		os.Exit(1)
	}
	return s
}

// fields are an error's.
func fields(e *pgconn.PgError) string {
	return strings.ReplaceAll(strings.Join([]string{
		e.Severity, e.SeverityUnlocalized, e.Code, e.Message, e.Detail, e.Hint, fmt.Sprint(e.Position), e.Where,
		e.SchemaName, e.TableName, e.ColumnName, e.DataTypeName, e.ConstraintName, e.Routine,
	}, "|"), "\n", "\\n")
}

func failure(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return fields(e)
	}
	return fmt.Sprintf("%T", err) + " " + err.Error()
}

func check(name string, value any, err error) {
	if err != nil {
		value = "ERROR " + failure(err)
	}
	fmt.Printf("%s: %v\n", name, value)
}

// query runs one statement and shows all of its result.
func (s *session) query(ctx context.Context, sql string, args ...any) (string, error) {
	rows, err := s.Conn.Query(ctx, sql, args...)
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var b strings.Builder
	for _, f := range rows.FieldDescriptions() {
		oid := fmt.Sprint(f.DataTypeOID)
		if f.DataTypeOID >= 16384 {
			oid = "own"
		}
		fmt.Fprintf(&b, "[%s %s %d]", f.Name, oid, f.Format)
	}
	for rows.Next() {
		values, err := rows.Values()
		if err != nil {
			fmt.Fprintf(&b, " (cannot read: %v)", err)
			continue
		}
		for _, v := range values {
			fmt.Fprintf(&b, " %T(%v)", v, v)
		}
	}
	if err := rows.Err(); err != nil {
		return "", err
	}
	fmt.Fprintf(&b, " %s", rows.CommandTag())
	for _, n := range s.notices {
		fmt.Fprintf(&b, " NOTICE %s", n)
	}
	s.notices = nil
	return b.String(), nil
}

// each runs the lines of a shared file; a comment line begins a new session.
func each(ctx context.Context, file string, run func(s *session, name, text string)) {
	text, err := os.ReadFile(os.Getenv("DRIVER_FILES") + "/" + file)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s := connect(ctx)
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			_ = s.Close(ctx)
			s = connect(ctx)
			continue
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		run(s, name, value)
	}
	_ = s.Close(ctx)
}

func main() {
	ctx := context.Background()
	s := connect(ctx)
	p := s.PgConn()
	check("facts", fmt.Sprint(p.PID() > 0, len(p.SecretKey()), p.ParameterStatus("server_version_num") != "-", p.ParameterStatus("TimeZone"),
		p.ParameterStatus("application_name"), p.ParameterStatus("is_superuser"), string(p.TxStatus())), nil)
	_ = s.Close(ctx)
	for _, file := range []string{"steps.tsv", "styles.tsv"} {
		each(ctx, file, func(s *session, name, text string) {
			value, err := s.query(ctx, text, pgx.QueryExecModeExec)
			check(name, value, err)
		})
	}
	types(ctx)
	for _, section := range []func(context.Context, *session){
		prepared, batches, pipelines, copies, listening, cancels, cursors, transactions, large, pools,
	} {
		s := connect(ctx)
		section(ctx, s)
		_ = s.Close(ctx)
	}
}

// types reads every type in text, in binary, and by pgx's own choice.
func types(ctx context.Context) {
	each(ctx, "types.tsv", func(s *session, name, expr string) {
		sql := "SELECT " + expr
		value, err := s.query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		check("simple "+name, value, err)
		value, err = raw(ctx, s, sql, 0)
		check("text "+name, value, err)
		if name != "enum_array" { // its binary form holds an oid
			value, err := raw(ctx, s, sql, 1)
			check("binary "+name, value, err)
		}
		value, err = s.query(ctx, sql)
		check("cached "+name, value, err)
	})
}

// raw reads the bytes of one value in a format.
func raw(ctx context.Context, s *session, sql string, format int16) (string, error) {
	r := s.PgConn().ExecParams(ctx, sql, nil, nil, nil, []int16{format}).Read()
	if r.Err != nil || len(r.Rows) == 0 {
		return "", r.Err
	}
	return fmt.Sprintf("%q %s", r.Rows[0][0], r.CommandTag), nil
}
