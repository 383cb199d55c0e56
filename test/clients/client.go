// Go's mattn/go-sqlite3: ext/HOSTS.md, Go.
package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"reflect"
	"sync"
	"time"

	"github.com/mattn/go-sqlite3"
)

var walmap, dir, name = os.Getenv("WALMAP"), os.Getenv("DIR"), os.Getenv("NAME")
var failed = 0

func check(what string, got, expected interface{}) {
	if reflect.DeepEqual(got, expected) {
		fmt.Println("ok", what)
	} else {
		fmt.Printf("FAILED %s: %v, not %v\n", what, got, expected)
		failed++
	}
}

func must(err error) {
	if err != nil {
		fmt.Println("FAILED", err)
		os.Exit(1)
	}
}

// Each connection that the pool opens has the library and the table.
func hook(connection *sqlite3.SQLiteConn) error {
	_, err := connection.Exec("CREATE VIRTUAL TABLE temp.kv USING walmap(map='clients')", nil)
	return err
}

type queryer interface {
	QueryRow(query string, arguments ...interface{}) *sql.Row
	Exec(query string, arguments ...interface{}) (sql.Result, error)
}

func one(db queryer, query string, arguments ...interface{}) (value interface{}) {
	must(db.QueryRow(query, arguments...).Scan(&value))
	return value
}

func execute(db queryer, query string, arguments ...interface{}) {
	_, err := db.Exec(query, arguments...)
	must(err)
}

func main() {
	sql.Register("walmap", &sqlite3.SQLiteDriver{Extensions: []string{walmap}, ConnectHook: hook})
	sql.Register("walmap_file", &sqlite3.SQLiteDriver{Extensions: []string{walmap}})
	db, err := sql.Open("walmap", ":memory:")
	must(err)
	// The pool closes connections that are idle, all but two of them; this one stays, and with it the map
	keeper, err := db.Conn(context.Background())
	must(err)

	check("load", one(db, "SELECT walmap_version()").(string)[:2], "0.")
	execute(db, "INSERT INTO kv VALUES (?, ?), (7, 3.5)", "alice", "online")
	check("map", one(db, "SELECT value FROM kv WHERE key = ?", "alice"), "online")
	tx, err := db.Begin()
	must(err)
	execute(tx, "DELETE FROM kv")
	must(tx.Rollback())
	check("rollback", one(db, "SELECT count(*) FROM kv"), int64(2))
	var threads sync.WaitGroup
	for i := 0; i < 4; i++ {
		threads.Add(1)
		go func() {
			defer threads.Done()
			for n := 0; n < 250; n++ {
				one(db, "SELECT walmap_upsert('temp.kv', 'visits', 1, 'value + 1')")
			}
		}()
	}
	threads.Wait()
	check("threads", one(db, "SELECT value FROM kv WHERE key = 'visits'"), int64(1000))
	one(db, "SELECT walmap_set('temp.kv', 'soon', 1, 0.2)")
	there := one(db, "SELECT count(*) FROM kv WHERE key = 'soon'")
	time.Sleep(300 * time.Millisecond)
	check("expiry", []interface{}{there, one(db, "SELECT count(*) FROM kv WHERE key = 'soon'")}, []interface{}{int64(1), int64(0)})

	// A table without map= is the connection's own: one connection for all of it
	tx, err = db.Begin()
	must(err)
	execute(tx, "CREATE VIRTUAL TABLE temp.sorted USING walmap(ordered=1)")
	execute(tx, "INSERT INTO sorted SELECT value, 0 FROM json_each('[5, 2.5, \"five\", 4, 1]')")
	check("range", one(tx, "SELECT group_concat(key) FROM (SELECT key FROM sorted WHERE key >= 2 AND key < 5)"), "2.5,4")
	must(tx.Rollback())

	image, err := os.ReadFile(dir + "/image")
	must(err)
	one(db, "SELECT walmap_restore('temp.kv', ?)", image)
	check("image", []interface{}{one(db, "SELECT count(*) FROM kv WHERE key = 'from'"), one(db, "SELECT walmap_get('temp.kv', 7)")},
		[]interface{}{int64(1), 3.5})
	execute(db, "INSERT OR REPLACE INTO kv VALUES ('from', ?)", name)
	must(os.WriteFile(dir+"/image", one(db, "SELECT walmap_snapshot('temp.kv')").([]byte), 0o600))

	// Exec takes the first row of a SELECT, so it writes that one alone; Query writes those that are read
	three, count := "SELECT walmap_set('temp.kv', column1, 1) FROM (VALUES ('x'), ('y'), ('z'))", "SELECT count(*) FROM kv WHERE key < 'zz' AND key >= 'x'"
	execute(db, three)
	first := one(db, count)
	rows, err := db.Query(three)
	must(err)
	for rows.Next() {
	}
	must(rows.Err())
	check("Exec and Query of a SELECT that writes", []interface{}{first, one(db, count)}, []interface{}{int64(1), int64(3)})
	must(keeper.Close())
	must(db.Close())

	file, err := sql.Open("walmap_file", dir+"/shared.db?_txlock=immediate")
	must(err)
	tx, err = file.Begin()
	must(err)
	before := one(tx, "SELECT value FROM main.kv WHERE key = 'count'").(int64)
	execute(tx, "UPDATE main.kv SET value = value + 1 WHERE key = 'count'")
	execute(tx, "INSERT INTO main.kv VALUES ('by ' || ?, 1)", name)
	must(tx.Commit())
	check("durable", one(file, "SELECT value FROM main.kv WHERE key = 'count'"), before+1)
	if failed > 0 {
		os.Exit(1)
	}
}
