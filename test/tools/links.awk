# links.awk: awk -v list=FILES -f links.awk PAGE...: prints what a page (*.md) refers to in this repository and is not
# there, and exits with 1 if there is such a thing: the file or the heading of a [link](file#heading), the file of an
# <img src="file">, a `path/of/a.file` in backticks, and the `name.c` of a source or a test. FILES lists the files of the
# repository, one a line; all names are from the top folder, and a path in backticks may begin at its page as well.
BEGIN {
  while ((getline path < list) > 0) {
    there[path] = 1
    name = path
    sub(/.*\//, "", name)
    named[name] = 1
    while (sub(/\/[^\/]*$/, "", path)) there[path] = 1
  }
  named["sqlite3.c"] = named["shell.c"] = 1 # SQLite's own
  named["walmap.c"] = 1 # the amalgamation, which ext/packages/amalgamate makes
  for (i = 1; i < ARGC; i++) read_headings(ARGV[i])
}

# The names that GitHub gives headings: lower case, without punctuation, a hyphen for each space
function read_headings(page,   line, fenced, name, times) {
  while ((getline line < page) > 0) {
    if (line ~ /^```/) fenced = !fenced
    if (fenced || line !~ /^#+ /) continue
    sub(/^#+ +/, "", line)
    gsub(/\]\([^)]*\)/, "", line)
    line = tolower(line)
    gsub(/[^a-z0-9 _-]/, "", line)
    gsub(/ /, "-", line)
    name = page "#" line
    times[name]++
    heading[times[name] > 1 ? name "-" (times[name] - 1) : name] = 1
  }
  close(page)
}

function plain(path) {
  while (sub(/[^\/]+\/\.\.\//, "", path)) ;
  sub(/\/$/, "", path)
  return path
}

function complain(what) { printf "%s:%d: %s\n", FILENAME, FNR, what; bad = 1 }

function look_up(target,   file, anchor) {
  if (target ~ /^[a-z]+:/) return # a site
  file = target
  sub(/#.*/, "", file)
  anchor = index(target, "#") ? substr(target, index(target, "#")) : ""
  file = file == "" ? FILENAME : plain(folder file)
  if (!(file in there)) complain("no file " target)
  else if (anchor != "" && file ~ /\.md$/ && !((file anchor) in heading)) complain("no heading " target)
}

FNR == 1 {
  fenced = 0
  folder = FILENAME
  if (!sub(/[^\/]*$/, "", folder)) folder = ""
}
/^```/ { fenced = !fenced; next }
fenced { next }
{
  text = $0
  while (match(text, /\]\([^) ]+\)/)) {
    look_up(substr(text, RSTART + 2, RLENGTH - 3))
    text = substr(text, RSTART + RLENGTH)
  }
  text = $0
  while (match(text, /src(set)?="[^"]+"/)) {
    target = substr(text, RSTART, RLENGTH - 1)
    sub(/[^"]*"/, "", target)
    look_up(target)
    text = substr(text, RSTART + RLENGTH)
  }
  text = $0
  while (match(text, /`(core|ext|test|sqlite-build|\.ci)\/[A-Za-z0-9_.\/-]+`/)) {
    target = plain(substr(text, RSTART + 1, RLENGTH - 2))
    if (!(target in there) && !((folder target) in there)) complain("no file " target)
    text = substr(text, RSTART + RLENGTH)
  }
  text = $0
  while (match(text, /`[A-Za-z0-9_]+\.(c|h|test|tcl)`/)) {
    target = substr(text, RSTART + 1, RLENGTH - 2)
    if (!(target in named)) complain("no file is named " target)
    text = substr(text, RSTART + RLENGTH)
  }
}

END { exit bad }
