# Perl's DBD::SQLite: ext/HOSTS.md, Perl.
use strict;
use warnings;
use DBI qw(:sql_types);
use Time::HiRes qw(sleep);

my ($walmap, $dir, $name) = @ENV{qw(WALMAP DIR NAME)};
my $failed = 0;

sub check {
    my ($what, $got, $expected) = @_;
    $failed++ if $got ne $expected;
    print $got eq $expected ? "ok $what\n" : "FAILED $what: $got, not $expected\n";
}

sub connect_to {
    my $db = DBI->connect("dbi:SQLite:dbname=$_[0]", '', '', { RaiseError => 1, PrintError => 0, AutoCommit => 1 });
    $db->sqlite_enable_load_extension(1);
    $db->sqlite_load_extension($walmap);
    return $db;
}

sub open_map {
    my $db = connect_to(':memory:');
    $db->do("CREATE VIRTUAL TABLE temp.kv USING walmap(map='clients')");
    return $db;
}

sub one {
    my ($db, $sql, @parameters) = @_;
    return ($db->selectrow_array($sql, undef, @parameters))[0];
}

my ($db, $other) = (open_map(), open_map());
check('load', substr(one($db, 'SELECT walmap_version()'), 0, 2), '0.');
$db->do("INSERT INTO kv VALUES (?, ?), (7, 3.5)", undef, 'alice', 'online');
check('map', one($other, 'SELECT value FROM kv WHERE key = ?', 'alice'), 'online');
$db->begin_work;
$db->do('DELETE FROM kv');
$db->rollback;
check('rollback', one($other, 'SELECT count(*) FROM kv'), 2);
one($_ % 2 ? $db : $other, "SELECT walmap_upsert('temp.kv', 'visits', 1, 'value + 1')") for 1 .. 1000;
check('two connections', one($db, "SELECT value FROM kv WHERE key = 'visits'"), 1000);
one($db, "SELECT walmap_set('temp.kv', 'soon', 1, 0.2)");
my $there = one($other, "SELECT count(*) FROM kv WHERE key = 'soon'");
sleep 0.3;
check('expiry', "$there " . one($other, "SELECT count(*) FROM kv WHERE key = 'soon'"), '1 0');
$db->do('CREATE VIRTUAL TABLE temp.sorted USING walmap(ordered=1)');
$db->do("INSERT INTO sorted SELECT value, 0 FROM json_each('[5, 2.5, \"five\", 4, 1]')");
check('range', join(' ', map { $_->[0] } @{ $db->selectall_arrayref('SELECT key FROM sorted WHERE key >= 2 AND key < 5') }), '2.5 4');

# What is bound without a type is text, numbers and images too: a key of walmap has no affinity that would turn it back
check('a number as text', one($db, 'SELECT count(*) FROM kv WHERE key = ?', 7), 0);
my $by_number = $db->prepare('SELECT count(*) FROM kv WHERE key = ?');
$by_number->bind_param(1, 7, SQL_INTEGER);
$by_number->execute;
check('a number with its type', $by_number->fetchrow_array, 1);
$by_number->finish;

open my $in, '<:raw', "$dir/image" or die $!;
my $image = do { local $/; <$in> };
my $restore = $db->prepare("SELECT walmap_restore('temp.kv', ?)");
eval { $restore->execute($image); $restore->fetchrow_array };
check('an image as text', $@ =~ /the image is a text, not a BLOB/ ? 1 : 0, 1);
$restore->bind_param(1, $image, SQL_BLOB);
$restore->execute;
$restore->fetchrow_array;
$restore->finish;
check('image', one($db, "SELECT count(*) FROM kv WHERE key = 'from'") . ' ' . one($db, "SELECT walmap_get('temp.kv', 7)"), '1 3.5');
$db->do("INSERT OR REPLACE INTO kv VALUES ('from', ?)", undef, $name);
open my $out, '>:raw', "$dir/image" or die $!;
print $out one($db, "SELECT walmap_snapshot('temp.kv')");
close $out;

my $file = connect_to("$dir/shared.db");
$file->begin_work;
my $before = one($file, "SELECT value FROM main.kv WHERE key = 'count'");
$file->do("UPDATE main.kv SET value = value + 1 WHERE key = 'count'");
$file->do("INSERT INTO main.kv VALUES ('by ' || ?, 1)", undef, $name);
$file->commit;
check('durable', one($file, "SELECT value FROM main.kv WHERE key = 'count'"), $before + 1);
$_->disconnect for $file, $other, $db;
exit($failed > 0);
