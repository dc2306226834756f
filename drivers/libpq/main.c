/*
 * What libpq sees of a server: one line a check, nothing in it that changes from
 * run to run.
 */
#include <libpq-fe.h>
#include <libpq/libpq-fs.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <time.h>
#include <unistd.h>

static PGconn *db;
static char notices[8192];

/* Prints a value on one line. */
static void show(const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)s[i];
		if (c < 32 || c == '\\')
			printf("\\x%02x", c);
		else
			putchar(c);
	}
}

static void text(const char *s)
{
	if (s)
		show(s, strlen(s));
}

static void heard(void *arg, const PGresult *r)
{
	(void)arg;
	size_t n = strlen(notices);
	snprintf(notices + n, sizeof notices - n, " NOTICE %s %s %s|%s", PQresultErrorField(r, PG_DIAG_SEVERITY), PQresultErrorField(r, PG_DIAG_SQLSTATE),
		PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY), PQresultErrorField(r, PG_DIAG_MESSAGE_DETAIL) ? PQresultErrorField(r, PG_DIAG_MESSAGE_DETAIL) : "");
}

static PGconn *connect_one(void)
{
	PGconn *c = PQconnectdb("application_name=libpq");
	if (PQstatus(c) != CONNECTION_OK) {
		printf("connect: ERROR %s\n", PQerrorMessage(c));
		exit(1);
	}
	return c;
}

static void session(void)
{
	if (db)
		PQfinish(db);
	db = connect_one();
	PQsetNoticeReceiver(db, heard, NULL);
}

static void print_result(const PGresult *r)
{
	static const int fields[] = {PG_DIAG_SEVERITY, PG_DIAG_SQLSTATE, PG_DIAG_MESSAGE_PRIMARY, PG_DIAG_MESSAGE_DETAIL, PG_DIAG_MESSAGE_HINT, PG_DIAG_STATEMENT_POSITION,
		PG_DIAG_SCHEMA_NAME, PG_DIAG_TABLE_NAME, PG_DIAG_COLUMN_NAME, PG_DIAG_CONSTRAINT_NAME, PG_DIAG_DATATYPE_NAME, PG_DIAG_CONTEXT, PG_DIAG_SOURCE_FUNCTION};
	if (!r) {
		printf(" null");
		return;
	}
	printf(" %s %s %s", PQresStatus(PQresultStatus(r)), PQcmdStatus((PGresult *)r), PQcmdTuples((PGresult *)r));
	if (PQresultStatus(r) == PGRES_FATAL_ERROR || PQresultStatus(r) == PGRES_NONFATAL_ERROR)
		for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
			putchar('|');
			text(PQresultErrorField(r, fields[i]));
		}
	for (int i = 0; i < PQnfields(r); i++)
		if (PQftype(r, i) < 16384)
			printf(" [%s %u %d %d]", PQfname(r, i), PQftype(r, i), PQfsize(r, i), PQfmod(r, i));
		else
			printf(" [%s own]", PQfname(r, i));
	for (int k = 0; k < PQntuples(r) && k < 100; k++) {
		printf(" (");
		for (int i = 0; i < PQnfields(r); i++) {
			if (i)
				printf(", ");
			if (PQgetisnull(r, k, i))
				printf("NULL");
			else
				show(PQgetvalue(r, k, i), (size_t)PQgetlength(r, k, i));
		}
		putchar(')');
	}
}

/* Prints the rest of a check's line. */
static void end(void)
{
	for (char *p = notices; *p; p++)
		putchar(*p == '\n' ? ' ' : *p);
	notices[0] = 0;
	putchar('\n');
	fflush(stdout);
}

static void check(const char *name, PGresult *r)
{
	printf("%s: ", name);
	print_result(r);
	PQclear(r);
	end();
}

static void fact(const char *name, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	printf("%s: ", name);
	vprintf(format, args);
	va_end(args);
	end();
}

/* Takes all results that are due. */
static void all_results(const char *name)
{
	PGresult *r;
	printf("%s: ", name);
	while ((r = PQgetResult(db))) {
		print_result(r);
		PQclear(r);
	}
	end();
}

static PGresult *params(const char *sql, const char *a, int format)
{
	return PQexecParams(db, sql, a ? 1 : 0, NULL, &a, NULL, NULL, format);
}

