package gateway_test

import (
	"slices"
	"testing"

	"qvpgw/internal/gateway"
	"qvpgw/internal/pool"
)

// TestAStatementWhoseColumnsChangedIsRefusedAsByTheServer changes the table of
// prepared statements by another client; what their clients get must be what they
// get directly: on the server connection that has them and on one that has not.
func TestAStatementWhoseColumnsChangedIsRefusedAsByTheServer(t *testing.T) {
	for _, elsewhere := range []bool{false, true} {
		dsn := nativeDatabase(t, "CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)")
		_, addr := serve(t, dsn, gateway.Options{Pool: pool.Options{Size: 2}})
		steps := [][]message{
			{parse("s", "SELECT * FROM changing"), describe('S', "s"), endGroup},
			{bind("", "s"), runPortal("", 0), endGroup},
			{parse("i", "INSERT INTO changing (a) VALUES (2) RETURNING *"), describe('S', "i"), endGroup},
			{bind("", "i"), runPortal("", 0), endGroup},
			nil, // ALTER TABLE
			{bind("", "s"), runPortal("", 0), endGroup},
			{bind("", "s"), describe('P', ""), runPortal("", 0), endGroup},
			{bind("", "i"), runPortal("", 0), endGroup},
			{simple("SELECT count(*) FROM changing")},
			{parse("s", "SELECT * FROM changing"), endGroup},
			{closing('S', "s"), parse("s", "SELECT * FROM changing"), describe('S', "s"), endGroup},
			{bind("", "s"), runPortal("", 0), endGroup},
			{parse("t", "SELECT * FROM changing"), bind("", "t"), describe('P', ""), runPortal("", 0), endGroup},
			{simple("BEGIN")},
			{bind("", "i"), runPortal("", 0), endGroup},
			{simple("ROLLBACK")},
		}
		var answers [2][][]string
		for i, p := range []*peer{direct(t, dsn), dial(t, addr, dsn)} {
			run(t, dsn, "DROP TABLE IF EXISTS changing; CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)")
			other := dial(t, addr, dsn)
			for _, step := range steps {
				if step == nil {
					other.want("SELECT 1", "1")
					run(t, dsn, "ALTER TABLE changing ADD COLUMN b int")
					if elsewhere { // p gets the other server connection
						other.must("BEGIN")
					}
					continue
				}
				lines := p.extended(step...)
				for j, l := range lines {
					if len(l) > 7 && l[:7] == "columns" {
						lines[j] = l[:10] // the table has another oid
					}
				}
				answers[i] = append(answers[i], lines)
			}
			other.query("ROLLBACK")
		}
		const described = 5 // the client learns the new columns, and gets the rows
		if got := answers[1][described]; len(got) != 6 || got[2] != "row 1|NULL" {
			t.Errorf("elsewhere %v, described: %q", elsewhere, got)
		}
		for i := range answers[0] {
			if i == described {
				continue
			}
			if !slices.Equal(answers[0][i], answers[1][i]) {
				t.Errorf("elsewhere %v, step %d:\ndirect  %q\ngateway %q", elsewhere, i, answers[0][i], answers[1][i])
			}
		}
	}
}
