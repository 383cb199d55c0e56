# walmap: see README.md for what it is and `make help` for what can be made.

# What a caller may set, as in `make CC=clang WERROR=1 test`
CC       ?= cc
CFLAGS   ?= -O2 -g
PREFIX   ?= /usr/local
DESTDIR  ?=
SANITIZER ?=
WERROR   ?=
DEBUG    ?=
VERSION  ?= 3.40.1
SECONDS  ?= 3600
# Each kind of build has a folder of its own, so that they do not undo each other
BUILD    ?= build$(addprefix -,$(SANITIZER))$(if $(DEBUG),-debug)

ifneq ($(filter-out address undefined thread,$(SANITIZER)),)
  $(error SANITIZER=$(SANITIZER) is not allowed; it may be address, undefined or thread)
endif

# What CC builds for: it may be a compiler for another system
MACHINE  := $(shell $(CC) -dumpmachine)
WINDOWS  := $(findstring mingw,$(MACHINE))
SUFFIX   := $(if $(WINDOWS),dll,$(if $(findstring darwin,$(MACHINE))$(findstring macos,$(MACHINE)),dylib,so))
RELEASE  := $(shell sed -n 's/^\#define WALMAP_VERSION "\(.*\)"/\1/p' core/walmap.h)
# The plain build leaves the extension in the top folder, the others in theirs
WALMAP   := $(if $(filter build,$(BUILD)),./,$(BUILD)/)walmap.$(SUFFIX)
LIBRARY  := $(BUILD)/libwalmap.a

SAN_address   := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SAN_undefined := -fsanitize=undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
SAN_thread    := -fsanitize=thread -fno-omit-frame-pointer

ALL_CFLAGS := -std=c11 -Wall -Wextra -Wno-missing-field-initializers $(if $(WERROR),-Werror) -pthread -Icore -Iext $(SAN_$(SANITIZER)) \
              $(if $(DEBUG),-DWALMAP_DEBUG) $(CPPFLAGS) $(CFLAGS)
NOTE_HEADERS = -MMD -MP -MT $@ -MF $@.d
# The extension is optimized as a whole when it is linked, which brings it 3 %. With GCC from 10 on: its objects hold
# plain code as well, for the library. Not in builds that look for mistakes
GCC := $(findstring Free Software Foundation,$(shell $(CC) --version))
ifeq ($(origin LTO),undefined)
  LTO := $(if $(DEBUG)$(SANITIZER),,$(if $(GCC),$(if $(filter -O2 -O3,$(CFLAGS)),-flto=auto -ffat-lto-objects)))
  LTO := $(if $(LTO),$(shell $(CC) $(LTO) -x c -c -o /dev/null /dev/null 2>/dev/null && echo '$(LTO)'))
endif
# MinGW's threads and helpers go into the library, which then needs nothing that Windows lacks
SYSTEM_LIBS := $(if $(WINDOWS),-static -lpthread -ladvapi32)
# assert() is for the builds that look for mistakes
LIB_CFLAGS = $(NOTE_HEADERS) -fPIC -fvisibility=hidden $(if $(DEBUG)$(SANITIZER),,-DNDEBUG) $(LTO)

CORE_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard core/*/*.c))
EXT_SOURCES  := $(filter-out ext/recipes/%,$(wildcard ext/*.c ext/*/*.c))
EXT_OBJECTS  := $(EXT_SOURCES:%.c=$(BUILD)/%.o)
TESTS        := $(patsubst %.c,$(BUILD)/%,$(wildcard test/ext/*.c test/core/*.c test/core/ordered/*.c))
BENCHES      := $(patsubst %.c,$(BUILD)/%,$(wildcard test/bench/*.c))
RESULTS      := $(BUILD)/results
FUZZERS      := $(patsubst %.c,$(BUILD)/%,$(wildcard test/fuzz/fuzz_*.c))
FUZZ_OBJECTS := $(patsubst %.c,$(BUILD)/fuzz/%.o,$(wildcard core/*/*.c) $(EXT_SOURCES))
FUZZ_CFLAGS   = $(NOTE_HEADERS) -DSQLITE_CORE -DWALMAP_DEBUG $(SAN_address)

