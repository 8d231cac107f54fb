# SPDX-License-Identifier: MIT
#
#   make                 build/transocksd, build/usocksd, build/transocks-rules
#   make check           everything that must hold: warnings, unit tests, end-to-end tests
#   make bench           how fast, beside what others use (root); BENCH="--plot FILE.svg ..."
#   make demo            the main job, shown in namespaces (root)
#   make fuzz            every parser, FUZZ_SECONDS each (clang)
#   make install         PREFIX=/usr/local DESTDIR=; make uninstall takes it back
#   make deps            what Debian 12 lacks for all of this (root)
#   make format          clang-format on every file; make clean
#
# BUILD=dir, CC=, CXX=, SANITIZE=address,undefined, V=1 change how.

BUILD      ?= build
PREFIX     ?= /usr/local
SBINDIR    ?= $(PREFIX)/sbin
MANDIR     ?= $(PREFIX)/share/man
UNITDIR    ?= $(PREFIX)/lib/systemd/system
PKG_CONFIG ?= pkg-config
INSTALL    ?= install
PYTHON     ?= /usr/bin/python3
FUZZ_SECONDS ?= 60

ifeq ($(origin CC),default)
CC  := gcc
endif
ifeq ($(origin CXX),default)
CXX := g++
endif

OPT      ?= -O2 -g
WARN     := -Wall -Wextra -Werror -Wshadow -Wvla -Wwrite-strings -Wformat=2 -Wundef
WARN_C   := -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition
HARDEN   := -fstack-protector-strong -fPIE -D_FORTIFY_SOURCE=2
ifdef SANITIZE
# vptr (C++, so TOML only) looks through a pipe whether memory is there: it takes a failing pipe for a fault.
HARDEN   := -fPIE -fsanitize=$(SANITIZE) -fno-sanitize=vptr -fno-omit-frame-pointer -DPOOL_DEBUG
OPT      := -O1 -g
LDFLAGS  += -fsanitize=$(SANITIZE)
endif
CPPFLAGS += -I. -D_GNU_SOURCE -MMD -MP
CFLAGS   += -std=gnu17 $(OPT) $(WARN) $(WARN_C) $(HARDEN) -pthread
CXXFLAGS += -std=c++17 $(OPT) -Wall -Wextra -Werror $(HARDEN) -pthread
LDFLAGS  += -pie -Wl,-z,relro,-z,now -Wl,--as-needed -pthread

POLICY_LIBS := $(shell $(PKG_CONFIG) --libs libxxhash 2>/dev/null) -lm
DAEMON_LIBS := $(shell $(PKG_CONFIG) --libs libcares libcap-ng libmicrohttpd 2>/dev/null)
# Passwords of usocksd's users.
CRYPT_LIBS  := -lcrypt
RULES_LIBS  := $(shell $(PKG_CONFIG) --libs libnftnl libnetfilter_conntrack libmnl 2>/dev/null)
TEST_LIBS   := $(shell $(PKG_CONFIG) --libs cmocka 2>/dev/null)

PROGRAMS := transocksd usocksd transocks-rules
# main() files stay out of the archives that tests link against.
DAEMON_MAINS := daemon/transocksd.c daemon/usocksd.c
RULES_MAIN   := rulemgr/transocks-rules.c

