package schema

import (
	"fmt"
	"strings"

	"qvpgw/internal/catalog"
)

// jobsSQL lists the policies and what became of them: id, procedure, relation,
// scheduled, last run, last error, whether the role sees errors.
const jobsSQL = `
SELECT j.job_id, j.proc_name, coalesce(j.hypertable_schema || '.' || j.hypertable_name, ''), j.scheduled, coalesce(s.last_run_status, ''),
       coalesce((SELECT e.sqlerrcode || ' ' || e.err_message FROM timescaledb_information.job_errors e
                 WHERE e.job_id = j.job_id ORDER BY e.finish_time DESC LIMIT 1), '')
FROM timescaledb_information.jobs j
LEFT JOIN timescaledb_information.job_stats s ON s.job_id = j.job_id
WHERE j.job_id >= 1000
ORDER BY j.job_id`

// uncompressedSQL counts the chunks that a policy should have compressed at least two
// of its runs ago: job, hypertable, age, chunks.
const uncompressedSQL = `
SELECT j.job_id, j.hypertable_schema, j.hypertable_name, j.config ->> 'compress_after', count(*)
FROM timescaledb_information.jobs j
JOIN timescaledb_information.chunks c ON c.hypertable_schema = j.hypertable_schema AND c.hypertable_name = j.hypertable_name
WHERE j.proc_name IN ('policy_compression', 'policy_columnstore') AND NOT c.is_compressed
  AND c.range_end < now() - (CASE WHEN j.config ->> 'compress_after' ~ '[^0-9]' THEN j.config ->> 'compress_after' END)::interval - 2 * j.schedule_interval
GROUP BY 1, 2, 3, 4
ORDER BY 1`

// schedulerSQL says whether TimescaleDB's scheduler runs for this database, as far as
// the role may see.
const schedulerSQL = `
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND backend_type LIKE 'TimescaleDB%Scheduler%')`

// policies says which are not as the configuration wants them.
func (e *exam) policies() error {
	if e.o.Policies == nil || !e.r.Migrations.Current() {
		return nil
	}
	r, err := e.o.Policies.Compare(e.ctx, e.q)
	if err != nil {
		return err
	}
	for _, p := range r.Unsettled() {
		text := fmt.Sprintf("%s of %s is %s, the configuration wants %s", p.Kind, p.Object, orNothing(p.Actual), p.Wanted)
		if p.State == PolicyHeld {
			e.find("policy-held", text+": "+p.Why, commandsIn(p.Why)...).Advice = "or change schema.policies"
			continue
		}
		e.find("policy-differs", text, "qvpgw migrate up").Advice = "or RELOAD in the console"
	}
	return nil
}

// jobs says which policies do not do their work.
func (e *exam) jobs() error {
	if e.s.Timescale == "" || parseVersion(e.s.Timescale).less(oldest) {
		return nil
	}
	rows, err := e.ask("policies", jobsSQL, 6)
	if err != nil {
		return err
	}
	aggregates := map[string]string{}
	for _, a := range e.s.Aggregates {
		aggregates[a.Materialization.Schema+"."+a.Materialization.Name] = a.View.Name
	}
	for _, row := range rows {
		id, what := row[0], strings.TrimPrefix(row[1], "policy_")
		table := strings.TrimPrefix(row[2], "public.")
		if view := aggregates[row[2]]; view != "" {
			table = view
		}
		if table != "" {
			what += " of " + table
		}
		if row[3] != "t" {
			e.find("job-paused", fmt.Sprintf("policy %s (%s) is paused", id, what), fmt.Sprintf("SELECT alter_job(%s, scheduled => true);", id))
			continue
		}
		if row[4] == "Failed" {
			text := fmt.Sprintf("the last run of policy %s (%s) failed", id, what)
			if row[5] != "" {
				text += ": " + row[5]
			}
			e.find("job-failed", text, fmt.Sprintf("SELECT alter_job(%s, next_start => now());", id)).Advice = "when its cause is gone; until it has run again this stays"
		}
	}
	if len(rows) == 0 {
		return nil
	}
	running, err := e.ask("background workers", schedulerSQL, 1)
	if err != nil {
		return err
	}
	if running[0][0] != "t" && !e.s.InRecovery {
		switch {
		case e.v.single:
			e.find("background-workers", "this server has no background workers: no policy runs by itself").Advice = "`CALL run_job(…)` runs one"
		case e.v.mayMonitor:
			e.find("background-workers", "TimescaleDB's scheduler does not run for this database: no policy runs by itself", "SELECT _timescaledb_functions.start_background_workers();").Advice =
				as("the owner of the database") + "; if it does not stay, raise timescaledb.max_background_workers and max_worker_processes"
		}
	}
	return e.uncompressed()
}

func (e *exam) uncompressed() error {
	if !e.s.Community {
		return nil
	}
	rows, err := e.ask("chunks that are not compressed", uncompressedSQL, 5)
	for _, row := range rows {
		e.find("chunks-uncompressed", fmt.Sprintf("%s chunks of %s are older than %s and not compressed", row[4], row[2], row[3]), fmt.Sprintf("CALL run_job(%s);", row[0])).Advice =
			"or `SELECT compress_chunk(c, true) FROM show_chunks('" + catalog.Quote(row[1]) + "." + catalog.Quote(row[2]) + "') c;` for those that you choose"
	}
	return err
}
