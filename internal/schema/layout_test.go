package schema

import (
	"context"
	"testing"

	"qvpgw/internal/catalog"
	"qvpgw/internal/pgtest"
)

// catalog230 is TimescaleDB 2.30's catalog as far as the loader reads it: no
// chunk_constraint, chunks by relid, no column finalized.
const catalog230 = `
CREATE TABLE bars (at timestamptz NOT NULL, v float8);
CREATE TABLE bars_chunk (CHECK (at >= '2024-01-01')) INHERITS (bars);
CREATE TABLE bars_compressed (v float8);
CREATE TABLE daily_rows (bucket timestamptz NOT NULL, s float8);
CREATE VIEW daily AS SELECT * FROM daily_rows;
CREATE SCHEMA _timescaledb_catalog;
CREATE SCHEMA timescaledb_information;
CREATE TABLE _timescaledb_catalog.hypertable (id int, schema_name name, table_name name);
CREATE TABLE _timescaledb_catalog.dimension (id int, hypertable_id int, column_name name, column_type regtype, partitioning_func_schema name, partitioning_func name, interval_length bigint);
CREATE TABLE _timescaledb_catalog.chunk (id int, relid regclass, hypertable_id int, status int, osm_chunk boolean, creation_time timestamptz);
CREATE TABLE _timescaledb_catalog.dimension_slice (id int, chunk_id int, dimension_id int, range_start bigint, range_end bigint);
CREATE TABLE _timescaledb_catalog.compression_settings (relid regclass, compress_relid regclass);
CREATE TABLE _timescaledb_catalog.continuous_agg (mat_hypertable_id int, raw_hypertable_id int, user_view_schema name, user_view_name name, materialized_only boolean);
CREATE TABLE _timescaledb_catalog.continuous_aggs_bucket_function (mat_hypertable_id int, bucket_width text, bucket_origin text, bucket_offset text, bucket_timezone text, bucket_fixed_width boolean);
CREATE TABLE _timescaledb_catalog.continuous_aggs_invalidation_threshold (hypertable_id int, watermark bigint);
CREATE TABLE _timescaledb_catalog.continuous_aggs_watermark (mat_hypertable_id int, watermark bigint);
CREATE TABLE _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log (hypertable_id int, lowest_modified_value bigint, greatest_modified_value bigint, seqnum int);
CREATE TABLE _timescaledb_catalog.continuous_aggs_materialization_invalidation_log (materialization_id int, lowest_modified_value bigint, greatest_modified_value bigint, seqnum int);
CREATE TABLE _timescaledb_catalog.continuous_aggs_materialization_ranges (materialization_id int, lowest_modified_value bigint, greatest_modified_value bigint);
CREATE VIEW timescaledb_information.continuous_aggregates AS
  SELECT 'public'::name AS view_schema, 'daily'::name AS view_name, 'SELECT 1' AS view_definition;
INSERT INTO _timescaledb_catalog.hypertable VALUES (1, 'public', 'bars'), (2, 'public', 'daily_rows');
INSERT INTO _timescaledb_catalog.dimension VALUES (1, 1, 'at', 'timestamptz', NULL, NULL, 10), (2, 1, 'v', 'float8', 'public', 'spread', NULL), (3, 2, 'bucket', 'timestamptz', NULL, NULL, 10);
INSERT INTO _timescaledb_catalog.chunk VALUES (7, 'bars_chunk', 1, 0, false, now());
INSERT INTO _timescaledb_catalog.dimension_slice VALUES (1, 7, 1, 100, 200), (2, 7, 2, 0, 1);
INSERT INTO _timescaledb_catalog.compression_settings VALUES ('bars', NULL), ('bars_chunk', 'bars_compressed');
INSERT INTO _timescaledb_catalog.continuous_agg VALUES (2, 1, 'public', 'daily', false);
INSERT INTO _timescaledb_catalog.continuous_aggs_bucket_function VALUES (2, '1 day', NULL, NULL, 'UTC', true);
INSERT INTO _timescaledb_catalog.continuous_aggs_invalidation_threshold VALUES (1, 150);
INSERT INTO _timescaledb_catalog.continuous_aggs_watermark VALUES (2, 140);
INSERT INTO _timescaledb_catalog.continuous_aggs_hypertable_invalidation_log VALUES (1, 110, 119, NULL);
INSERT INTO _timescaledb_catalog.continuous_aggs_materialization_invalidation_log VALUES (2, 115, 124, NULL);
INSERT INTO _timescaledb_catalog.continuous_aggs_materialization_ranges VALUES (2, 130, 134);
`

func TestTheCatalogOfTimescaleDB230IsUnderstood(t *testing.T) {
	conn := connect(t, pgtest.Database(t))
	exec(t, conn, "DROP EXTENSION timescaledb")
	_ = conn.Close(context.Background())
	conn = connect(t, conn.Config().ConnString())
	exec(t, conn, catalog230)
	ask := ConnQuery(conn)
	s, err := Load(context.Background(), func(ctx context.Context, sql string) ([][]string, error) {
		rows, err := ask(ctx, sql)
		if sql == factsSQL {
			rows[0][1], rows[0][3] = "2.30.0", "timescale"
		}
		return rows, err
	})
	if err != nil {
		t.Fatal(err)
	}
	bars := s.Relations[catalog.Name{Schema: "public", Name: "bars"}]
	if bars.HypertableID != 1 || bars.ReadClean || bars.Unclean != "partitioning function public.spread of bars" {
		t.Errorf("bars are %+v", bars)
	}
	if s.Relations[catalog.Name{Schema: "public", Name: "bars_chunk"}] != nil {
		t.Error("a chunk is a relation")
	}
	want := catalog.Chunk{
		ID: 7, Name: catalog.Name{Schema: "public", Name: "bars_chunk"}, Start: 100, End: 200,
		Compressed: catalog.Name{Schema: "public", Name: "bars_compressed"},
	}
	h := s.Hypertables[1]
	if len(h.Chunks) != 1 || h.Chunks[0] != want || h.TimeColumn != "at" || h.Threshold != 150 || !h.HasThreshold {
		t.Errorf("the hypertable is %+v", h)
	}
	if len(s.Aggregates) != 1 {
		t.Fatalf("there are %d aggregates", len(s.Aggregates))
	}
	a := s.Aggregates[0]
	if !a.Finalized || a.Watermark != 140 || a.RawID != 1 || a.BucketTimeZone != "UTC" || a.Definition != "SELECT 1" {
		t.Errorf("the aggregate is %+v", a)
	}
	if len(a.Invalid) != 2 || a.Invalid[0] != (catalog.Span{Start: 110, End: 125}) || a.Invalid[1] != (catalog.Span{Start: 130, End: 135}) {
		t.Errorf("invalid is %v", a.Invalid)
	}
}