.PHONY: all help deps demo test test-aarch64 test-cluster test-litestream test-clients test-programs coverage bench bench-quick bench-concurrent bench-shards bench-cache bench-hosts plots fuzz valgrind soak \
        check format shell test-sqlite test-sqlite-own packages test-packages test-windows bench-programs run-benches objects install uninstall clean FORCE

all: $(WALMAP) $(LIBRARY) ## builds walmap.so (the extension) and build/libwalmap.a (the C library)

help: ## shows this list
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r t d; do printf '  make %-18s%s\n' "$$t" "$$d"; done
	@echo 'Variables: CC CFLAGS LTO PREFIX=/usr/local DESTDIR= WERROR=1 DEBUG=1 SANITIZER=address|undefined|thread BUILD=folder'

deps: ## installs what building and testing need (Debian, Ubuntu), or prints the command that does
	@test/tools/deps build test

$(WALMAP): $(CORE_OBJECTS) $(EXT_OBJECTS)
	$(CC) $(ALL_CFLAGS) $(LTO) -shared -o $@ $^ $(LDFLAGS) $(SYSTEM_LIBS)

$(LIBRARY): $(CORE_OBJECTS)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/core/%.o: core/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LIB_CFLAGS) -c -o $@ $<

$(BUILD)/ext/%.o: ext/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(LIB_CFLAGS) -c -o $@ $<

# The fuzzers have the sources within, built for them
$(BUILD)/fuzz/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	clang $(ALL_CFLAGS) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -c -o $@ $<

$(FUZZERS): $(BUILD)/test/fuzz/%: test/fuzz/%.c $(FUZZ_OBJECTS)
	@mkdir -p $(@D)
	clang $(ALL_CFLAGS) $(FUZZ_CFLAGS) -fsanitize=fuzzer -o $@ $< $(FUZZ_OBJECTS) -lsqlite3

# The library is optimized as a whole for each benchmark, but not for tests, whose linking would take minutes
$(BUILD)/test/%: test/%.c $(LIBRARY) $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(NOTE_HEADERS) $(if $(findstring /bench/,$@),,$(if $(LTO),-fno-lto)) -o $@ $< $(LIBRARY) $(LDFLAGS) $(LDLIBS) -lsqlite3 -lm

# These need the core with its yields (core/base/yield.h), whatever the build
YIELDING     := $(addprefix $(BUILD)/test/core/,test_bounds ordered/test_bounds test_counters test_epoch test_races ordered/test_races test_linearizable test_linearizable_ranges test_retry_token)
YIELDING_LIB := $(BUILD)/yielding/libwalmap.a
$(BUILD)/yielding/%.o: %.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) $(NOTE_HEADERS) -DWALMAP_DEBUG -c -o $@ $<
$(YIELDING_LIB): $(patsubst $(BUILD)/%,$(BUILD)/yielding/%,$(CORE_OBJECTS))
	@rm -f $@
	$(AR) rcs $@ $^
$(YIELDING): $(YIELDING_LIB)
$(YIELDING): private LIBRARY := $(YIELDING_LIB)
$(YIELDING): private ALL_CFLAGS += -DWALMAP_DEBUG

$(TESTS): LDLIBS += -lcmocka
$(BUILD)/test/cluster/node: LDLIBS += -ldqlite -ldl
# The extension calls the program's clock
$(BUILD)/test/ext/expiry_model: LDFLAGS += -rdynamic
$(BUILD)/test/bench/bench_lmdb: LDLIBS += -llmdb
$(BUILD)/test/bench/bench_trees: LDLIBS += -llmdb $(shell pkg-config --cflags --libs glib-2.0)
$(BUILD)/test/bench/bench_redis: LDLIBS += -lhiredis

