# What DBD::Pg sees of a server: one line a check, nothing in it that changes from
# run to run.
use strict;
use warnings;
use utf8;
use DBI;
use DBD::Pg qw(:pg_types :async);
use Time::HiRes qw(sleep time);

binmode STDOUT, ':utf8';
$| = 1;
my $schema = $ENV{DRIVER_SCHEMA};
my ($db, @notices);
$SIG{__WARN__} = sub { push @notices, $_[0] };

sub open_one {
	return DBI->connect('dbi:Pg:application_name=dbd-pg', undef, undef, {AutoCommit => 1, RaiseError => 1, PrintError => 0, PrintWarn => 0, pg_enable_utf8 => 1});
}

sub session {
	$db->disconnect if $db;
	$db = open_one();
}

sub show {
	my ($v) = @_;
	return 'NULL' unless defined $v;
	return '[' . join(', ', map { show($_) } @$v) . ']' if ref $v eq 'ARRAY';
	$v =~ s/\\/\\\\/g;
	$v =~ s/\n/\\n/g;
	$v =~ s/([\x00-\x1f])/sprintf '\\x%02x', ord $1/ge;
	return $v;
}

sub check {
	my ($name, $run) = @_;
	@notices = ();
	my $value = eval { show($run->()) };
	if (my $said = $@) {
		my ($failed, $state) = ($db->err, $db->state // '');
		my $fields = join '|', map { eval { $db->pg_error_field($_) } // '' } qw(severity state primary detail hint statement_position schema table column constraint datatype context);
		$value = $failed ? "ERROR $state " . show($fields) : 'ERROR ' . show($said =~ s/ at \S+ line \d+\.?\n?//r);
	}
	print "$name: $value", (map { ' NOTICE ' . show(s/ at \S+ line \d+\.?\n?//r) } @notices), "\n";
}

sub execute {
	my ($text, @args) = @_;
	my $st = $db->prepare($text, {pg_server_prepare => @args ? 1 : 0});
	my $n = $st->execute(@args);
	return [$n] unless $st->{NUM_OF_FIELDS};
	my $got = [$n, $st->{NAME}, [map { my $t = $_; $t } @{$st->{pg_type}}], $st->fetchall_arrayref];
	return $got;
}

sub lines {
	my ($file) = @_;
	open my $in, '<:utf8', "$ENV{DRIVER_FILES}/$file" or die $!;
	my @lines = <$in>;
	chomp @lines;
	return @lines;
}

session();
check('facts', sub { [$db->{pg_pid} > 0, int($db->{pg_server_version} / 10000), $db->{pg_db} ne '', $db->{pg_user}, $db->{pg_standard_conforming_strings}, $db->pg_ping] });
for my $file ('steps.tsv', 'styles.tsv') {
	session();
	for (lines($file)) {
		if (/^#/) { session(); next }
		my ($name, $text) = split /\t/, $_, 2;
		check($name, sub { my $n = $db->do($text) if $text !~ /^(SELECT|SHOW|FETCH|EXECUTE|WITH|EXPLAIN|INSERT.*RETURNING|UPDATE.*RETURNING)/; defined $n ? [$n] : execute($text) });
	}
}
session();
$db->{pg_expand_array} = 1;
for (lines('types.tsv')) {
	my ($name, $expr) = split /\t/, $_, 2;
	check("plain $name", sub { execute("SELECT $expr") });
	check("prepared $name", sub {
		my $st = $db->prepare("SELECT $expr", {pg_server_prepare => 1, pg_prepare_now => 1});
		$st->execute;
		$st->fetchall_arrayref;
	});
}
my $n = 0;
for ([1, PG_INT4], ['x\'y', PG_TEXT], [1.5, PG_FLOAT8], ["\x00\xff", PG_BYTEA], [undef, PG_TEXT], ['2024-02-29', PG_DATE], ['{"a":1}', PG_JSONB], ['漢字', PG_TEXT]) {
	my ($v, $type) = @$_;
	check('parameter ' . $n++, sub {
		my $st = $db->prepare('SELECT ? AS a');
		$st->bind_param(1, $v, {pg_type => $type});
		$st->execute;
		$st->fetchall_arrayref;
	});
}
check('parameter array', sub { execute('SELECT ?::int[], ?::text[]', [1, 2, undef], ['a', 'b"c']) });

session();
check('prepared_many', sub {
	my @all = map { $db->prepare("SELECT ?::int + $_", {pg_server_prepare => 1, pg_prepare_now => 1}) } 0 .. 49;
	my $total = 0;
	for (1 .. 4) {
		for my $st (@all) { $st->execute(1); $total += $st->fetchrow_array; $st->finish }
		$db->begin_work;
		for (my $i = 0; $i < 50; $i += 7) { $all[$i]->execute(2); $total += $all[$i]->fetchrow_array; $all[$i]->finish }
		$db->commit;
	}
	$total;
});
check('prepared_switch', sub {
	my $st = $db->prepare('SELECT name FROM item WHERE id = ?');
	[map { $st->execute($_ % 3 + 1); $st->fetchall_arrayref } 1 .. 8];
});
check('prepared_error', sub { execute('SELECT 1 / ?::int', 0) });
check('prepared_after_error', sub { execute('SELECT 1 / ?::int', 1) });
check('prepared_missing', sub { execute('SELECT * FROM missing WHERE a = ?', 1) });
check('execute_array', sub {
	my $st = $db->prepare("INSERT INTO pair VALUES (?, 'array')");
	$st->execute_array({ArrayTupleStatus => \my @status}, [1 .. 40]);
	[scalar @status, execute("SELECT count(*), sum(a) FROM pair WHERE b = 'array'")];
});
check('several_statements', sub { [$db->do("SELECT 1; INSERT INTO pair VALUES (1, 'several'), (2, 'several')")] });
check('several_fail', sub { $db->do("INSERT INTO pair VALUES (3, 'several'); SELECT 1 / 0") });
check('several_undone', sub { execute("SELECT count(*) FROM pair WHERE b = 'several'") });

session();
sub copy_in {
	my ($db, @rows) = @_;
	$db->do('COPY pair FROM STDIN');
	$db->pg_putcopydata($_) for @rows;
	return $db->pg_putcopyend;
}
sub copy_out {
	my ($query) = @_;
	$db->do($query);
	my ($all, $row) = ('');
	$all .= $row while $db->pg_getcopydata($row) >= 0;
	return $all;
}
check('copy_in', sub { copy_in($db, map { "$_\trow $_\n" } 1 .. 1000) });
check('copy_out', sub { copy_out("COPY (SELECT * FROM pair WHERE b LIKE 'row%' ORDER BY a LIMIT 5) TO STDOUT") });
check('copy_out_large', sub { length copy_out("COPY (SELECT i, repeat('x', 50) FROM generate_series(1, 40000) i) TO STDOUT") });
check('copy_breaks', sub { copy_in($db, "1\tfine\n", "not a number\tbroken\n", map { "2\tmore\n" } 1 .. 2000) });
session();
check('copy_after', sub { execute("SELECT count(*) FROM pair WHERE b IN ('fine', 'more')") });

session();
sub taken {
	my ($n, $patience) = @_;
	my @got;
	for (my $end = time + $patience; @got < $n && time < $end; sleep 0.05) {
		while (my $x = $db->pg_notifies) {
			push @got, [$x->[0] eq $schema ? 1 : 0, $x->[2], $x->[1] == $db->{pg_pid} ? 1 : 0];
		}
	}
	return \@got;
}
sub other { my $o = open_one(); $o->do($_) for @_; $o->disconnect }
check('notify_self', sub { $db->do("LISTEN $schema"); $db->do("NOTIFY $schema, 'to myself'"); taken(1, 10) });
check('notify_other', sub { other("NOTIFY $schema, 'from another'"); taken(1, 10) });
check('notify_transaction', sub { other('BEGIN', "NOTIFY $schema, 'a'", "NOTIFY $schema, 'b'", 'COMMIT'); taken(2, 10) });
check('unlisten', sub { $db->do('UNLISTEN *'); $db->do("NOTIFY $schema, 'unheard'"); taken(1, 0.3) });

session();
check('asynchronous', sub {
	my $st = $db->prepare('SELECT pg_sleep(0.2), 5', {pg_async => PG_ASYNC});
	$st->execute;
	sleep 0.05 until $db->pg_ready;
	my $n = $st->pg_result;
	[$n, $st->fetchall_arrayref];
});
check('cancel', sub {
	my $st = $db->prepare('SELECT pg_sleep(30)', {pg_async => PG_ASYNC});
	$st->execute;
	sleep 0.3;
	$db->pg_cancel ? 'cancelled' : 'not cancelled';
});
check('cancel_after', sub { execute("SELECT 'usable'") });
check('timeout', sub { $db->do("SET statement_timeout TO '100ms'"); execute('SELECT pg_sleep(5)') });
check('timeout_off', sub { $db->do('SET statement_timeout TO 0') });

session();
check('savepoints', sub {
	$db->begin_work;
	$db->do("INSERT INTO pair VALUES (1, 'nested')");
	$db->pg_savepoint('s');
	eval { $db->do('SELECT 1 / 0') };
	my $said = $db->state;
	$db->pg_rollback_to('s');
	$db->pg_savepoint('u');
	$db->do("INSERT INTO pair VALUES (2, 'nested')");
	$db->pg_release('u');
	$db->commit;
	[$said, execute("SELECT array_agg(a ORDER BY a) FROM pair WHERE b = 'nested'")];
});
check('autocommit_off', sub {
	$db->{AutoCommit} = 0;
	$db->do("INSERT INTO pair VALUES (1, 'off')");
	$db->rollback;
	$db->{AutoCommit} = 1;
	execute("SELECT count(*) FROM pair WHERE b = 'off'");
});
check('last_insert_id', sub {
	$db->begin_work;
	$db->do("INSERT INTO item (name) VALUES ('by perl')");
	my $id = $db->last_insert_id(undef, undef, 'item', undef);
	my $seen = execute("SELECT id = $id FROM item WHERE name = 'by perl'");
	$db->commit;
	$seen->[3];
});
check('large_object', sub {
	$db->begin_work;
	my $oid = $db->pg_lo_creat($db->{pg_INV_WRITE} | $db->{pg_INV_READ});
	my $fd = $db->pg_lo_open($oid, $db->{pg_INV_WRITE} | $db->{pg_INV_READ});
	$db->pg_lo_write($fd, 'some bytes', 10);
	$db->pg_lo_lseek($fd, 5, 0);
	my $n = $db->pg_lo_read($fd, my $got, 5);
	$db->pg_lo_close($fd);
	$db->pg_lo_unlink($oid);
	$db->commit;
	[$n, $got];
});
check('cursor', sub {
	$db->begin_work;
	$db->do('DECLARE c CURSOR FOR SELECT i FROM generate_series(1, 30) i');
	my @got;
	while (1) {
		my $rows = $db->selectcol_arrayref('FETCH 7 FROM c');
		last unless @$rows;
		push @got, scalar @$rows;
	}
	$db->commit;
	\@got;
});
check('tables', sub { [map { $_->[2] } @{$db->table_info(undef, $schema, '%', 'TABLE')->fetchall_arrayref}] });
check('columns', sub { [map { [@$_[3, 5, 6]] } @{$db->column_info(undef, $schema, 'item', '%')->fetchall_arrayref}] });
check('primary_key', sub { [$db->primary_key(undef, $schema, 'item')] });
check('notice', sub { execute("SELECT says('heard')") });
check('large_values', sub {
	my ($b, $t) = ("a\x00b\xff" x (1 << 19), 'é漢' x (1 << 19));
	my $st = $db->prepare('INSERT INTO wide VALUES (1, ?, ?)');
	$st->bind_param(1, $b, {pg_type => PG_BYTEA});
	$st->bind_param(2, $t);
	$st->execute;
	my ($gotb, $gott) = $db->selectrow_array('SELECT b, t FROM wide');
	[$gotb eq $b ? 1 : 0, $gott eq $t ? 1 : 0];
});
check('large_rows', sub { my $sum = 0; $sum += length for @{$db->selectcol_arrayref("SELECT repeat('y', 100) FROM generate_series(1, 30000)")}; $sum });
check('many_small', sub { my $st = $db->prepare('SELECT ?::int'); my $sum = 0; for (1 .. 500) { $st->execute($_); $sum += ($st->fetchrow_array)[0]; $st->finish } $sum });
$db->disconnect;