POLICY_SRC := $(wildcard policy/*.c) $(wildcard policy/*.cc)
DAEMON_SRC := $(filter-out $(DAEMON_MAINS),$(wildcard daemon/*.c daemon/*/*.c))
RULES_SRC  := $(filter-out $(RULES_MAIN),$(wildcard rulemgr/*.c))
UNIT_SRC   := $(wildcard tests/unit/test_*.c)
FUZZ_SRC   := $(wildcard tests/fuzz/fuzz_*.c)

obj = $(patsubst %,$(BUILD)/%.o,$(basename $(1)))
UNIT_BIN := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(UNIT_SRC))
BENCH_BIN := $(BUILD)/bench/load $(BUILD)/bench/endpoint $(BUILD)/bench/sets
FUZZ_BIN := $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/%,$(FUZZ_SRC))

ifneq ($(V),1)
Q := @
say = @printf '  %-5s %s\n' $(1) $(2)
endif

.PHONY: all units benchtools bench check demo fuzz install uninstall deps clean format
all: $(PROGRAMS:%=$(BUILD)/%)

$(BUILD)/%.o: %.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

$(BUILD)/%.o: %.cc
	$(call say,CXX,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -c -o $@ $<

# Every source through the front end, which gives the warnings: all that is wanted of a second compiler.
.PHONY: syntax
syntax: $(patsubst %,$(BUILD)/%.ok,$(wildcard policy/*.c policy/*.cc daemon/*.c daemon/*/*.c rulemgr/*.c \
	tests/unit/*.c tests/bench/*.c))

$(BUILD)/%.c.ok: %.c
	$(call say,CHECK,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -fsyntax-only -MF $(@:.ok=.d) -MT $@ $< && touch $@

$(BUILD)/%.cc.ok: %.cc
	$(call say,CHECK,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(CPPFLAGS) $(CXXFLAGS) -fsyntax-only -MF $(@:.ok=.d) -MT $@ $< && touch $@

$(BUILD)/libpolicy.a: $(call obj,$(POLICY_SRC))
$(BUILD)/libdaemon.a: $(call obj,$(DAEMON_SRC))
$(BUILD)/librulemgr.a: $(call obj,$(RULES_SRC))
$(BUILD)/lib%.a:
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(BUILD)/transocksd $(BUILD)/usocksd: $(BUILD)/%: $(BUILD)/daemon/%.o $(BUILD)/libdaemon.a $(BUILD)/libpolicy.a
	$(call say,LD,$@)
	$(Q)$(CXX) $(LDFLAGS) -o $@ $^ $(DAEMON_LIBS) $(POLICY_LIBS) $(CRYPT_LIBS)

# The only program that links GPL libraries.
$(BUILD)/transocks-rules: $(call obj,$(RULES_MAIN)) $(BUILD)/librulemgr.a $(BUILD)/libpolicy.a
	$(call say,LD,$@)
	$(Q)$(CXX) $(LDFLAGS) -o $@ $^ $(RULES_LIBS) $(POLICY_LIBS)

units: $(UNIT_BIN) $(BUILD)/faults.so $(BUILD)/netlink.so
$(UNIT_BIN): $(BUILD)/tests/%: $(BUILD)/tests/unit/%.o $(BUILD)/libdaemon.a $(BUILD)/librulemgr.a $(BUILD)/libpolicy.a
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(LDFLAGS) -o $@ $^ $(TEST_LIBS) $(DAEMON_LIBS) $(RULES_LIBS) $(POLICY_LIBS) \
		$(CRYPT_LIBS)

# Preloaded into a program by end-to-end tests. No sanitizers in it, whatever the program has.
$(BUILD)/faults.so $(BUILD)/netlink.so: $(BUILD)/%.so: tests/faults/%.c
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) -D_GNU_SOURCE -std=gnu17 -O2 -g $(WARN) $(WARN_C) -fPIC -shared -o $@ $<

benchtools: $(BENCH_BIN)
$(BUILD)/bench/load: $(call obj,tests/bench/load.c tests/bench/flow.c tests/bench/socks_client.c tests/bench/common.c)
$(BUILD)/bench/endpoint: $(call obj,tests/bench/endpoint.c tests/bench/common.c)
$(BUILD)/bench/sets: $(call obj,tests/bench/sets.c) $(BUILD)/libpolicy.a
$(BENCH_BIN):
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(LDFLAGS) -o $@ $^ $(POLICY_LIBS)

bench: all benchtools
	$(Q)BUILD_DIR=$(BUILD) $(PYTHON) -B tests/bench/bench.py $(BENCH)

check:
	$(Q)$(PYTHON) tests/check.py

demo:
	$(Q)etc/demo/demo.sh

# Fuzz targets are built apart, by clang, with everything they reach instrumented.
fuzz:
	$(Q)$(MAKE) --no-print-directory BUILD=$(BUILD)/fuzzing CC=clang CXX=clang++ \
		SANITIZE=fuzzer-no-link,address,undefined fuzz-run

.PHONY: fuzz-run
fuzz-run: $(FUZZ_BIN)
	$(Q)set -e; for bin in $^; do name=$$(basename $$bin); \
		mkdir -p $(BUILD)/corpus/$$name; \
		$$bin -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 \
			$(BUILD)/corpus/$$name tests/fuzz/corpus/$$name; done

$(FUZZ_BIN): $(BUILD)/fuzz/%: $(BUILD)/tests/fuzz/%.o $(BUILD)/libdaemon.a $(BUILD)/librulemgr.a $(BUILD)/libpolicy.a
	$(call say,LD,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CXX) $(LDFLAGS) -fsanitize=fuzzer -o $@ $^ $(RULES_LIBS) $(POLICY_LIBS) $(CRYPT_LIBS)

install: all
	$(INSTALL) -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(MANDIR)/man5 $(DESTDIR)$(MANDIR)/man8
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/share/doc/transocks/examples
	$(INSTALL) -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(UNITDIR)
	$(INSTALL) -m 755 $(PROGRAMS:%=$(BUILD)/%) $(DESTDIR)$(SBINDIR)
	$(INSTALL) -m 644 man/*.5 $(DESTDIR)$(MANDIR)/man5
	$(INSTALL) -m 644 man/*.8 $(DESTDIR)$(MANDIR)/man8
	$(INSTALL) -m 644 etc/*.toml $(DESTDIR)$(PREFIX)/share/doc/transocks/examples
	$(INSTALL) -m 644 README.md CHANGELOG.md LICENSE $(DESTDIR)$(PREFIX)/share/doc/transocks
	for p in $(PROGRAMS); do $(INSTALL) -m 644 etc/completion/$$p \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$p; done
	for u in etc/systemd/*.service; do sed 's|/usr/sbin/|$(SBINDIR)/|' $$u \
		>$(DESTDIR)$(UNITDIR)/$$(basename $$u); done

uninstall:
	rm -f $(PROGRAMS:%=$(DESTDIR)$(SBINDIR)/%)
	for m in man/*.5; do rm -f $(DESTDIR)$(MANDIR)/man5/$$(basename $$m); done
	for m in man/*.8; do rm -f $(DESTDIR)$(MANDIR)/man8/$$(basename $$m); done
	for p in $(PROGRAMS); do rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$p; done
	for u in etc/systemd/*.service; do rm -f $(DESTDIR)$(UNITDIR)/$$(basename $$u); done
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/transocks

deps:
	$(Q)etc/demo/deps.sh --test

format:
	clang-format -i policy/*.[ch] daemon/*.[ch] daemon/*/*.[ch] rulemgr/*.[ch] tests/unit/*.[ch] tests/fuzz/*.[ch] tests/bench/*.[ch] tests/faults/*.c

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
