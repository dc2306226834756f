import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.sql.*;
import java.util.*;
import org.postgresql.*;
import org.postgresql.copy.CopyManager;
import org.postgresql.largeobject.*;
import org.postgresql.util.*;

/** What pgjdbc sees of a server: one line a check, nothing in it that changes from run to run. */
public class Main {
    static final String SCHEMA = System.getenv("DRIVER_SCHEMA");
    static final PrintStream out = new PrintStream(new FileOutputStream(FileDescriptor.out), true, StandardCharsets.UTF_8);
    static Connection conn;

    interface Check { Object run() throws Exception; }

    static Connection connect(String... more) throws SQLException {
        Properties p = new Properties();
        p.setProperty("user", System.getenv("PGUSER"));
        p.setProperty("options", System.getenv("PGOPTIONS"));
        p.setProperty("ApplicationName", "pgjdbc");
        p.setProperty("sslmode", "disable");
        for (int i = 0; i < more.length; i += 2) p.setProperty(more[i], more[i + 1]);
        return DriverManager.getConnection("jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE"), p);
    }

    static void session(String... more) throws SQLException {
        if (conn != null) conn.close();
        conn = connect(more);
    }

    static String error(Throwable e) {
        StringBuilder b = new StringBuilder();
        if (e instanceof PSQLException p && p.getServerErrorMessage() != null) {
            ServerErrorMessage m = p.getServerErrorMessage();
            for (Object o : new Object[] {m.getSeverity(), m.getSQLState(), m.getMessage(), m.getDetail(), m.getHint(), m.getPosition(), m.getWhere(), m.getSchema(),
                    m.getTable(), m.getColumn(), m.getDatatype(), m.getConstraint(), m.getRoutine()})
                b.append(o == null ? "" : o).append('|');
        } else {
            b.append(e.getClass().getSimpleName()).append(' ').append(e.getMessage());
        }
        if (e instanceof BatchUpdateException x) b.append(" counts ").append(Arrays.toString(x.getUpdateCounts()));
        if (e instanceof SQLException x && x.getNextException() != null) b.append(" next ").append(error(x.getNextException()));
        return b.toString();
    }

    static void check(String name, Check run) {
        String value;
        try {
            value = String.valueOf(run.run());
        } catch (Throwable e) {
            value = "ERROR " + error(e);
        }
        out.println(name + ": " + value.replace("\n", "\\n"));
    }

    static String text(Object o) throws SQLException {
        if (o instanceof byte[] b) return HexFormat.of().formatHex(b);
        if (o instanceof java.sql.Array a) return "array " + a;
        if (o instanceof Object[] a) return Arrays.deepToString(a);
        return String.valueOf(o);
    }

    static String rows(ResultSet r) throws SQLException {
        StringBuilder b = new StringBuilder();
        ResultSetMetaData m = r.getMetaData();
        for (int i = 1; i <= m.getColumnCount(); i++) b.append('[').append(m.getColumnLabel(i)).append(' ').append(m.getColumnTypeName(i)).append(' ').append(m.getColumnType(i)).append(']');
        while (r.next()) {
            b.append(" (");
            for (int i = 1; i <= m.getColumnCount(); i++) {
                String s;
                try {
                    Object o = r.getObject(i);
                    s = (o == null ? "" : o.getClass().getSimpleName() + " ") + text(o);
                } catch (SQLException e) {
                    s = "unreadable " + r.getString(i) + " " + error(e);
                }
                b.append(i > 1 ? ", " : "").append(s);
            }
            b.append(')');
        }
        return b.toString();
    }

    static String results(Statement s, boolean is) throws SQLException {
        StringBuilder b = new StringBuilder();
        while (true) {
            if (is) b.append(rows(s.getResultSet()));
            else if (s.getUpdateCount() == -1) break;
            else b.append(" count ").append(s.getUpdateCount());
            is = s.getMoreResults();
        }
        for (SQLWarning w = s.getWarnings(); w != null; w = w.getNextWarning()) b.append(" NOTICE ").append(w.getSQLState()).append(' ').append(w.getMessage());
        return b.toString();
    }

    static String execute(String sql) throws SQLException {
        try (Statement s = conn.createStatement()) {
            return results(s, s.execute(sql));
        }
    }

    static String prepared(String sql, Object... args) throws SQLException {
        try (PreparedStatement s = conn.prepareStatement(sql)) {
            for (int i = 0; i < args.length; i++) s.setObject(i + 1, args[i]);
            return results(s, s.execute());
        }
    }

    static List<String> lines(String file) throws IOException {
        return Files.readAllLines(Path.of(System.getenv("DRIVER_FILES"), file));
    }

    public static void main(String[] args) throws Exception {
        session();
        check("facts", () -> {
            PGConnection p = conn.unwrap(PGConnection.class);
            DatabaseMetaData m = conn.getMetaData();
            return List.of(p.getBackendPID() > 0, m.getDatabaseMajorVersion(), p.getParameterStatus("TimeZone"), p.getParameterStatus("application_name"), p.getParameterStatus("DateStyle"), conn.getSchema());
        });
        for (String line : lines("steps.tsv")) {
            if (line.startsWith("#")) {
                session();
                continue;
            }
            String[] part = line.split("\t", 2);
            check(part[0], () -> execute(part[1]));
        }
        session();
        for (String line : lines("types.tsv")) {
            String[] part = line.split("\t", 2);
            check("text " + part[0], () -> execute("SELECT " + part[1]));
            check("string " + part[0], () -> one("SELECT " + part[1]));
        }
        session("prepareThreshold", "-1");
        for (String line : lines("types.tsv")) {
            String[] part = line.split("\t", 2);
            check("binary " + part[0], () -> prepared("SELECT " + part[1]));
        }
        session("preferQueryMode", "simple");
        for (String line : lines("types.tsv")) {
            String[] part = line.split("\t", 2);
            check("simple " + part[0], () -> prepared("SELECT " + part[1]));
        }
        session();
        parameters();
        session();
        preparedStatements();
        session();
        batches();
        session();
        copies();
        session();
        listening();
        session();
        cancels();
        session();
        cursors();
        session();
        transactions();
        session();
        large();
        session();
        metadata();
        conn.close();
    }

    static Object one(String sql) throws SQLException {
        try (Statement s = conn.createStatement(); ResultSet r = s.executeQuery(sql)) {
            return r.next() ? r.getString(1) : "no row";
        }
    }

    static Object one(PreparedStatement s) throws SQLException {
        try (ResultSet r = s.executeQuery()) {
            return r.next() ? r.getObject(1) : "no row";
        }
    }

    static void parameters() throws SQLException {
        Object[] values = {true, (short) -1, 7, Long.MIN_VALUE, 2.5f, Double.NaN, Double.NEGATIVE_INFINITY, new java.math.BigDecimal("1.10"), "naïve 漢字", new byte[] {0, -1, 39},
            java.time.LocalDate.of(2024, 2, 29), java.time.LocalTime.of(1, 2, 3), java.time.LocalDateTime.of(2024, 1, 2, 3, 4, 5, 6000),
            java.time.OffsetDateTime.of(2024, 1, 2, 3, 4, 5, 6000, java.time.ZoneOffset.UTC), new PGInterval("1 day 2 hours"), new UUID(0, 5), null,
            conn.createArrayOf("int4", new Object[] {1, 2, null}), conn.createArrayOf("text", new Object[] {"a", "b\"c"})};
        for (int i = 0; i < values.length; i++) {
            Object v = values[i];
            check("parameter " + i, () -> prepared("SELECT ? AS a", v));
            check("parameter_binary " + i, () -> {
                try (PreparedStatement s = conn.prepareStatement("SELECT ? AS a")) {
                    s.unwrap(PGStatement.class).setPrepareThreshold(1);
                    String got = "";
                    for (int k = 0; k < 3; k++) {
                        s.setObject(1, v);
                        got += text(one(s)) + " ";
                    }
                    return got;
                }
            });
        }
        check("parameter own", () -> {
            PGobject o = new PGobject();
            o.setType("colour");
            o.setValue("red");
            return prepared("SELECT ?, ?::vector", o, "[1,2,3]");
        });
    }

    static void preparedStatements() throws SQLException {
        check("prepared_many", () -> {
            int total = 0;
            List<PreparedStatement> all = new ArrayList<>();
            for (int i = 0; i < 60; i++) {
                PreparedStatement s = conn.prepareStatement("SELECT ?::int + " + i);
                s.unwrap(PGStatement.class).setPrepareThreshold(2);
                all.add(s);
            }
            for (int round = 0; round < 5; round++) {
                for (PreparedStatement s : all) {
                    s.setInt(1, 1);
                    total += (Integer) one(s);
                }
                conn.setAutoCommit(false);
                for (int i = 0; i < 60; i += 7) {
                    all.get(i).setInt(1, 2);
                    total += (Integer) one(all.get(i));
                }
                conn.commit();
                conn.setAutoCommit(true);
            }
            for (PreparedStatement s : all) s.close();
            return total;
        });
        check("prepared_threshold", () -> {
            StringBuilder b = new StringBuilder();
            try (PreparedStatement s = conn.prepareStatement("SELECT name FROM item WHERE id = ?")) {
                for (int i = 0; i < 12; i++) {
                    s.setInt(1, i % 3 + 1);
                    b.append(one(s)).append(s.unwrap(PGStatement.class).isUseServerPrepare()).append(' ');
                }
            }
            return b;
        });
        check("prepared_error", () -> prepared("SELECT 1 / ?::int", 0));
        check("prepared_after_error", () -> prepared("SELECT 1 / ?::int", 1));
        check("prepared_missing", () -> prepared("SELECT * FROM missing WHERE a = ?", 1));
        check("prepared_deallocate", () -> {
            StringBuilder b = new StringBuilder();
            try (PreparedStatement s = conn.prepareStatement("SELECT ?::int + 1000")) {
                s.unwrap(PGStatement.class).setPrepareThreshold(1);
                for (int i = 0; i < 6; i++) {
                    s.setInt(1, i);
                    b.append(one(s)).append(' ');
                    if (i == 2) b.append(execute("DEALLOCATE ALL"));
                    if (i == 4) b.append(execute("DISCARD ALL"));
                }
            }
            return b;
        });
        session("autosave", "always");
        check("autosave", () -> {
            conn.setAutoCommit(false);
            StringBuilder b = new StringBuilder(execute("INSERT INTO pair VALUES (1, 'autosave')"));
            try {
                execute("SELECT 1 / 0");
            } catch (SQLException e) {
                b.append(error(e));
            }
            b.append(execute("INSERT INTO pair VALUES (2, 'autosave')"));
            conn.commit();
            conn.setAutoCommit(true);
            return b.append(execute("SELECT count(*) FROM pair WHERE b = 'autosave'"));
        });
        check("autosave_table_changes", () -> {
            execute("CREATE TABLE changing (a int)");
            execute("INSERT INTO changing VALUES (1)");
            StringBuilder b = new StringBuilder();
            try (PreparedStatement s = conn.prepareStatement("SELECT * FROM changing WHERE a = ?")) {
                s.unwrap(PGStatement.class).setPrepareThreshold(1);
                for (int i = 0; i < 4; i++) {
                    s.setInt(1, 1);
                    b.append(results(s, s.execute())).append(' ');
                    if (i == 1) execute("ALTER TABLE changing ADD COLUMN b text DEFAULT 'b'");
                }
            }
            execute("DROP TABLE changing");
            return b;
        });
    }

    static void batches() {
        check("batch", () -> {
            try (PreparedStatement s = conn.prepareStatement("INSERT INTO pair VALUES (?, 'batch')")) {
                for (int i = 0; i < 300; i++) {
                    s.setInt(1, i);
                    s.addBatch();
                }
                return Arrays.stream(s.executeBatch()).sum();
            }
        });
        check("batch_fails", () -> {
            try (PreparedStatement s = conn.prepareStatement("INSERT INTO pair VALUES (10 / ?, 'half')")) {
                for (int i : new int[] {1, 2, 0, 3}) {
                    s.setInt(1, i);
                    s.addBatch();
                }
                return Arrays.toString(s.executeBatch());
            }
        });
        check("batch_fails_seen", () -> execute("SELECT count(*) FROM pair WHERE b = 'half'"));
        check("batch_mixed", () -> {
            conn.setAutoCommit(false);
            try (Statement s = conn.createStatement()) {
                s.addBatch("INSERT INTO pair VALUES (1, 'mixed')");
                s.addBatch("UPDATE pair SET a = 2 WHERE b = 'mixed'");
                s.addBatch("SAVEPOINT s");
                s.addBatch("DELETE FROM pair WHERE b = 'mixed'");
                s.addBatch("ROLLBACK TO SAVEPOINT s");
                String got = Arrays.toString(s.executeBatch());
                conn.commit();
                return got;
            } finally {
                conn.setAutoCommit(true);
            }
        });
        check("batch_returning", () -> {
            try (PreparedStatement s = conn.prepareStatement("INSERT INTO item (name, amount) VALUES (?, 1)", Statement.RETURN_GENERATED_KEYS)) {
                for (String n : new String[] {"keyed 1", "keyed 2"}) {
                    s.setString(1, n);
                    s.addBatch();
                }
                s.executeBatch();
                int n = 0;
                for (ResultSet r = s.getGeneratedKeys(); r.next();) n++;
                return n;
            }
        });
        check("batch_rewritten", () -> {
            try (Connection c = connect("reWriteBatchedInserts", "true"); PreparedStatement s = c.prepareStatement("INSERT INTO pair VALUES (?, ?)")) {
                for (int i = 0; i < 200; i++) {
                    s.setInt(1, i);
                    s.setString(2, "rewritten");
                    s.addBatch();
                }
                return s.executeBatch().length;
            }
        });
        check("batch_seen", () -> execute("SELECT b, count(*), sum(a) FROM pair GROUP BY b ORDER BY b"));
        check("several_statements", () -> execute("SELECT 1; SELECT 'two', 3; INSERT INTO pair VALUES (1, 'several'); SELECT count(*) FROM pair WHERE b = 'several'"));
        check("several_fail", () -> execute("INSERT INTO pair VALUES (2, 'several'); SELECT 1 / 0"));
        check("several_undone", () -> execute("SELECT count(*) FROM pair WHERE b = 'several'"));
        check("empty_statement", () -> execute(""));
        check("call", () -> {
            try (CallableStatement s = conn.prepareCall("{? = call says(?)}")) {
                s.registerOutParameter(1, Types.INTEGER);
                s.setString(2, "called");
                s.execute();
                return s.getInt(1);
            }
        });
    }

    static void copies() {
        check("copy_in", () -> {
            StringBuilder b = new StringBuilder();
            for (int i = 0; i < 1000; i++) b.append(i).append("\trow ").append(i).append('\n');
            return manager().copyIn("COPY pair FROM STDIN", new StringReader(b.toString()));
        });
        check("copy_out", () -> {
            StringWriter w = new StringWriter();
            long n = manager().copyOut("COPY (SELECT * FROM pair WHERE b LIKE 'row%' ORDER BY a LIMIT 5) TO STDOUT", w);
            return n + " " + w;
        });
        check("copy_out_binary", () -> {
            ByteArrayOutputStream b = new ByteArrayOutputStream();
            manager().copyOut("COPY (SELECT 1::int, 'x'::text, NULL) TO STDOUT (FORMAT BINARY)", b);
            return HexFormat.of().formatHex(b.toByteArray());
        });
        check("copy_out_large", () -> {
            ByteArrayOutputStream b = new ByteArrayOutputStream();
            return manager().copyOut("COPY (SELECT i, repeat('x', 50) FROM generate_series(1, 40000) i) TO STDOUT", b) + " " + b.size();
        });
        check("copy_breaks", () -> manager().copyIn("COPY pair FROM STDIN", new StringReader("1\tfine\nnot a number\tbroken\n" + "2\tmore\n".repeat(20000))));
        check("copy_given_up", () -> {
            org.postgresql.copy.CopyIn c = manager().copyIn("COPY pair FROM STDIN");
            byte[] b = "1\tgiven up\n".getBytes();
            c.writeToCopy(b, 0, b.length);
            c.cancelCopy();
            return "cancelled";
        });
        check("copy_out_breaks", () -> manager().copyOut("COPY (SELECT 1 / (5000 - i) FROM generate_series(1, 6000) i) TO STDOUT", new ByteArrayOutputStream()));
        check("copy_after", () -> execute("SELECT count(*) FROM pair WHERE b IN ('fine', 'given up', 'more')"));
        check("large_object", () -> {
            conn.setAutoCommit(false);
            try {
                LargeObjectManager m = conn.unwrap(PGConnection.class).getLargeObjectAPI();
                long oid = m.createLO();
                LargeObject o = m.open(oid);
                o.write("some bytes of a large object".getBytes());
                o.seek(5);
                String got = new String(o.read(5)) + o.size() + o.tell();
                o.close();
                m.delete(oid);
                return got;
            } finally {
                conn.commit();
                conn.setAutoCommit(true);
            }
        });
    }

    static CopyManager manager() throws SQLException { return conn.unwrap(PGConnection.class).getCopyAPI(); }

    static String taken(int n, int patience) throws SQLException {
        PGConnection p = conn.unwrap(PGConnection.class);
        StringBuilder b = new StringBuilder();
        int got = 0;
        for (long end = System.currentTimeMillis() + patience; got < n && System.currentTimeMillis() < end;) {
            PGNotification[] all = p.getNotifications(100);
            if (all == null) continue;
            for (PGNotification x : all) {
                b.append(x.getName().equals(SCHEMA)).append(' ').append(x.getParameter()).append(' ').append(x.getPID() == p.getBackendPID()).append("; ");
                got++;
            }
        }
        return b.toString();
    }

    static void other(String... sql) throws SQLException {
        try (Connection c = connect(); Statement s = c.createStatement()) {
            for (String text : sql) s.execute(text);
        }
    }

    static void listening() {
        check("notify_self", () -> {
            execute("LISTEN " + SCHEMA);
            execute("NOTIFY " + SCHEMA + ", 'to myself'");
            return taken(1, 5000);
        });
        check("notify_other", () -> {
            other("NOTIFY " + SCHEMA + ", 'from another'");
            return taken(1, 5000);
        });
        check("notify_transaction", () -> {
            other("BEGIN", "NOTIFY " + SCHEMA + ", 'a'", "NOTIFY " + SCHEMA + ", 'b'", "COMMIT");
            return taken(2, 5000);
        });
        check("notify_rolled_back", () -> {
            other("BEGIN", "NOTIFY " + SCHEMA + ", 'never'", "ROLLBACK", "NOTIFY " + SCHEMA + ", 'only this'");
            return taken(1, 5000);
        });
        check("notify_inside", () -> {
            conn.setAutoCommit(false);
            execute("SELECT 1");
            other("NOTIFY " + SCHEMA + ", 'while inside'");
            String early = taken(1, 200);
            conn.commit();
            conn.setAutoCommit(true);
            return early + "then " + taken(1, 5000);
        });
        check("unlisten", () -> {
            execute("UNLISTEN *");
            execute("NOTIFY " + SCHEMA + ", 'unheard'");
            return taken(1, 300);
        });
    }

    static Object cancelled() throws Exception {
        try (Statement s = conn.createStatement()) {
            Thread t = new Thread(() -> {
                try {
                    Thread.sleep(300);
                    s.cancel();
                } catch (Exception e) {
                    out.println("cancel: " + e);
                }
            });
            t.start();
            try {
                s.execute("SELECT pg_sleep(30)");
                return "not cancelled";
            } catch (SQLException e) {
                return error(e);
            } finally {
                t.join();
            }
        }
    }

    static void cancels() {
        check("cancel", () -> cancelled());
        check("cancel_after", () -> execute("SELECT 'usable'"));
        check("cancel_in_transaction", () -> {
            conn.setAutoCommit(false);
            Object got = cancelled();
            String inside;
            try {
                inside = execute("SELECT 1");
            } catch (SQLException e) {
                inside = error(e);
            }
            conn.rollback();
            conn.setAutoCommit(true);
            return got + " " + inside;
        });
        check("query_timeout", () -> {
            try (Statement s = conn.createStatement()) {
                s.setQueryTimeout(1);
                return s.execute("SELECT pg_sleep(30)");
            }
        });
        check("query_timeout_after", () -> execute("SELECT 'usable'"));
    }

    static void cursors() {
        check("fetch_size", () -> {
            conn.setAutoCommit(false);
            try (Statement s = conn.createStatement()) {
                s.setFetchSize(7);
                int sum = 0;
                for (ResultSet r = s.executeQuery("SELECT i FROM generate_series(1, 100) i"); r.next();) sum += r.getInt(1);
                return sum;
            } finally {
                conn.commit();
                conn.setAutoCommit(true);
            }
        });
        check("fetch_size_two", () -> {
            conn.setAutoCommit(false);
            try (PreparedStatement a = conn.prepareStatement("SELECT i FROM generate_series(1, ?) i"); PreparedStatement b = conn.prepareStatement("SELECT -i FROM generate_series(1, ?) i")) {
                a.setFetchSize(5);
                b.setFetchSize(3);
                a.setInt(1, 30);
                b.setInt(1, 30);
                ResultSet x = a.executeQuery(), y = b.executeQuery();
                int sum = 0;
                while (x.next() && y.next()) sum += x.getInt(1) * 2 + y.getInt(1);
                return sum;
            } finally {
                conn.commit();
                conn.setAutoCommit(true);
            }
        });
        check("fetch_size_breaks", () -> {
            conn.setAutoCommit(false);
            try (Statement s = conn.createStatement()) {
                s.setFetchSize(5);
                int n = 0;
                for (ResultSet r = s.executeQuery("SELECT 1 / (30 - i) FROM generate_series(1, 50) i"); r.next();) n++;
                return n;
            } finally {
                conn.rollback();
                conn.setAutoCommit(true);
            }
        });
        check("holdable", () -> {
            try (Statement s = conn.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_READ_ONLY, ResultSet.HOLD_CURSORS_OVER_COMMIT)) {
                ResultSet r = s.executeQuery("SELECT i FROM generate_series(1, 10) i");
                r.last();
                return r.getRow() + " " + r.getInt(1);
            }
        });
        check("updatable", () -> {
            try (Statement s = conn.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE)) {
                ResultSet r = s.executeQuery("SELECT id, name, amount FROM item WHERE id = 5");
                r.next();
                r.updateBigDecimal("amount", new java.math.BigDecimal("77.70"));
                r.updateRow();
                return execute("SELECT amount FROM item WHERE id = 5");
            }
        });
        check("max_rows", () -> {
            try (Statement s = conn.createStatement()) {
                s.setMaxRows(3);
                return rows(s.executeQuery("SELECT i FROM generate_series(1, 10) i"));
            }
        });
    }

    static void transactions() {
        check("savepoints", () -> {
            conn.setAutoCommit(false);
            execute("INSERT INTO pair VALUES (1, 'nested')");
            Savepoint p = conn.setSavepoint("inner");
            String said;
            try {
                said = execute("INSERT INTO pair VALUES (1 / 0, 'nested')");
            } catch (SQLException e) {
                said = error(e);
            }
            conn.rollback(p);
            Savepoint q = conn.setSavepoint();
            execute("INSERT INTO pair VALUES (2, 'nested')");
            conn.releaseSavepoint(q);
            conn.commit();
            conn.setAutoCommit(true);
            return said + execute("SELECT count(*) FROM pair WHERE b = 'nested'");
        });
        check("isolation", () -> {
            conn.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
            String got = execute("SELECT current_setting('transaction_isolation')") + conn.getTransactionIsolation();
            conn.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
            return got + execute("SELECT current_setting('transaction_isolation')");
        });
        check("read_only", () -> {
            conn.setReadOnly(true);
            conn.setAutoCommit(false);
            try {
                return execute("INSERT INTO pair VALUES (1, 'no')");
            } finally {
                conn.rollback();
                conn.setAutoCommit(true);
                conn.setReadOnly(false);
            }
        });
        check("commit_of_a_failed_one", () -> {
            conn.setAutoCommit(false);
            try {
                execute("SELECT 1 / 0");
            } catch (SQLException e) {
                // on purpose
            }
            try {
                conn.commit();
                return "committed";
            } finally {
                conn.setAutoCommit(true);
            }
        });
        check("schema", () -> {
            conn.setSchema("pg_catalog");
            String got = conn.getSchema();
            conn.setSchema(SCHEMA);
            return got + " " + conn.getSchema();
        });
        check("client_info", () -> {
            conn.setClientInfo("ApplicationName", "renamed");
            return conn.getClientInfo("ApplicationName") + execute("SHOW application_name");
        });
        check("network_timeout", () -> conn.isValid(5));
        check("two_phase", () -> {
            org.postgresql.xa.PGXADataSource d = new org.postgresql.xa.PGXADataSource();
            d.setServerNames(new String[] {System.getenv("PGHOST")});
            d.setPortNumbers(new int[] {Integer.parseInt(System.getenv("PGPORT"))});
            d.setDatabaseName(System.getenv("PGDATABASE"));
            d.setUser(System.getenv("PGUSER"));
            d.setOptions(System.getenv("PGOPTIONS"));
            javax.sql.XAConnection x = d.getXAConnection();
            javax.transaction.xa.XAResource r = x.getXAResource();
            byte[] id = SCHEMA.getBytes();
            javax.transaction.xa.Xid xid = new javax.transaction.xa.Xid() {
                public int getFormatId() { return 1; }
                public byte[] getGlobalTransactionId() { return id; }
                public byte[] getBranchQualifier() { return id; }
            };
            r.start(xid, javax.transaction.xa.XAResource.TMNOFLAGS);
            try (Statement s = x.getConnection().createStatement()) {
                s.execute("INSERT INTO pair VALUES (1, 'xa')");
            }
            r.end(xid, javax.transaction.xa.XAResource.TMSUCCESS);
            int vote = r.prepare(xid);
            r.commit(xid, false);
            x.close();
            return vote + execute("SELECT count(*) FROM pair WHERE b = 'xa'");
        });
    }

    static void large() {
        byte[] b = new byte[4 << 20];
        for (int i = 0; i < b.length; i++) b[i] = (byte) i;
        String t = "é漢".repeat(1 << 20);
        check("large_insert", () -> prepared("INSERT INTO wide VALUES (1, ?, ?)", b, t));
        check("large_select", () -> {
            try (PreparedStatement s = conn.prepareStatement("SELECT b, t FROM wide WHERE b = ?")) {
                s.setBytes(1, b);
                ResultSet r = s.executeQuery();
                r.next();
                return Arrays.equals(r.getBytes(1), b) + " " + r.getString(2).equals(t);
            }
        });
        check("large_rows", () -> {
            long n = 0;
            try (Statement s = conn.createStatement(); ResultSet r = s.executeQuery("SELECT repeat('y', 100) FROM generate_series(1, 30000)")) {
                while (r.next()) n += r.getString(1).length();
            }
            return n;
        });
        check("many_small", () -> {
            int sum = 0;
            try (PreparedStatement s = conn.prepareStatement("SELECT ?::int")) {
                for (int i = 0; i < 500; i++) {
                    s.setInt(1, i);
                    sum += (Integer) one(s);
                }
            }
            return sum;
        });
    }

    static void metadata() {
        check("metadata_columns", () -> {
            StringBuilder b = new StringBuilder();
            for (ResultSet r = conn.getMetaData().getColumns(null, SCHEMA, "item", null); r.next();)
                b.append(r.getString("COLUMN_NAME")).append(' ').append(r.getString("TYPE_NAME")).append(' ').append(r.getString("COLUMN_DEF")).append("; ");
            return b;
        });
        check("metadata_keys", () -> {
            StringBuilder b = new StringBuilder();
            for (ResultSet r = conn.getMetaData().getPrimaryKeys(null, SCHEMA, "item"); r.next();) b.append(r.getString("COLUMN_NAME")).append(r.getString("PK_NAME"));
            return b;
        });
        check("metadata_tables", () -> {
            StringBuilder b = new StringBuilder();
            for (ResultSet r = conn.getMetaData().getTables(null, SCHEMA, "%", new String[] {"TABLE"}); r.next();) b.append(r.getString("TABLE_NAME")).append(' ');
            return b;
        });
        check("metadata_types", () -> {
            int n = 0;
            for (ResultSet r = conn.getMetaData().getTypeInfo(); r.next();) n++;
            return n > 50;
        });
        check("parameter_metadata", () -> {
            try (PreparedStatement s = conn.prepareStatement("SELECT * FROM item WHERE id = ? AND name = ?")) {
                ParameterMetaData m = s.getParameterMetaData();
                return m.getParameterCount() + m.getParameterTypeName(1) + m.getParameterTypeName(2) + s.getMetaData().getColumnCount();
            }
        });
    }
}
