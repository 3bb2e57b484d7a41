# SPDX-License-Identifier: Apache-2.0

# sudo hides what a user's PATH has; Go's own place is tried too.
GO       ?= $(shell command -v go 2>/dev/null || ls /usr/local/go/bin/go /usr/lib/go*/bin/go 2>/dev/null | tail -n 1)
VERSION  ?= $(shell git -c safe.directory='*' describe --tags --always --dirty 2>/dev/null || echo unknown)
PREFIX   ?= /usr/local
SYSCONF  ?= /etc
SBINDIR   = $(DESTDIR)$(PREFIX)/sbin
MANDIR    = $(DESTDIR)$(PREFIX)/share/man
SHAREDIR  = $(DESTDIR)$(PREFIX)/share
DOCDIR    = $(DESTDIR)$(PREFIX)/share/doc/vxsnd
LIBDIR    = $(DESTDIR)$(PREFIX)/lib
FUZZTIME ?= 10s
LDFLAGS   = -s -w -X vxsnd/internal/cli.version=$(VERSION)
BIN       = bin/vxsnd
LINKS     = vxrd vxsndctl vxrdctl
ROOT      = $(shell [ "$$(id -u)" = 0 ] && echo 1)
# What root builds in a user's tree is the user's to build again.
OWN       = [ -z "$(ROOT)" ] || chown -hR --reference=Makefile bin
REPORT   := $(shell mktemp -u)

# The tests of whole programs need root for their network namespaces. As root
# nothing may be skipped.
export VXSND_NO_SKIP ?= $(ROOT)

.DEFAULT_GOAL := build
.PHONY: help all build demo test race fuzz bench lint generate install clean go cgo uml bird tcpdump promtool clang

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

all: build test ## build and test

build: go ## build bin/vxsnd and its links
	@mkdir -p bin
	CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -ldflags '$(LDFLAGS)' -o bin/vxsnd ./cmd/vxsnd
	@for l in $(LINKS); do ln -sf vxsnd bin/$$l; done
	@$(OWN)

demo: build ## show a lab of kernel VTEPs around a vxsnd (root)
	@[ "$(ROOT)" ] || { echo 'make demo needs root for network namespaces: sudo make demo' >&2; exit 1; }
	@CGO_ENABLED=0 $(GO) build -buildvcs=false -o bin/demo ./internal/netlab/demo
	@$(OWN)
	@bin/demo -vxsnd bin/vxsnd -config etc/vxsnd.conf

test: lint cgo uml bird tcpdump promtool clang ## everything that must pass (root for the tests in namespaces)
	@[ "$(ROOT)" ] || echo 'not root: tests in network namespaces are skipped (sudo make test runs them)'
	@$(GO) tool gotestsum --format pkgname --jsonfile $(REPORT) -- -race -count=1 -timeout 10m ./... ; \
	status=$$?; \
	if [ "$(ROOT)" ] && grep -q '"Action":"skip".*"Test":' $(REPORT); then \
		echo 'skipped tests count as failed' >&2; status=1; fi; \
	rm -f $(REPORT); exit $$status
	$(GO) test -race -count=1 ./internal/register -loopback

race: cgo ## unit tests alone, with the race detector (no root)
	VXSND_NO_SKIP= $(GO) test -race -count=1 $$($(GO) list ./... | grep -v /internal/e2e)

