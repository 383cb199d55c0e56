#!/bin/sh
# loadable.sh: the extension from the amalgamation, and the shell with it
set -e
${CC:-cc} -O2 -shared -fPIC -o walmap.so walmap.c -lpthread
sqlite3 :memory: ".load ./walmap" "INSERT INTO walmap VALUES('alice', 'online')" "SELECT walmap_get('alice')"