# What is needed besides is installed first. But `make` alone installs nothing: `make deps` does
need-%: FORCE
	@test/tools/deps build $*
$(TESTS): | need-test
$(BENCHES): | need-bench
$(FUZZERS) $(FUZZ_OBJECTS): | need-fuzz

# Other flags than last time, and everything is built again
FLAGS := $(CC) $(filter-out -Werror,$(ALL_CFLAGS)) $(LTO)
$(BUILD)/flags: FORCE
	@mkdir -p $(@D)
	@echo '$(FLAGS)' | cmp -s - $@ || echo '$(FLAGS)' >$@

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)

objects: $(CORE_OBJECTS) $(EXT_OBJECTS)
test-programs: $(TESTS) ## builds the test programs, runs nothing
fuzz: $(FUZZERS) ## builds the fuzzers (clang) into build/test/fuzz

# Some, for a minute. Of the others busy.test goes by the clock; and plan.test and table.test fail where SQLite's own
# tables need floating-point numbers of 80 bits, which valgrind does not have. It has no complaint in any.
FILES ?= $(addprefix test/sql/,functions.test ddl.test txn.test share.test)
VALGRIND := valgrind --quiet --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite \
            --error-exitcode=99
valgrind: ## the tests FILES=test/... (Tcl) in a host that no sanitizer was built into, under valgrind
	@test/tools/deps build test valgrind
	@$(MAKE) --no-print-directory all
	@WALMAP_SO=$(WALMAP) BUILD=$(BUILD) UNDER='$(VALGRIND)' test/tools/run $(FILES)

soak: ## SECONDS=3600 of everything at once; the memory that it took in build/soak.svg
	@test/tools/deps build test soak
	@$(MAKE) --no-print-directory all $(BUILD)/test/ext/soak
	WALMAP_SO=$(WALMAP) $(BUILD)/test/ext/soak $(SECONDS) 5 $(BUILD)/soak.tsv
	gnuplot -c test/tools/soak.gnuplot $(BUILD)/soak.tsv $(BUILD)/soak.svg

demo: ## shows what walmap does, in the sqlite3 shell; installs what that needs
	@test/tools/deps build demo
	@$(MAKE) --no-print-directory all
	@WALMAP_SO=$(WALMAP) test/demo/run

test: ## builds and runs all tests; installs what they need
	@test/tools/deps build test
	@test/tools/get-node
	@$(MAKE) --no-print-directory all test-programs
	@WALMAP_SO=$(WALMAP) BUILD=$(BUILD) SANITIZER=$(SANITIZER) test/tools/run

# Another kind of CPU than x86: no SSE2, and a char that has no sign
# But those in which one thread runs at a time, which take long there and show nothing that they do not show here
AARCH64_TESTS := $(filter-out %/test_races %/test_oom %/test_oom_txn %/test_oom_image,$(filter $(BUILD)/test/core/%,$(TESTS)))
test-aarch64: ## the C library's tests for aarch64, in an emulator (Debian)
	@test/tools/deps build aarch64
	@$(MAKE) --no-print-directory BUILD=build-aarch64 CC=aarch64-linux-gnu-gcc all test-programs
	@WALMAP_SO=build-aarch64/walmap.so BUILD=build-aarch64 UNDER=qemu-aarch64 \
	  test/tools/run $(AARCH64_TESTS:$(BUILD)/%=build-aarch64/%)

CLUSTER := $(addprefix $(BUILD)/test/cluster/,cluster node)
test-cluster: ## a durable table in a cluster: three dqlite nodes on this machine (Debian)
	@test/tools/deps build
	@if test/tools/deps cluster && echo '#include <dqlite.h>' | $(CC) -E - >/dev/null 2>&1; then \
	  $(MAKE) --no-print-directory all $(CLUSTER) && WALMAP_SO=$(abspath $(WALMAP)) $(CLUSTER); \
	else echo 'skipped test-cluster: dqlite cannot be had here'; fi