static void each(const char *file, void (*run)(const char *name, const char *sql))
{
	char path[1024], *line = NULL;
	size_t size = 0;
	ssize_t n;
	snprintf(path, sizeof path, "%s/%s", getenv("DRIVER_FILES"), file);
	FILE *in = fopen(path, "r");
	if (!in)
		exit(1);
	session();
	while ((n = getline(&line, &size, in)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = 0;
		if (*line == '#') {
			session();
			continue;
		}
		char *tab = strchr(line, '\t');
		if (!tab)
			continue;
		*tab = 0;
		run(line, tab + 1);
	}
	free(line);
	fclose(in);
}

static void step(const char *name, const char *sql) { check(name, PQexec(db, sql)); }

static void extended_step(const char *name, const char *sql)
{
	char at[256];
	snprintf(at, sizeof at, "extended %s", name);
	check(at, params(sql, NULL, 0));
}

static void type(const char *name, const char *expr)
{
	char sql[1024], at[256];
	snprintf(sql, sizeof sql, "SELECT %s", expr);
	snprintf(at, sizeof at, "text %s", name);
	check(at, PQexec(db, sql));
	if (!strcmp(name, "enum_array"))
		return; /* its binary form holds an oid */
	snprintf(at, sizeof at, "binary %s", name);
	check(at, params(sql, NULL, 1));
}

static void prepared(void)
{
	char name[32], sql[64];
	const char *one = "1";
	long total = 0;
	session();
	for (int i = 0; i < 60; i++) {
		snprintf(name, sizeof name, "p%d", i);
		snprintf(sql, sizeof sql, "SELECT $1::int + %d", i);
		PQclear(PQprepare(db, name, sql, 0, NULL));
	}
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 60; i++) {
			snprintf(name, sizeof name, "p%d", i);
			PGresult *r = PQexecPrepared(db, name, 1, &one, NULL, NULL, 0);
			total += atol(PQgetvalue(r, 0, 0));
			PQclear(r);
		}
		PQclear(PQexec(db, "BEGIN"));
		for (int i = 0; i < 60; i += 7) {
			snprintf(name, sizeof name, "p%d", i);
			PGresult *r = PQexecPrepared(db, name, 1, &one, NULL, NULL, 0);
			total += atol(PQgetvalue(r, 0, 0));
			PQclear(r);
		}
		PQclear(PQexec(db, "COMMIT"));
	}
	fact("prepared_many", "%ld", total);
	check("prepared_again", PQprepare(db, "p1", "SELECT 1", 0, NULL));
	check("prepared_describe", PQdescribePrepared(db, "p1"));
	check("prepared_describe_missing", PQdescribePrepared(db, "missing"));
	check("prepared_close", PQclosePrepared(db, "p1"));
	check("prepared_closed", PQexecPrepared(db, "p1", 1, &one, NULL, NULL, 0));
	check("prepared_close_missing", PQclosePrepared(db, "missing"));
	check("prepared_deallocate", PQexec(db, "DEALLOCATE p2"));
	check("prepared_deallocated", PQexecPrepared(db, "p2", 1, &one, NULL, NULL, 0));
	check("prepared_error", params("SELECT 1 / $1::int", "0", 0));
	check("prepared_after_error", params("SELECT 1 / $1::int", "1", 0));
	check("prepared_missing", PQprepare(db, "m", "SELECT * FROM missing WHERE a = $1", 0, NULL));
	check("prepared_in_transaction", PQexec(db, "BEGIN"));
	check("prepared_inside", PQprepare(db, "inside", "SELECT 'inside'", 0, NULL));
	check("prepared_rolled_back", PQexec(db, "ROLLBACK"));
	check("prepared_survives", PQexecPrepared(db, "inside", 0, NULL, NULL, NULL, 0));
	check("prepared_deallocate_all", PQexec(db, "DEALLOCATE ALL"));
	check("prepared_gone", PQexecPrepared(db, "inside", 0, NULL, NULL, NULL, 0));
	check("portal_begin", PQexec(db, "BEGIN; DECLARE c CURSOR FOR SELECT 1 AS a, 'x' AS b"));
	check("portal_describe", PQdescribePortal(db, "c"));
	check("portal_close", PQclosePortal(db, "c"));
	check("portal_gone", PQexec(db, "FETCH c"));
	check("portal_rollback", PQexec(db, "ROLLBACK"));
	check("too_few_parameters", PQexecParams(db, "SELECT $1::int, $2::int", 1, NULL, &one, NULL, NULL, 0));
	check("bad_parameter", params("SELECT $1::int", "abc", 0));
	check("several_in_one", params("SELECT 1; SELECT 2", NULL, 0));
}