fuzz: go ## run each fuzz target for FUZZTIME (10s)
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "$$p $$f"; \
			$(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
		done; \
	done

# FULL=1 measures flooding in full and writes docs/performance.md; PARTS names
# other things to measure, separated by commas: intake, dump, learn, vxrd.
bench: build ## measure flooding against other programs and the kernel (root; FULL=1; PARTS=...)
	@[ "$(ROOT)" ] || { echo 'make bench needs root for network namespaces: sudo make bench' >&2; exit 1; }
	@CGO_ENABLED=0 $(GO) build -buildvcs=false -o bin/bench ./internal/netlab/bench
	@$(OWN)
	@bin/bench -vxsnd bin/vxsnd $(if $(FULL),-full -report docs) $(if $(PARTS),-parts $(PARTS))

lint: go ## formatting, vet, staticcheck, directions of dependencies
	@out=$$("$$($(GO) env GOROOT)/bin/gofmt" -l cmd internal); [ -z "$$out" ] || { echo "gofmt would change: $$out" >&2; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) tool depguard ./...

generate: go clang ## make generated files anew
	$(GO) generate ./...

install: build ## install under DESTDIR and PREFIX (/usr/local); existing .conf files stay
	install -D -m 0755 $(BIN) $(SBINDIR)/vxsnd
	@for l in $(LINKS); do ln -sfv vxsnd $(SBINDIR)/$$l; done
	install -D -m 0644 -t $(MANDIR)/man8 docs/*.8
	install -D -m 0644 -t $(MANDIR)/man5 docs/*.5
	@for p in vxsndctl vxrdctl; do \
		for f in bash:bash-completion/completions/$$p zsh:zsh/site-functions/_$$p fish:fish/vendor_completions.d/$$p.fish; do \
			install -D -m 0644 internal/cli/completion/$${f%%:*} $(SHAREDIR)/$${f#*:} && \
			sed -i "s/NAME/$$p/g" $(SHAREDIR)/$${f#*:} || exit 1; done; done
	install -D -m 0644 -t $(LIBDIR)/systemd/system etc/vxsnd.service etc/vxrd.service
	install -D -m 0644 -t $(LIBDIR)/sysusers.d etc/sysusers.d/vxsnd.conf etc/sysusers.d/vxrd.conf
	install -D -m 0644 -t $(DOCDIR)/examples/vxsnd.service.d etc/vxsnd.service.d/anycast.conf etc/vxsnd.service.d/tc.conf
	install -D -m 0644 -t $(DOCDIR)/examples/vxrd.service.d etc/vxrd.service.d/unprivileged.conf
	install -D -m 0644 -t $(DOCDIR)/examples etc/grafana/vxsnd.json etc/prometheus/vxsnd.rules.yml etc/prometheus/vxsnd.rules.test.yml
	sed -i 's,/usr/local/sbin/,$(PREFIX)/sbin/,' $(LIBDIR)/systemd/system/vxsnd.service \
		$(LIBDIR)/systemd/system/vxrd.service $(DOCDIR)/examples/vxsnd.service.d/anycast.conf $(DOCDIR)/examples/vxsnd.service.d/tc.conf
	@for c in vxsnd.conf vxrd.conf; do \
		[ -e $(DESTDIR)$(SYSCONF)/$$c ] || install -D -m 0644 -v etc/$$c $(DESTDIR)$(SYSCONF)/$$c || exit 1; done
	@[ "$(DESTDIR)" ] || printf '%s\n' 'next, as root: systemd-sysusers $(LIBDIR)/sysusers.d/vxsnd.conf $(LIBDIR)/sysusers.d/vxrd.conf' \
		'               systemctl daemon-reload' \
		'               systemctl enable --now vxsnd, or vxrd on a VTEP (or restart, if it runs)'

clean: ## remove what was built
	rm -rf bin

go:
	@command -v "$(GO)" >/dev/null || { echo 'no Go toolchain found: install Go 1.26 or newer, or say make GO=/path/to/go' >&2; exit 1; }

# $(call apt,PACKAGES) installs Debian packages, as root.
apt = { [ "$(ROOT)" ] && command -v apt-get >/dev/null && \
	{ apt-get install -y $(1) || { apt-get update && apt-get install -y $(1); }; }; }

# The race detector needs a C compiler.
cgo: go
	@command -v gcc >/dev/null || $(call apt,gcc libc6-dev) || \
		{ echo 'the race detector needs a C compiler: apt-get install gcc libc6-dev' >&2; exit 1; }

# systemd runs the unit in a kernel of its own, user-mode Linux, and so does the
# test of VRF devices where the kernel has none.
uml:
	@[ ! "$(ROOT)" ] || { [ -x /usr/bin/linux.uml ] && command -v systemd-analyze >/dev/null; } || \
		$(call apt,user-mode-linux systemd) || \
		echo 'no user-mode-linux or no systemd: VXSND_MAY_SKIP=systemd leaves their tests out' >&2

# The objects of the kernel program are committed. A test compares them with what
# the compiler of Debian 12 makes of the source.
clang:
	@command -v clang >/dev/null && command -v llvm-strip >/dev/null && [ -e /usr/include/bpf/bpf_helpers.h ] || \
		$(call apt,clang llvm libbpf-dev libc6-dev) || \
		echo 'no clang, llvm or libbpf-dev: VXSND_MAY_SKIP=clang leaves the test of the objects out' >&2

# A routing daemon announces the service nodes of a lab.
bird:
	@[ ! "$(ROOT)" ] || [ -x /usr/sbin/bird ] || command -v bird >/dev/null || $(call apt,bird2) || \
		echo 'no BIRD: VXSND_MAY_SKIP=bird leaves its tests out' >&2

# Another program than ours has to read what is captured.
tcpdump:
	@[ ! "$(ROOT)" ] || command -v tcpdump >/dev/null || $(call apt,tcpdump) || \
		echo 'no tcpdump: VXSND_MAY_SKIP=tcpdump leaves its test out' >&2

# The alert rules are checked by the program that Prometheus has for it. Debian
# has it in one package with the server, which nobody wants to run here.
promtool:
	@command -v promtool >/dev/null || [ -x bin/promtool ] || { command -v apt-get >/dev/null && \
		d=$$(mktemp -d) && trap 'rm -rf "$$d"' EXIT && cd "$$d" && \
		{ apt-get download prometheus || { [ "$(ROOT)" ] && apt-get update && apt-get download prometheus; }; } && \
		dpkg-deb -x prometheus_*.deb . && cd "$(CURDIR)" && install -D "$$d/usr/bin/promtool" bin/promtool && $(OWN); } || \
		echo 'no promtool: VXSND_MAY_SKIP=promtool leaves its tests out' >&2
