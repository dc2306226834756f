package schema

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
)

func examine(t *testing.T, dsn string, o DoctorOptions) Report {
	t.Helper()
	conn := connect(t, dsn)
	defer func() { _ = conn.Close(context.Background()) }()
	r, err := Doctor(context.Background(), ConnQuery(conn), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// codes maps the findings' codes to their texts.
func codes(r Report) map[string]string {
	m := map[string]string{}
	for _, f := range r.Findings {
		m[f.Code] += string(f.Level) + " " + f.Text + " " + strings.Join(f.Mend, " ") + " " + f.Advice
	}
	return m
}

// capability is that of a name, off when there is none.
func capability(r Report, name string) Capability {
	for _, c := range r.Capabilities {
		if c.Name == name {
			return c
		}
	}
	return Capability{Name: name}
}

func TestDoctorSaysWhatTheEditionLeavesOut(t *testing.T) {
	onEach(t, func(t *testing.T, dsn string) {
		before := examine(t, dsn, DoctorOptions{})
		if c := codes(before); !strings.Contains(c["schema-pending"], "migrate up") || before.Migrations.Version != -1 {
			t.Errorf("before up it found %v", c)
		}
		if err := Migrate(context.Background(), dsn, Options{}); err != nil {
			t.Fatal(err)
		}
		r := examine(t, dsn, DoctorOptions{})
		if !r.Healthy() || !r.Migrations.Current() || r.Hypertables != len(hypertables) || r.InRecovery {
			t.Errorf("it found %+v", r)
		}
		if !capability(r, CapKNN).On || !capability(r, CapPooling).On {
			t.Errorf("capabilities are %+v", r.Capabilities)
		}
		c := codes(r)
		switch r.Edition {
		case "Community":
			if !capability(r, CapAggregates).On || !capability(r, CapPolicies).On || r.Aggregates != len(aggregates) {
				t.Errorf("capabilities are %+v", r.Capabilities)
			}
			if !strings.Contains(c["timescaledb-old"], "2.29.0") {
				t.Errorf("it found %v", c)
			}
		case "Apache":
			for _, name := range []string{CapAggregates, CapPolicies} {
				if got := capability(r, name); got.On || !strings.Contains(got.Why, "Apache edition") {
					t.Errorf("%s is %+v", name, got)
				}
			}
			if !strings.Contains(c["timescaledb-apache"], "Community edition") {
				t.Errorf("it found %v", c)
			}
		default:
			t.Errorf("edition %q", r.Edition)
		}
		text := r.Text()
		for _, want := range []string{r.Server, r.Timescale, r.Edition, r.Vector, ", current", "a primary", CapAggregates} {
			if !strings.Contains(text, want) {
				t.Errorf("the text has no %q:\n%s", want, text)
			}
		}
		b, err := r.JSON()
		var back Report
		if err != nil || json.Unmarshal(b, &back) != nil || back.Timescale != r.Timescale || len(back.Capabilities) != 4 {
			t.Errorf("JSON is %s, %v", b, err)
		}
	})
}
