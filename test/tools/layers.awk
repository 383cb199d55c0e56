# layers.awk: awk -f layers.awk FILE...: prints each #include in the C files of core/ and ext/ that reaches a folder it
# may not use, and exits with 1 if there is one. The files are named from the top folder, and `ls` is one of them when
# an #include could mean it.
#
# A folder may use itself and those of a lower level; core/walmap.h, the public header, is level 0, as is
# core/platform/, the operating system. An image is a string of bytes that needs no map, so core/image/ may use of shard/
# the layout of a record alone. The extension is a user of walmap.h; of the core's own folders it may use base/ and
# platform/ alone. A folder that has no level here may not be there.
BEGIN {
  split("core:0 core/platform:0 core/base:1 core/sync:2 core/order:3 core/shard:4 core/mvcc:5 core/image:5 core/transfer:6 core/verify:6 " \
        "ext/platform:9 ext/codec:10 ext/conn:11 ext/durable:12 ext/schema:13 ext/table:14 ext/functions:15 ext:16", entries, " ")
  for (i in entries) { split(entries[i], entry, ":"); level[entry[1]] = entry[2] }
  for (i = 1; i < ARGC; i++) there[ARGV[i]] = 1
}

function folder_of(path) { sub(/\/[^\/]*$/, "", path); return path }

# "a/b/../c" is "a/c"
function plain(path) { while (sub(/[^\/]+\/\.\.\//, "", path)) ; return path }

function complain(why) { printf "%s:%d: %s: %s\n", FILENAME, FNR, $0, why; bad = 1 }

FNR == 1 {
  from = folder_of(FILENAME)
  if (!(from in level)) complain(from "/ has no level in test/tools/layers.awk")
}

/^[ \t]*#[ \t]*include[ \t]*"/ && from in level {
  split($0, part, "\"")
  file = ""
  n = split(from " core ext", base, " ")
  for (i = 1; i <= n && file == ""; i++)
    if (plain(base[i] "/" part[2]) in there) file = plain(base[i] "/" part[2])
  to = folder_of(file)
  if (file == "") complain("no such file")
  else if (!(to in level)) next # said at its own first line
  else if (to == from || file == "core/walmap.h" && from != "core") next
  else if (level[to] >= level[from]) complain(from "/ may not use " to "/")
  else if (from == "core/image" && to == "core/shard" && file != "core/shard/record.h") complain("core/image/ may use record.h alone of core/shard/")
  else if (from == "core/image" && to == "core/sync") complain("core/image/ may not use core/sync/")
  else if (from ~ /^ext/ && to ~ /^core\// && to !~ /^core\/(base|platform)$/)
    complain("the extension may use walmap.h, base/ and platform/ alone of core/")
}

END { exit bad }
