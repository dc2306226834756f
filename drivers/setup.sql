-- What the programs find. {schema} is each instance's own; the runner makes it and
-- drops it again, on the server itself.
CREATE SCHEMA {schema};
SET search_path TO {schema}, public;
CREATE TYPE colour AS ENUM ('red', 'green', 'blue');
CREATE TYPE place AS (x int, label text, z float8);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE item (
	id serial PRIMARY KEY,
	name text NOT NULL,
	amount numeric(12, 2) CONSTRAINT amount_positive CHECK (amount >= 0),
	tags text[],
	doc jsonb,
	at timestamptz,
	emb vector(3)
);
CREATE UNIQUE INDEX item_name ON item (name);
CREATE TABLE pair (a int, b text);
CREATE TABLE wide (n int PRIMARY KEY, b bytea, t text);
CREATE TABLE audited (a int);
CREATE SEQUENCE counter;
CREATE FUNCTION remember(name text, value text) RETURNS text LANGUAGE sql
	AS $$SELECT set_config(name, value, false)$$;
CREATE FUNCTION says(what text) RETURNS int LANGUAGE plpgsql
	AS $$BEGIN RAISE NOTICE 'said %', what USING DETAIL = 'a detail', HINT = 'a hint'; RETURN length(what); END$$;
CREATE FUNCTION fails(code text) RETURNS int LANGUAGE plpgsql
	AS $$BEGIN RAISE EXCEPTION 'failed on purpose' USING ERRCODE = code, DETAIL = 'its detail', HINT = 'its hint', TABLE = 'some table', COLUMN = 'some column'; END$$;
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql
	AS $$BEGIN PERFORM set_config('app.audited', NEW.a::text, false); RETURN NEW; END$$;
CREATE TRIGGER audit BEFORE INSERT ON audited FOR EACH ROW EXECUTE FUNCTION audit();
CREATE PROCEDURE commits(n int) LANGUAGE plpgsql
	AS $$BEGIN FOR i IN 1..n LOOP INSERT INTO pair VALUES (i, 'committed'); COMMIT; END LOOP; END$$;
CREATE FUNCTION two(OUT a int, OUT b text) RETURNS SETOF record LANGUAGE sql
	AS $$VALUES (1, 'one'), (2, 'two')$$;
GRANT USAGE ON SCHEMA {schema} TO plain;
GRANT SELECT ON item TO plain;
