package router

import (
	pg_query "github.com/pganalyze/pg_query_go/v6"

	"qvpgw/internal/catalog"
	"qvpgw/internal/sqltext"
)

// special are the built-in functions that do more to a session, or run more
// code, than their arguments tell: why the client is pinned, or zero for those
// that are followed otherwise (see survey.special). The test of the built-in
// lists holds them against pg_proc.
var special = map[string]Pins{
	// Sequences: nextval makes currval and lastval meaningful, setval currval.
	"nextval": 0, "setval": 0, "currval": 0, "lastval": 0,

	"set_config": 0, // see survey.configure
	"setseed":    PinSeed,

	// Locks that outlive the transaction. The xact variants end with it.
	"pg_advisory_lock": PinAdvisory, "pg_advisory_lock_shared": PinAdvisory,
	"pg_try_advisory_lock": PinAdvisory, "pg_try_advisory_lock_shared": PinAdvisory,
	// Giving them back leaves nothing behind, and a client that has any is pinned.
	"pg_advisory_unlock": 0, "pg_advisory_unlock_shared": 0, "pg_advisory_unlock_all": 0,

	// They run SQL that is given as text, or read a relation that is: views,
	// policies and functions behind it are not seen here.
	"query_to_xml": PinFunction, "query_to_xmlschema": PinFunction,
	"query_to_xml_and_xmlschema": PinFunction,
	"cursor_to_xml":              PinFunction, "cursor_to_xmlschema": PinFunction,
	"table_to_xml": PinFunction, "table_to_xmlschema": PinFunction,
	"table_to_xml_and_xmlschema": PinFunction,
	"schema_to_xml":              PinFunction, "schema_to_xmlschema": PinFunction,
	"schema_to_xml_and_xmlschema": PinFunction,
	"database_to_xml":             PinFunction, "database_to_xmlschema": PinFunction,
	"database_to_xml_and_xmlschema": PinFunction,
	"ts_stat":                       PinFunction, "ts_rewrite": PinFunction,

	// They call a type's input function, or an opclass or index expression, that
	// is named by a value.
	"pg_input_is_valid": PinFunction, "pg_input_error_info": PinFunction,
	"satisfies_hash_partition": PinFunction,
	"brin_summarize_range":     PinFunction, "brin_summarize_new_values": PinFunction,
	"brin_desummarize_range": PinFunction, "gin_clean_pending_list": PinFunction,
	"amvalidate": PinFunction, "fmgr_internal_validator": PinFunction,
	"fmgr_c_validator": PinFunction, "fmgr_sql_validator": PinFunction,
	"plpgsql_validator": PinFunction,
	"finalize_agg":      PinFunction, "partialize_agg": PinFunction,
	"subtract_integer_from_now": PinFunction,

	// State of the session or of its backend that nothing else shows: a backup,
	// a temporary slot, a replication origin, statistics.
	"pg_backup_start": PinFunction, "pg_backup_stop": PinFunction,
	"pg_start_backup": PinFunction, "pg_stop_backup": PinFunction,
	"pg_create_physical_replication_slot": PinFunction,
	"pg_create_logical_replication_slot":  PinFunction,
	"pg_copy_physical_replication_slot":   PinFunction,
	"pg_copy_logical_replication_slot":    PinFunction,
	"pg_logical_slot_get_changes":         PinFunction,
	"pg_logical_slot_get_binary_changes":  PinFunction,
	"pg_logical_slot_peek_changes":        PinFunction,
	"pg_logical_slot_peek_binary_changes": PinFunction,
	"pg_replication_slot_advance":         PinFunction,
	"pg_sync_replication_slots":           PinFunction,
	"pg_replication_origin_session_setup": PinFunction,
	"pg_replication_origin_session_reset": PinFunction,
	"pg_replication_origin_xact_setup":    PinFunction,
	"pg_replication_origin_xact_reset":    PinFunction,
	// What the client did is counted once its process says so, and its sessions are
	// counted as processes.
	"pg_stat_force_next_flush": PinProcess, "pg_stat_get_db_sessions": PinProcess,
	"pg_stat_get_db_session_time": PinProcess, "pg_stat_get_db_sessions_abandoned": PinProcess,
	"pg_stat_get_db_sessions_fatal": PinProcess, "pg_stat_get_db_sessions_killed": PinProcess,
	"pg_extension_config_dump":      PinFunction,
	"pg_import_system_collations":   PinFunction,
	"pg_nextoid":                    PinFunction,
	"pg_stop_making_pinned_objects": PinFunction,
}

// block handles DO: its text is read as a function's is.
func (s *survey) block(n *pg_query.DoStmt) {
	lang, source := "plpgsql", ""
	for _, a := range n.Args {
		switch d := a.GetDefElem(); d.GetDefname() {
		case "language":
			lang = d.GetArg().GetString_().GetSval()
		case "as":
			source = d.GetArg().GetString_().GetSval()
		}
	}
	if lang != "plpgsql" || s.view.snap == nil {
		s.against(PinDo, "DO")
		return
	}
	body := sqltext.ScanBody(source)
	s.againstCode(PinDo, "DO", &catalog.Code{State: uint16(body.State), Settings: body.Settings})
	if body.Wide || s.view.comparison || s.view.snap.UserCasts {
		s.code(&s.view.snap.AnyCode)
	}
	for w := range body.Words {
		if s.view.snap.UserOperators[w] || s.view.snap.UserTypes[w] {
			s.code(&s.view.snap.AnyCode)
		}
		if c := s.view.code(w); c != nil {
			s.code(c)
		}
		for _, r := range s.view.byName[w] {
			if !r.Clean {
				s.code(&s.view.snap.AnyCode)
			}
		}
	}
}

// binaryUpgrade starts the names of functions that set up the next object that
// the backend creates.
const binaryUpgrade = "binary_upgrade_"

// restores are those that ALTER DATABASE.
var restores = words(`timescaledb_pre_restore timescaledb_post_restore`)

// timescaleDDL are TimescaleDB's functions that change the catalog or call a
// function that is named by an argument: partitioning functions, a job's check.
var timescaleDDL = words(`
create_hypertable add_dimension by_range by_hash set_chunk_time_interval
set_partitioning_interval set_number_partitions set_adaptive_chunking
set_integer_now_func attach_tablespace detach_tablespace detach_tablespaces
attach_chunk detach_chunk drop_chunks compress_chunk decompress_chunk
recompress_chunk reorder_chunk move_chunk merge_chunks split_chunk
convert_to_columnstore convert_to_rowstore enable_chunk_skipping
disable_chunk_skipping add_job alter_job delete_job run_job
add_compression_policy remove_compression_policy add_columnstore_policy
remove_columnstore_policy add_retention_policy remove_retention_policy
add_reorder_policy remove_reorder_policy add_continuous_aggregate_policy
remove_continuous_aggregate_policy add_policies alter_policies
remove_policies remove_all_policies refresh_continuous_aggregate cagg_migrate
timescaledb_pre_restore timescaledb_post_restore
create_distributed_hypertable add_data_node delete_data_node
`)
