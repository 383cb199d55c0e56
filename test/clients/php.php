<?php
// PHP's SQLite3 class: ext/HOSTS.md, PHP. Run with -d sqlite3.extension_dir=FOLDER.
$failed = 0;
function check($what, $got, $expected) {
    global $failed;
    $failed += $got !== $expected;
    echo $got === $expected ? "ok $what\n" : "FAILED $what: " . json_encode($got) . ', not ' . json_encode($expected) . "\n";
}
function connect($file) {
    $db = new SQLite3($file);
    $db->enableExceptions(true);
    $db->loadExtension('walmap.so'); // a name, in the folder that php.ini names
    return $db;
}
function open_map($file = ':memory:') {
    $db = connect($file);
    $db->exec("CREATE VIRTUAL TABLE temp.kv USING walmap(map='clients')");
    return $db;
}
$dir = getenv('DIR');
$name = getenv('NAME');
[$db, $other] = [open_map(), open_map()];
check('load', substr($db->querySingle('SELECT walmap_version()'), 0, 2), '0.');
$db->exec("INSERT INTO kv VALUES ('alice', 'online'), (7, 3.5)");
check('map', $other->querySingle("SELECT value FROM kv WHERE key = 'alice'"), 'online');
$db->exec('BEGIN; DELETE FROM kv; ROLLBACK');
check('rollback', $other->querySingle('SELECT count(*) FROM kv'), 2);
for ($i = 0; $i < 1000; $i++) {
    ($i % 2 ? $db : $other)->querySingle("SELECT walmap_upsert('temp.kv', 'visits', 1, 'value + 1')");
}
check('two connections', $db->querySingle("SELECT value FROM kv WHERE key = 'visits'"), 1000);
$db->querySingle("SELECT walmap_set('temp.kv', 'soon', 1, 0.2)");
$there = $other->querySingle("SELECT count(*) FROM kv WHERE key = 'soon'");
usleep(300000);
check('expiry', [$there, $other->querySingle("SELECT count(*) FROM kv WHERE key = 'soon'")], [1, 0]);
$db->exec("CREATE VIRTUAL TABLE temp.sorted USING walmap(ordered=1);
  INSERT INTO sorted SELECT value, 0 FROM json_each('[5, 2.5, \"five\", 4, 1]')");
check('range', $db->querySingle('SELECT group_concat(key) FROM (SELECT key FROM sorted WHERE key >= 2 AND key < 5)'), '2.5,4');

// A BLOB must be bound as one: a string is text
$restore = $db->prepare("SELECT walmap_restore('temp.kv', ?)");
$restore->bindValue(1, file_get_contents("$dir/image"));
try {
    $restore->execute()->fetchArray();
    $error = 'no error';
} catch (Exception $e) {
    $error = $e->getMessage();
}
check('an image as text', strpos($error, 'the image is a text, not a BLOB') !== false, true);
$restore->bindValue(1, file_get_contents("$dir/image"), SQLITE3_BLOB);
$restore->execute()->fetchArray();
check('image', [$db->querySingle("SELECT count(*) FROM kv WHERE key = 'from'"),
    $db->querySingle("SELECT walmap_get('temp.kv', 7)")], [1, 3.5]);
$restore->close();
$set = $db->prepare("INSERT OR REPLACE INTO kv VALUES ('from', ?)");
$set->bindValue(1, $name);
$set->execute();
$set->close();
file_put_contents("$dir/image", $db->querySingle("SELECT walmap_snapshot('temp.kv')"));

$file = connect("$dir/shared.db");
$file->exec('BEGIN IMMEDIATE');
$before = $file->querySingle("SELECT value FROM main.kv WHERE key = 'count'");
$file->exec("UPDATE main.kv SET value = value + 1 WHERE key = 'count'; INSERT INTO main.kv VALUES ('by $name', 1); COMMIT");
check('durable', $file->querySingle("SELECT value FROM main.kv WHERE key = 'count'"), $before + 1);

// PDO before PHP 8.4 loads no extension
if (class_exists('PDO') && in_array('sqlite', PDO::getAvailableDrivers()) && PHP_VERSION_ID < 80400) {
    $pdo = new PDO('sqlite::memory:');
    $pdo->setAttribute(PDO::ATTR_ERRMODE, PDO::ERRMODE_EXCEPTION);
    try {
        $pdo->query("SELECT load_extension('" . getenv('WALMAP') . "')");
        $error = 'no error';
    } catch (PDOException $e) {
        $error = $e->getMessage();
    }
    check('PDO cannot', strpos($error, 'not authorized') !== false, true);
}
exit($failed > 0 ? 1 : 0);
