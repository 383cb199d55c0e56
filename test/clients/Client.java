// Java's xerial sqlite-jdbc: ext/HOSTS.md, Java.
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import org.sqlite.SQLiteConfig;

public class Client {
  static final String WALMAP = System.getenv("WALMAP"), DIR = System.getenv("DIR"), NAME = System.getenv("NAME");
  static int failed = 0;

  static void check(String what, Object got, Object expected) {
    boolean ok = Objects.equals(got, expected);
    failed += ok ? 0 : 1;
    System.out.println(ok ? "ok " + what : "FAILED " + what + ": " + got + ", not " + expected);
  }

  static Connection connect(String file) throws Exception {
    SQLiteConfig config = new SQLiteConfig();
    config.enableLoadExtension(true);
    Connection db = DriverManager.getConnection("jdbc:sqlite:" + file, config.toProperties());
    rows(db, "SELECT load_extension(?)", WALMAP);
    return db;
  }

  static Connection openMap() throws Exception {
    Connection db = connect(":memory:");
    execute(db, "CREATE VIRTUAL TABLE temp.kv USING walmap(map='clients')");
    return db;
  }

  // executeUpdate() is not for a SELECT that writes: it has a result
  static List<Object> rows(Connection db, String sql, Object... parameters) throws Exception {
    try (PreparedStatement statement = db.prepareStatement(sql)) {
      for (int i = 0; i < parameters.length; i++) statement.setObject(i + 1, parameters[i]);
      List<Object> rows = new ArrayList<>();
      try (ResultSet result = statement.executeQuery()) {
        while (result.next()) rows.add(result.getObject(1));
      }
      return rows;
    }
  }

  static Object one(Connection db, String sql, Object... parameters) throws Exception {
    return rows(db, sql, parameters).get(0);
  }

  static void execute(Connection db, String sql) throws Exception {
    try (Statement statement = db.createStatement()) {
      statement.execute(sql);
    }
  }

  static void visit() {
    try (Connection db = openMap()) {
      for (int i = 0; i < 250; i++) one(db, "SELECT walmap_upsert('temp.kv', 'visits', 1, 'value + 1')");
    } catch (Exception error) {
      check("a thread", error.toString(), "no error");
    }
  }

  public static void main(String[] arguments) throws Exception {
    Connection db = openMap(), other = openMap();
    check("load", one(db, "SELECT walmap_version()").toString().substring(0, 2), "0.");
    execute(db, "INSERT INTO kv VALUES ('alice', 'online'), (7, 3.5)");
    check("map", one(other, "SELECT value FROM kv WHERE key = ?", "alice"), "online");
    db.setAutoCommit(false);
    execute(db, "DELETE FROM kv");
    db.rollback();
    db.setAutoCommit(true);
    check("rollback", one(other, "SELECT count(*) FROM kv"), 2);
    List<Thread> threads = new ArrayList<>();
    for (int i = 0; i < 4; i++) threads.add(new Thread(Client::visit));
    for (Thread thread : threads) thread.start();
    for (Thread thread : threads) thread.join();
    check("threads", one(db, "SELECT value FROM kv WHERE key = 'visits'"), 1000);
    one(db, "SELECT walmap_set('temp.kv', 'soon', 1, 0.2)");
    Object there = one(other, "SELECT count(*) FROM kv WHERE key = 'soon'");
    Thread.sleep(300);
    check("expiry", List.of(there, one(other, "SELECT count(*) FROM kv WHERE key = 'soon'")), List.of(1, 0));
    execute(db, "CREATE VIRTUAL TABLE temp.sorted USING walmap(ordered=1)");
    execute(db, "INSERT INTO sorted SELECT value, 0 FROM json_each('[5, 2.5, \"five\", 4, 1]')");
    check("range", rows(db, "SELECT key FROM sorted WHERE key >= 2 AND key < 5"), List.of(2.5, 4));

    Path image = Path.of(DIR, "image");
    one(db, "SELECT walmap_restore('temp.kv', ?)", Files.readAllBytes(image));
    check("image", List.of(one(db, "SELECT count(*) FROM kv WHERE key = 'from'"), one(db, "SELECT walmap_get('temp.kv', 7)")),
        List.of(1, 3.5));
    execute(db, "INSERT OR REPLACE INTO kv VALUES ('from', '" + NAME + "')");
    Files.write(image, (byte[]) one(db, "SELECT walmap_snapshot('temp.kv')"));

    Connection file = connect(DIR + "/shared.db");
    file.setAutoCommit(false);
    Integer before = (Integer) one(file, "SELECT value FROM main.kv WHERE key = 'count'");
    execute(file, "UPDATE main.kv SET value = value + 1 WHERE key = 'count'");
    execute(file, "INSERT INTO main.kv VALUES ('by " + NAME + "', 1)");
    file.commit();
    check("durable", one(file, "SELECT value FROM main.kv WHERE key = 'count'"), before + 1);
    for (Connection connection : List.of(file, other, db)) connection.close();
    System.exit(failed > 0 ? 1 : 0);
  }
}