/* Takes a pipeline's results up to a number of Syncs. */
static void pipeline_results(const char *name, int syncs)
{
	char at[64];
	for (int i = 0, nulls = 0; syncs > 0 && nulls < 50; i++) {
		PGresult *r = PQgetResult(db);
		if (!r) {
			nulls++;
			continue;
		}
		nulls = 0;
		if (PQresultStatus(r) == PGRES_PIPELINE_SYNC)
			syncs--;
		snprintf(at, sizeof at, "%s %d", name, i);
		check(at, r);
	}
}

static void pipelines(void)
{
	const char *v[1];
	char n[16];
	session();
	fact("pipeline_enter", "%d", PQenterPipelineMode(db));
	for (int i = 0; i < 8; i++) {
		snprintf(n, sizeof n, "%d", i);
		v[0] = n;
		PQsendQueryParams(db, "SELECT $1::int * 2", 1, NULL, v, NULL, NULL, 0);
	}
	PQpipelineSync(db);
	pipeline_results("pipeline", 1);
	v[0] = "0";
	PQsendQueryParams(db, "INSERT INTO pair VALUES (1, 'pipeline')", 0, NULL, NULL, NULL, NULL, 0);
	PQsendQueryParams(db, "SELECT 1 / $1::int", 1, NULL, v, NULL, NULL, 0);
	PQsendQueryParams(db, "SELECT 'skipped'", 0, NULL, NULL, NULL, NULL, 0);
	PQpipelineSync(db);
	PQsendQueryParams(db, "SELECT 'after'", 0, NULL, NULL, NULL, NULL, 0);
	PQpipelineSync(db);
	pipeline_results("pipeline_fails", 2);
	PQsendPrepare(db, "piped", "SELECT $1::text", 0, NULL);
	v[0] = "in a pipeline";
	PQsendQueryPrepared(db, "piped", 1, v, NULL, NULL, 0);
	PQsendDescribePrepared(db, "piped");
	PQsendFlushRequest(db);
	PQflush(db);
	for (int i = 0; i < 3; i++) {
		char at[64];
		snprintf(at, sizeof at, "pipeline_flushed %d", i);
		check(at, PQgetResult(db));
		PQclear(PQgetResult(db));
	}
	PQsendClosePrepared(db, "piped");
	PQpipelineSync(db);
	pipeline_results("pipeline_closed", 1);
	PQsendQueryParams(db, "BEGIN", 0, NULL, NULL, NULL, NULL, 0);
	PQsendQueryParams(db, "INSERT INTO pair VALUES (2, 'pipeline')", 0, NULL, NULL, NULL, NULL, 0);
	PQpipelineSync(db);
	PQsendQueryParams(db, "SELECT count(*) FROM pair WHERE b = 'pipeline'", 0, NULL, NULL, NULL, NULL, 0);
	PQsendQueryParams(db, "COMMIT", 0, NULL, NULL, NULL, NULL, 0);
	PQpipelineSync(db);
	pipeline_results("pipeline_transaction", 2);
	fact("pipeline_exit", "%d %d", PQexitPipelineMode(db), PQtransactionStatus(db));
	check("pipeline_seen", PQexec(db, "SELECT count(*) FROM pair WHERE b = 'pipeline'"));
	PQsendQuery(db, "SELECT 1; SELECT 'two', 3; INSERT INTO pair VALUES (1, 'several')");
	all_results("several_statements");
	PQsendQuery(db, "INSERT INTO pair VALUES (2, 'several'); SELECT 1 / 0; SELECT 3");
	all_results("several_fail");
	check("several_undone", PQexec(db, "SELECT count(*) FROM pair WHERE b = 'several'"));
	check("empty_statement", PQexec(db, ""));
	check("empty_extended", params("", NULL, 0));
	PQsendQuery(db, "SELECT i FROM generate_series(1, 400) i");
	PQsetSingleRowMode(db);
	long sum = 0;
	for (PGresult *r; (r = PQgetResult(db)); PQclear(r))
		if (PQresultStatus(r) == PGRES_SINGLE_TUPLE)
			sum += atol(PQgetvalue(r, 0, 0));
	fact("single_rows", "%ld", sum);
	PQsendQuery(db, "SELECT i FROM generate_series(1, 400) i");
	PQsetChunkedRowsMode(db, 33);
	sum = 0;
	for (PGresult *r; (r = PQgetResult(db)); PQclear(r))
		if (PQresultStatus(r) == PGRES_TUPLES_CHUNK)
			sum = sum * 2 + PQntuples(r);
	fact("chunked_rows", "%ld", sum);
}

