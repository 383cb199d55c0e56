// Rust's rusqlite: ext/HOSTS.md, Rust.
use rusqlite::types::Value;
use rusqlite::{params, Connection, LoadExtensionGuard, ToSql, TransactionBehavior};
use std::sync::atomic::{AtomicI32, Ordering};
use std::{env, fs, process, thread, time::Duration};

static FAILED: AtomicI32 = AtomicI32::new(0);

fn check<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) {
    if got == expected {
        println!("ok {what}");
    } else {
        println!("FAILED {what}: {got:?}, not {expected:?}");
        FAILED.fetch_add(1, Ordering::Relaxed);
    }
}

fn connect(file: &str) -> Connection {
    let db = Connection::open(file).unwrap();
    unsafe {
        let _guard = LoadExtensionGuard::new(&db).unwrap();
        db.load_extension(env::var("WALMAP").unwrap(), None).unwrap();
    }
    db
}

fn open_map() -> Connection {
    let db = connect(":memory:");
    db.execute_batch("CREATE VIRTUAL TABLE temp.kv USING walmap(map='clients')").unwrap();
    db
}

// A SELECT that writes is for query_row: execute refuses what has a result
fn one(db: &Connection, sql: &str, parameters: &[&dyn ToSql]) -> Value {
    db.query_row(sql, parameters, |row| row.get(0)).unwrap()
}

fn main() {
    let (dir, name) = (env::var("DIR").unwrap(), env::var("NAME").unwrap());
    let (mut db, other) = (open_map(), open_map());
    let version: String = db.query_row("SELECT walmap_version()", [], |row| row.get(0)).unwrap();
    check("load", &version[..2], "0.");
    db.execute("INSERT INTO kv VALUES (?1, ?2), (7, 3.5)", params!["alice", "online"]).unwrap();
    let find = "SELECT value FROM kv WHERE key = ?1";
    check("map", one(&other, find, &[&"alice"]), Value::Text("online".into()));
    let transaction = db.transaction().unwrap();
    transaction.execute("DELETE FROM kv", []).unwrap();
    transaction.rollback().unwrap();
    check("rollback", one(&other, "SELECT count(*) FROM kv", &[]), Value::Integer(2));

    let upsert = "SELECT walmap_upsert('temp.kv', 'visits', 1, 'value + 1')";
    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(move || {
                let mine = open_map();
                (0..250).for_each(|_| drop(one(&mine, upsert, &[])));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    check("threads", one(&db, find, &[&"visits"]), Value::Integer(1000));
    let refused = db.execute(upsert, []).map_err(|error| error.to_string());
    check("execute refuses a SELECT", refused.unwrap_err().contains("returned results"), true);
    check("but has written", one(&db, find, &[&"visits"]), Value::Integer(1001));

    one(&db, "SELECT walmap_set('temp.kv', 'soon', 1, 0.2)", &[]);
    let soon = "SELECT count(*) FROM kv WHERE key = 'soon'";
    let there = one(&other, soon, &[]);
    thread::sleep(Duration::from_millis(300));
    check("expiry", (there, one(&other, soon, &[])), (Value::Integer(1), Value::Integer(0)));

    db.execute_batch("CREATE VIRTUAL TABLE temp.sorted USING walmap(ordered=1)").unwrap();
    db.execute("INSERT INTO sorted SELECT value, 0 FROM json_each('[5, 2.5, \"five\", 4, 1]')", []).unwrap();
    let range = "SELECT group_concat(key) FROM (SELECT key FROM sorted WHERE key >= 2 AND key < 5)";
    check("range", one(&db, range, &[]), Value::Text("2.5,4".into()));

    // Vec<u8> is bound as a BLOB, String as text
    let image = format!("{dir}/image");
    one(&db, "SELECT walmap_restore('temp.kv', ?1)", &[&fs::read(&image).unwrap()]);
    let from = one(&db, "SELECT count(*) FROM kv WHERE key = 'from'", &[]);
    check("image", (from, one(&db, "SELECT walmap_get('temp.kv', 7)", &[])), (Value::Integer(1), Value::Real(3.5)));
    db.execute("INSERT OR REPLACE INTO kv VALUES ('from', ?1)", [&name]).unwrap();
    if let Value::Blob(bytes) = one(&db, "SELECT walmap_snapshot('temp.kv')", &[]) {
        fs::write(&image, bytes).unwrap();
    }

    let mut file = connect(&format!("{dir}/shared.db"));
    let count = "SELECT value FROM main.kv WHERE key = 'count'";
    let transaction = file.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let before: i64 = transaction.query_row(count, [], |row| row.get(0)).unwrap();
    transaction.execute("UPDATE main.kv SET value = value + 1 WHERE key = 'count'", []).unwrap();
    transaction.execute("INSERT INTO main.kv VALUES ('by ' || ?1, 1)", [&name]).unwrap();
    transaction.commit().unwrap();
    check("durable", one(&file, count, &[]), Value::Integer(before + 1));
    process::exit((FAILED.load(Ordering::Relaxed) > 0) as i32);
}
