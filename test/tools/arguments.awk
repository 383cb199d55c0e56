# arguments.awk: awk -f arguments.awk FILE...: prints each name of an argument or promise, as E1 or C7, that one of the
# files cites and no page defines, and each that the index of core/DESIGN.md sends to a file that does not have it.
# Exits with 1 if there is such a name. The files are named from the top folder.
#
# Where names are defined:
#   core/DESIGN.md    | E1 | what it says | [`sync/epoch.h`](sync/epoch.h) |
#   core/walmap.h     **  C1 A reader never waits ...
#   other pages       - **T1 Readers never wait.**   or   - R1 The state is ...
BEGIN { defined["G0"] = defined["G1"] = defined["G2"] = "Adya's names of anomalies" }

function define(name, where) {
  if (!(name in defined)) defined[name] = where
}

FILENAME == "core/DESIGN.md" && /^\| [A-Z][0-9] \|/ {
  path = $0
  sub(/.*\]\(/, "core/", path)
  sub(/\).*/, "", path)
  define($2, path)
  indexed[$2] = path
}
FILENAME == "core/walmap.h" && /^\*\*  [A-Z][0-9] / { define($2, FILENAME) }
FILENAME ~ /\.md$/ && /^- (\*\*)?[A-Z][0-9](\*\*)? / { define(substr($0, match($0, /[A-Z][0-9]/), 2), FILENAME) }

{ # S3-FIFO and X11 are no such names
  text = $0
  while (match(text, /(^|[^A-Za-z0-9_])[A-Z][0-9]($|[^A-Za-z0-9_-])/)) {
    name = substr(text, RSTART, RLENGTH)
    gsub(/[^A-Z0-9]/, "", name)
    if (!((FILENAME, name) in cited)) cited[FILENAME, name] = FNR
    text = substr(text, RSTART + RLENGTH - 1)
  }
}

END {
  for (key in cited) {
    split(key, part, SUBSEP)
    if (!(part[2] in defined)) { printf "%s:%d: %s is defined nowhere\n", part[1], cited[key], part[2]; bad = 1 }
  }
  for (name in indexed)
    if (!((indexed[name], name) in cited)) { printf "core/DESIGN.md: %s is not in %s\n", name, indexed[name]; bad = 1 }
  exit bad
}