static void copy_out(const char *name, const char *sql, bool print)
{
	char *b;
	int n;
	long total = 0;
	check(name, PQexec(db, sql));
	printf("%s data: ", name);
	while ((n = PQgetCopyData(db, &b, 0)) > 0) {
		total += n;
		if (print)
			show(b, (size_t)n);
		PQfreemem(b);
	}
	printf(" %ld %d", total, n);
	end();
	all_results("copy_result");
}

static void copies(void)
{
	char row[64];
	session();
	check("copy_in", PQexec(db, "COPY pair FROM STDIN"));
	for (int i = 0; i < 1000; i++) {
		int n = snprintf(row, sizeof row, "%d\trow %d\n", i, i);
		PQputCopyData(db, row, n);
	}
	PQputCopyEnd(db, NULL);
	all_results("copy_in_end");
	copy_out("copy_out", "COPY (SELECT * FROM pair WHERE b LIKE 'row%' ORDER BY a LIMIT 5) TO STDOUT", true);
	copy_out("copy_out_binary", "COPY (SELECT 1::int, 'x'::text, NULL) TO STDOUT (FORMAT BINARY)", true);
	copy_out("copy_out_large", "COPY (SELECT i, repeat('x', 50) FROM generate_series(1, 40000) i) TO STDOUT", false);
	copy_out("copy_out_breaks", "COPY (SELECT 1 / (5000 - i) FROM generate_series(1, 6000) i) TO STDOUT", false);
	check("copy_breaks", PQexec(db, "COPY pair FROM STDIN"));
	PQputCopyData(db, "1\tfine\nnot a number\tbroken\n", 27);
	for (int i = 0; i < 20000; i++)
		PQputCopyData(db, "2\tmore\n", 7);
	PQputCopyEnd(db, NULL);
	all_results("copy_breaks_end");
	check("copy_given_up", PQexec(db, "COPY pair FROM STDIN"));
	PQputCopyData(db, "1\tgiven up\n", 11);
	PQputCopyEnd(db, "the program's own");
	all_results("copy_given_up_end");
	check("copy_extended", params("COPY pair FROM STDIN", NULL, 0));
	PQputCopyData(db, "7\textended\n", 11);
	PQputCopyEnd(db, NULL);
	all_results("copy_extended_end");
	check("copy_after", PQexec(db, "SELECT b, count(*) FROM pair WHERE b IN ('fine', 'more', 'given up', 'extended') GROUP BY b"));
}

static void taken(const char *name, int want, int patience)
{
	int got = 0;
	printf("%s: ", name);
	for (int waited = 0; got < want && waited < patience; waited += 50) {
		struct timeval t = {0, 50000};
		fd_set set;
		FD_ZERO(&set);
		FD_SET(PQsocket(db), &set);
		select(PQsocket(db) + 1, &set, NULL, NULL, &t);
		PQconsumeInput(db);
		for (PGnotify *n; (n = PQnotifies(db)); PQfreemem(n), got++)
			printf(" %d %s %d", !strcmp(n->relname, getenv("DRIVER_SCHEMA")), n->extra, n->be_pid == PQbackendPID(db));
	}
	end();
}

static void notify(PGconn *c, const char *format)
{
	char sql[256];
	snprintf(sql, sizeof sql, format, getenv("DRIVER_SCHEMA"));
	PQclear(PQexec(c, sql));
}

static void listening(void)
{
	session();
	notify(db, "LISTEN %s");
	notify(db, "NOTIFY %s, 'to myself'");
	taken("notify_self", 1, 10000);
	PGconn *c = connect_one();
	notify(c, "NOTIFY %s, 'from another'");
	taken("notify_other", 1, 10000);
	notify(c, "BEGIN; NOTIFY %s, 'a'");
	notify(c, "NOTIFY %s, 'b'");
	PQclear(PQexec(c, "COMMIT"));
	taken("notify_transaction", 2, 10000);
	notify(c, "BEGIN; NOTIFY %s, 'never'");
	PQclear(PQexec(c, "ROLLBACK"));
	notify(c, "NOTIFY %s, 'only this'");
	taken("notify_rolled_back", 1, 10000);
	PQclear(PQexec(db, "BEGIN"));
	notify(c, "NOTIFY %s, 'while inside'");
	taken("notify_inside", 1, 300);
	PQclear(PQexec(db, "COMMIT"));
	taken("notify_after", 1, 10000);
	PQfinish(c);
	PQclear(PQexec(db, "UNLISTEN *"));
	notify(db, "NOTIFY %s, 'unheard'");
	taken("unlisten", 1, 300);
}

