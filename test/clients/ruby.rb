# Ruby's sqlite3: ext/HOSTS.md, Ruby.
require 'sqlite3'

WALMAP, DIR, NAME = ENV.values_at('WALMAP', 'DIR', 'NAME')
$failed = 0
def check(what, got, expected)
  $failed += 1 if got != expected
  puts got == expected ? "ok #{what}" : "FAILED #{what}: #{got.inspect}, not #{expected.inspect}"
end

def connect(file)
  db = SQLite3::Database.new(file)
  db.enable_load_extension(true)
  db.load_extension(WALMAP)
  db.enable_load_extension(false)
  db
end

def open_map
  db = connect(':memory:')
  db.execute("CREATE VIRTUAL TABLE temp.kv USING walmap(map='clients')")
  db
end

db, other = open_map, open_map
check 'load', db.get_first_value('SELECT walmap_version()')[0, 2], '0.'
db.execute('INSERT INTO kv VALUES (?, ?), (7, 3.5)', ['alice', 'online'])
check 'map', other.get_first_value('SELECT value FROM kv WHERE key = ?', ['alice']), 'online'
db.transaction
db.execute('DELETE FROM kv')
db.rollback
check 'rollback', other.get_first_value('SELECT count(*) FROM kv'), 2
threads = 4.times.map do
  Thread.new do
    mine = open_map
    250.times { mine.get_first_value("SELECT walmap_upsert('temp.kv', 'visits', 1, 'value + 1')") }
    mine.close
  end
end
threads.each(&:join)
check 'threads', db.get_first_value("SELECT value FROM kv WHERE key = 'visits'"), 1000
db.execute("SELECT walmap_set('temp.kv', 'soon', 1, 0.2)")
there = other.get_first_value("SELECT count(*) FROM kv WHERE key = 'soon'")
sleep 0.3
check 'expiry', [there, other.get_first_value("SELECT count(*) FROM kv WHERE key = 'soon'")], [1, 0]
db.execute('CREATE VIRTUAL TABLE temp.sorted USING walmap(ordered=1)')
[5, 2.5, 'five', 4, 1].each { |key| db.execute('INSERT INTO sorted VALUES (?, NULL)', [key]) }
check 'range', db.execute('SELECT key FROM sorted WHERE key >= 2 AND key < 5'), [[2.5], [4]]

# A binary String is bound as a BLOB, and so is SQLite3::Blob; a String with an encoding is text
db.execute("SELECT walmap_restore('temp.kv', ?)", [SQLite3::Blob.new(File.binread("#{DIR}/image"))])
check 'image', [db.get_first_value("SELECT count(*) FROM kv WHERE key = 'from'"), db.get_first_value("SELECT walmap_get('temp.kv', 7)")],
      [1, 3.5]
db.execute("INSERT OR REPLACE INTO kv VALUES ('from', ?)", [NAME])
File.binwrite("#{DIR}/image", db.get_first_value("SELECT walmap_snapshot('temp.kv')"))
check 'types', db.execute('SELECT typeof(?), typeof(?)', ['text', 'bytes'.b]), [%w[text blob]]

file = connect("#{DIR}/shared.db")
before = nil
file.transaction(:immediate) do
  before = file.get_first_value("SELECT value FROM main.kv WHERE key = 'count'")
  file.execute("UPDATE main.kv SET value = value + 1 WHERE key = 'count'")
  file.execute("INSERT INTO main.kv VALUES ('by ' || ?, 1)", [NAME])
end
check 'durable', file.get_first_value("SELECT value FROM main.kv WHERE key = 'count'"), before + 1
exit($failed.zero? ? 0 : 1)
