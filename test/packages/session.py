"""session.py: the session of README.md, as a list of statements and what each prints.

    session.py sql                   the statements, for a shell that has the extension loaded
    session.py expected              what they print
    session.py json                  [[statement, [line...]]...], for session.js
    session.py run                   runs them in this Python, with sqlite_walmap
    session.py block FILE LANGUAGE   the first block of that language in a page
"""
import json
import pathlib
import re
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]


def block(path, language):
    return re.search(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.S | re.M)[1]


def session():
    steps = []
    for line in block(TOP / "README.md", "console").splitlines():
        if line.startswith("sqlite> "):
            steps.append([line[8:], []])
        elif line.startswith("   ...> "):
            steps[-1][0] += "\n" + line[8:]
        else:
            steps[-1][1].append(line)
    steps = [step for step in steps if not step[0].startswith(".load")]
    assert len(steps) > 6 and sum(len(lines) for _, lines in steps) > 3
    return steps


def run():
    import sqlite3

    import sqlite_walmap

    db = sqlite3.connect(":memory:", isolation_level=None)
    sqlite_walmap.load(db)
    try:
        db.load_extension(sqlite_walmap.loadable_path())
        raise SystemExit("load() left extensions enabled")
    except sqlite3.OperationalError:
        pass
    for statement, expected in session():
        rows = []
        for sql in statement.split(";"):
            rows += db.execute(sql).fetchall()
        printed = ["|".join("" if value is None else str(value) for value in row) for row in rows]
        if printed != expected:
            raise SystemExit(f"{statement}: {printed}, not {expected}")

    class Connection:  # as that of a Python without loadable extensions
        pass

    try:
        sqlite_walmap.load(Connection())
        raise SystemExit("load() loaded nothing and did not fail")
    except RuntimeError as error:
        assert "without loadable extensions" in str(error)


def main():
    what = sys.argv[1]
    if what == "run":
        run()
    elif what == "block":
        print(block(pathlib.Path(sys.argv[2]), sys.argv[3]), end="")
    elif what == "json":
        print(json.dumps(session()))
    else:
        for statement, expected in session():
            for line in [statement] if what == "sql" else expected:
                print(line)


main()