test-clients: ## real clients in Python, Node.js, PHP, Ruby, Perl, Tcl, Java, Go, Rust; FEW=1: without those to be compiled
	@test/tools/deps build test
	@test/tools/deps clients $(if $(FEW),,clients-compiled) || echo 'clients: those that cannot be had are skipped'
	@test/tools/deps npm || echo 'clients: those of npm are skipped'
	@$(if $(FEW),:,test/tools/get-node)
	@test/clients/get-npm $(if $(FEW),,sqlite3@6)
	@test/clients/get-suites
	@$(MAKE) --no-print-directory all
	@WALMAP_SO=$(WALMAP) test/clients/run

test-litestream: ## a durable table in a replica that Litestream makes; npm brings its program
	@test/tools/deps build test npm
	@test/tools/get-litestream
	@$(MAKE) --no-print-directory all
	@if [ -x build/litestream/litestream ]; then \
	  LITESTREAM=$(CURDIR)/build/litestream/litestream WALMAP_SO=$(WALMAP) test/tools/run test/cluster/litestream.test; \
	else echo 'skipped test-litestream: Litestream cannot be had here'; fi

coverage: ## tells which lines and branches the tests run
	@test/tools/deps build test
	@test/tools/coverage

bench-programs: $(BENCHES) ## the benchmarks, to be run one by one (test/bench/README.md)
bench: ## measures everything at full size, beside the peers, in 20 to 40 minutes
	@$(MAKE) --no-print-directory run-benches BENCH_SIZE=full
bench-quick: ## the same with less data, in a minute or two
	@$(MAKE) --no-print-directory run-benches BENCH_SIZE=quick BENCHES='$(filter-out %/bench_shards,$(BENCHES))'
bench-concurrent: ## connections in threads: walmap, cache=shared, memdb, a WAL file
	@$(MAKE) --no-print-directory run-benches BENCH_SIZE=full BENCHES=$(BUILD)/test/bench/bench_concurrent
bench-shards: ## what the number of shards brings and costs
	@$(MAKE) --no-print-directory run-benches BENCH_SIZE=full BENCHES=$(BUILD)/test/bench/bench_shards
bench-hosts: ## the same cache in threads of Python and Node.js, beside what these have
	@test/tools/deps build bench
	@test/tools/deps clients || echo 'bench-hosts: what cannot be had is left out'
	@test/tools/deps npm || echo 'bench-hosts: Node.js is left out'
	@test/tools/get-node
	@$(MAKE) --no-print-directory all
	@WALMAP_SO=$(WALMAP) test/bench/hosts/run
bench-cache: ## how often maps with bounds miss, beside exact LRU, FIFO and SIEVE, and what evicting costs
	@$(MAKE) --no-print-directory run-benches BENCH_SIZE=full BENCHES=$(BUILD)/test/bench/bench_cache
run-benches:
	@test/tools/deps build bench
	@$(MAKE) --no-print-directory all bench-programs
	@mkdir -p $(RESULTS)
	@for bench in $(BENCHES); do WALMAP_SO=$(WALMAP) BENCH_RESULTS=$(RESULTS) $$bench $(BENCH_SIZE) || exit 1; done
	@echo; echo 'Also as tables, tab-separated, in $(RESULTS); make plots draws them'

plots: ## draws the last results of the benchmarks as SVG in build/plots
	@test/tools/deps plots
	@test/bench/plots $(RESULTS) $(BUILD)/plots

check: all ## format, lint, shell scripts, exported names
	@test/tools/deps check
	@test/tools/check $(WALMAP) $(LIBRARY)

format: ## lays out the C sources as .clang-format says
	@test/tools/deps check
	clang-format -i $(shell git ls-files '*.[ch]')

