-- Up to where each continuous aggregate is settled: in [low, high) it holds, or
-- TimescaleDB's logs or the change log name, every change that is visible. The
-- gateway's worker writes it (docs/changes.md).
CREATE TABLE qvpgw.settled (
  aggregate integer PRIMARY KEY,          -- id of its materialization hypertable
  low       bigint NOT NULL,              -- internal time
  high      bigint NOT NULL,
  triggers  oid[]  NOT NULL DEFAULT '{}', -- that log corrections of its hypertable since then
  reason    text   NOT NULL DEFAULT '',   -- why it cannot be settled, a code
  chunks    int[]  NOT NULL DEFAULT '{}', -- of the materialization that [low, high) rests on, by id
  at        timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT ON qvpgw.settled TO PUBLIC;