static void cancel(const char *name, bool encrypted)
{
	char why[256] = "";
	int ok;
	PQsendQuery(db, "SELECT pg_sleep(30)");
	usleep(300000);
	if (encrypted) {
		PGcancelConn *c = PQcancelCreate(db);
		ok = PQcancelBlocking(c);
		PQcancelFinish(c);
	} else {
		PGcancel *c = PQgetCancel(db);
		ok = PQcancel(c, why, sizeof why);
		PQfreeCancel(c);
	}
	printf("%s: %d %s", name, ok, why);
	for (PGresult *r; (r = PQgetResult(db)); PQclear(r))
		print_result(r);
	end();
}

static void cancels(void)
{
	session();
	cancel("cancel", false);
	check("cancel_after", PQexec(db, "SELECT 'usable'"));
	cancel("cancel_blocking", true);
	check("cancel_blocking_after", PQexec(db, "SELECT 'usable'"));
	check("cancel_begin", PQexec(db, "BEGIN"));
	cancel("cancel_in_transaction", false);
	check("cancel_aborted", PQexec(db, "SELECT 1"));
	check("cancel_rollback", PQexec(db, "ROLLBACK"));
	PGcancel *c = PQgetCancel(db);
	char why[256];
	fact("cancel_idle", "%d", PQcancel(c, why, sizeof why));
	PQfreeCancel(c);
	usleep(100000);
	check("cancel_idle_after", PQexec(db, "SELECT 'untouched'"));
}

static void large(void)
{
	size_t n = 4 << 20;
	char *b = malloc(n + 1);
	session();
	for (size_t i = 0; i < n; i++)
		b[i] = (char)i;
	const char *values[2] = {b, NULL};
	int lengths[2] = {(int)n, 0}, formats[2] = {1, 0};
	PGresult *r = PQexecParams(db, "INSERT INTO wide VALUES (1, $1, $2)", 2, NULL, values, lengths, formats, 0);
	check("large_insert", r);
	r = params("SELECT b FROM wide", NULL, 1);
	fact("large_select", "%d", PQgetlength(r, 0, 0) == (int)n && !memcmp(PQgetvalue(r, 0, 0), b, n));
	PQclear(r);
	r = PQexec(db, "SELECT repeat('y', 100) FROM generate_series(1, 30000)");
	fact("large_rows", "%d", PQntuples(r));
	PQclear(r);
	memset(b, 'x', n);
	b[n] = 0;
	r = params("SELECT length($1::text)", b, 0);
	fact("large_text", "%s", PQgetvalue(r, 0, 0));
	PQclear(r);
	free(b);
	long sum = 0;
	for (int i = 0; i < 500; i++) {
		char v[16];
		snprintf(v, sizeof v, "%d", i);
		r = params("SELECT $1::int", v, 0);
		sum += atol(PQgetvalue(r, 0, 0));
		PQclear(r);
	}
	fact("many_small", "%ld", sum);
	PQclear(PQexec(db, "BEGIN"));
	Oid oid = lo_creat(db, INV_READ | INV_WRITE);
	int fd = lo_open(db, oid, INV_READ | INV_WRITE);
	char got[16] = "";
	int wrote = lo_write(db, fd, "some bytes", 10), at = lo_lseek(db, fd, 5, SEEK_SET), bytes = lo_read(db, fd, got, 5);
	fact("large_object", "%d %d %d %s %d %d", wrote, at, bytes, got, lo_close(db, fd), lo_unlink(db, oid));
	PQclear(PQexec(db, "COMMIT"));
	int args[1];
	PQArgBlock call = {4, 1, {.integer = -5}};
	int length;
	r = PQfn(db, 1397, args, &length, 1, &call, 1); /* abs(int4) */
	fact("function_call", "%s %d", PQresStatus(PQresultStatus(r)), args[0]);
	PQclear(r);
	PQreset(db);
	check("reset", PQexec(db, "SELECT 'new session'"));
}

int main(void)
{
	session();
	fact("facts", "%d %d %d %s %s %s %d", PQbackendPID(db) > 0, PQserverVersion(db) / 10000, PQprotocolVersion(db), PQparameterStatus(db, "TimeZone"),
		PQparameterStatus(db, "client_encoding"), PQparameterStatus(db, "application_name"), PQtransactionStatus(db));
	each("steps.tsv", step);
	each("steps.tsv", extended_step);
	each("styles.tsv", step);
	each("types.tsv", type);
	prepared();
	pipelines();
	copies();
	listening();
	cancels();
	large();
	PQfinish(db);
	return 0;
}