# The group `npm` where npm brings the source of VERSION[-VARIANT]
NPM = $(shell grep -o '^$(firstword $(subst -, ,$(VERSION))) *npm' sqlite-build/versions | grep -o npm)
shell: ## builds build/sqlite-VERSION/sqlite3, a shell with walmap inside; VERSION=3.40.1, ...
	@test/tools/deps build sqlite $(NPM)
	@CC='$(CC)' sqlite-build/build $(VERSION)

test-sqlite: ## runs the SQL tests with SQLite VERSION=3.46.1, 3.53.2-debug, ... from source
	@test/tools/deps build test sqlite $(NPM)
	@CC='$(CC)' sqlite-build/build $(VERSION)
	@$(MAKE) --no-print-directory all test-programs
	@WALMAP_SO=$(WALMAP) BUILD=$(BUILD) sqlite-build/run $(VERSION) \
	  test/tools/run $(filter-out $(BUILD)/test/core/%,$(TESTS)) $(wildcard test/sql/*.test)

SQLITE_OWN := $(BUILD)/test/sqlite/two_columns.so
$(SQLITE_OWN): test/sqlite/two_columns.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -Wall -Wextra $(if $(WERROR),-Werror) $(CFLAGS) -fPIC -shared -o $@ $<
test-sqlite-own: ## SQLite's own tests, with walmap tables for their tables of two columns; ALL=1: all of them
	@test/tools/deps build test sqlite
	@$(MAKE) --no-print-directory all $(SQLITE_OWN)
	@WALMAP_SO=$(WALMAP) BUILD=$(BUILD) test/sqlite/run $(SQLITE_FILES)

install: all ## installs below $(DESTDIR)$(PREFIX)
	install -d $(DESTDIR)$(PREFIX)/lib/walmap $(DESTDIR)$(PREFIX)/lib/pkgconfig $(DESTDIR)$(PREFIX)/include
	install -m 755 $(WALMAP) $(DESTDIR)$(PREFIX)/lib/walmap/walmap.$(SUFFIX)
	install -m 644 $(LIBRARY) $(DESTDIR)$(PREFIX)/lib/libwalmap.a
	install -m 644 core/walmap.h ext/walmap_sqlite.h $(DESTDIR)$(PREFIX)/include
	printf '%s\n' 'prefix=$(PREFIX)' 'extension=$${prefix}/lib/walmap/walmap' 'Name: walmap' 'Description: in-memory key/value map with transactions' \
	  'Version: $(RELEASE)' 'Cflags: -I$${prefix}/include' 'Libs: -L$${prefix}/lib -lwalmap -pthread' \
	  >$(DESTDIR)$(PREFIX)/lib/pkgconfig/walmap.pc
	@echo 'Load it with: .load $(PREFIX)/lib/walmap/walmap'

# PLATFORMS=... for some of them (ext/packages/compile lists them)
PACKAGES := $(BUILD)/packages
packages: ## packages of Debian, Python, npm, an amalgamation and the sources, into build/packages
	@test/tools/deps build packages
	@ext/packages/build $(PACKAGES) $(PLATFORMS)
test-packages: packages ## installs each of them in a fresh place, and runs the README's session there
	@test/tools/deps test-packages
	@test/packages/run $(PACKAGES)
test-windows: ## the C library's tests, built by MinGW, run under Wine (Debian)
	@test/tools/deps build packages test-packages
	@test/packages/windows-core

uninstall: ## removes what install put there
	rm -rf $(DESTDIR)$(PREFIX)/lib/walmap
	rm -f $(DESTDIR)$(PREFIX)/lib/libwalmap.a $(DESTDIR)$(PREFIX)/include/walmap.h \
	  $(DESTDIR)$(PREFIX)/include/walmap_sqlite.h \
	  $(DESTDIR)$(PREFIX)/lib/pkgconfig/walmap.pc

clean: ## removes all that was built
	rm -rf build build-* walmap.so walmap.dylib
