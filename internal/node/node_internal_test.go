// SPDX-License-Identifier: Apache-2.0

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sirupsen/logrus"
	logtest "github.com/sirupsen/logrus/hooks/test"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"vxsnd/internal/config"
	"vxsnd/internal/fdb"
	"vxsnd/internal/logging"
	"vxsnd/internal/metrics"
	"vxsnd/internal/vxlan"
)

func TestListeningAddresses(t *testing.T) {
	tests := []struct {
		name, svcnode, src string
		control, data      []string
	}{
		{"defaults", "0.0.0.0", "0.0.0.0", []string{"0.0.0.0:10001"}, []string{"0.0.0.0:4789"}},
		{"service address alone", "10.0.0.1", "0.0.0.0", []string{"0.0.0.0:10001"}, []string{"10.0.0.1:4789"}},
		{"both", "10.0.0.1", "10.0.0.2", []string{"10.0.0.1:10001", "10.0.0.2:10001"}, []string{"10.0.0.1:4789", "10.0.0.2:4789"}},
		{"the same", "10.0.0.1", "10.0.0.1", []string{"10.0.0.1:10001"}, []string{"10.0.0.1:4789"}},
		{"wildcard and own", "0.0.0.0", "10.0.0.2", []string{"0.0.0.0:10001"}, []string{"0.0.0.0:4789"}},
		{"IPv6 service address alone", "2001:db8::1", "0.0.0.0", []string{"[::]:10001"}, []string{"[2001:db8::1]:4789"}},
		{"IPv6 wildcard", "::", "0.0.0.0", []string{"[::]:10001"}, []string{"[::]:4789"}},
		{"both families", "2001:db8::1", "10.0.0.2", []string{"[2001:db8::1]:10001", "10.0.0.2:10001"}, []string{"[2001:db8::1]:4789", "10.0.0.2:4789"}},
		{"IPv4 wildcard and IPv6", "0.0.0.0", "2001:db8::1", []string{"0.0.0.0:10001", "[2001:db8::1]:10001"}, []string{"0.0.0.0:4789", "[2001:db8::1]:4789"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := config.Default()
			c.SvcnodeIP, c.SrcIP = netip.MustParseAddr(tt.svcnode), netip.MustParseAddr(tt.src)
			if got := texts(controlAddrs(&c)); !slices.Equal(got, tt.control) {
				t.Errorf("control: got %v, want %v", got, tt.control)
			}
			if got := texts(dataAddrs(&c)); !slices.Equal(got, tt.data) {
				t.Errorf("data: got %v, want %v", got, tt.data)
			}
		})
	}
}

func texts(aps []netip.AddrPort) []string {
	var out []string
	for _, ap := range aps {
		out = append(out, ap.String())
	}
	return out
}

func TestGuardExcludes(t *testing.T) {
	c := config.Default()
	c.SvcnodeIP = netip.MustParseAddr("10.0.0.1")
	c.SvcnodePeers = []config.Peer{{Addr: netip.MustParseAddr("10.0.0.2")}, {Host: "peer.example"}}
	c.Tiers.ProxyServers = []config.Peer{{Addr: netip.MustParseAddr("10.0.0.3")}, {Host: "proxy.example"}}
	table := fdb.New(tableOptions(&c))
	synctest.Test(t, func(t *testing.T) {
		log, hook := logtest.NewNullLogger()
		g := newGuard(&c, table, log)
		var answers sync.Map // host -> address
		g.lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
			if a, ok := answers.Load(host); ok {
				return []netip.Addr{netip.MustParseAddr(a.(string))}, nil
			}
			return nil, &net.DNSError{Name: host, IsNotFound: true}
		}
		check := func(want map[string]fdb.Exclusion, peers ...string) {
			t.Helper()
			for a, e := range want {
				if got := table.Excluded(netip.MustParseAddr(a)); got != e {
					t.Errorf("%s: got %v, want %v", a, got, e)
				}
				if got, want := g.isPeer(netip.MustParseAddr(a)), slices.Contains(peers, a); got != want {
					t.Errorf("%s: peer: got %v, want %v", a, got, want)
				}
			}
		}
		want := map[string]fdb.Exclusion{
			"10.0.0.1": fdb.ExcludedService, "10.0.0.2": fdb.ExcludedService, "10.0.0.3": fdb.ExcludedService,
			"10.0.0.9": fdb.NotExcluded, "10.1.0.1": fdb.NotExcluded, "10.1.0.2": fdb.NotExcluded,
		}
		check(want, "10.0.0.2")

		g.setOwn([]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.9")})
		want["10.0.0.9"] = fdb.ExcludedOwn
		check(want, "10.0.0.2")

		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- g.resolve(ctx) }()
		synctest.Wait()
		check(want, "10.0.0.2")
		if got := len(hook.Entries); got != 2 {
			t.Errorf("got %d warnings, want one per name", got)
		}

		// The names come alive, as 4-in-6 as resolvers give them.
		answers.Store("peer.example", "::ffff:10.1.0.1")
		answers.Store("proxy.example", "10.1.0.2")
		pass(resolveSoon)
		want["10.1.0.1"], want["10.1.0.2"] = fdb.ExcludedService, fdb.ExcludedService
		check(want, "10.0.0.2", "10.1.0.1")

		// What a name resolved to stays while it does not resolve, and goes
		// when it resolves to something else.
		answers.Delete("peer.example")
		pass(resolveAgain)
		check(want, "10.0.0.2", "10.1.0.1")
		answers.Store("peer.example", "10.1.0.7")
		pass(resolveAgain)
		want["10.1.0.1"], want["10.1.0.7"] = fdb.NotExcluded, fdb.ExcludedService
		check(want, "10.0.0.2", "10.1.0.7")

		cancel()
		if err := <-done; err != nil {
			t.Errorf("got %v", err)
		}
	})
}

func TestStaticMembersAreRefusedWhereTheyDoNotFit(t *testing.T) {
	c := config.Default()
	c.Limits.MaxMembers = 1
	c.VTEPMembership = []config.Membership{
		{Addr: netip.MustParseAddr("10.0.0.1"), VNIs: []vxlan.VNI{77}},
		{Addr: netip.MustParseAddr("10.0.0.2"), VNIs: []vxlan.VNI{77}},
	}
	_, err := New(c, nil)
	if want := "vtep_membership: 10.0.0.2 in VNI 77: no room, raise max_members"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	c.VTEPMembership = c.VTEPMembership[:1]
	if _, err := New(c, nil); err != nil {
		t.Errorf("got %v", err)
	}
}

func TestExplain(t *testing.T) {
	n := &Node{cfg: config.Default(), log: logging.Discard()}
	tests := []struct {
		err  error
		kind error
		hint string
	}{
		{unix.EADDRINUSE, ErrBind, "vxlan_listen_port 4789"},
		{unix.EPERM, ErrPrivilege, "CAP_NET_RAW"},
		{unix.EACCES, ErrPrivilege, "CAP_NET_RAW"},
		{unix.EADDRNOTAVAIL, ErrBind, ""},
		{unix.EMFILE, ErrBind, "ulimit -n"},
	}
	low := &Node{cfg: n.cfg}
	low.cfg.VxfldPort = 80
	if got := Hint(low.explain(unix.EACCES)); !strings.Contains(got, "CAP_NET_BIND_SERVICE") {
		t.Errorf("low port: got hint %q, want it to name CAP_NET_BIND_SERVICE", got)
	}
	for _, tt := range tests {
		err := n.explain(fmt.Errorf("listen: %w", tt.err))
		if !errors.Is(err, tt.kind) || !errors.Is(err, tt.err) || err.Error() != "listen: "+tt.err.Error() {
			t.Errorf("%v: got %v", tt.err, err)
		}
		if got := Hint(err); !strings.Contains(got, tt.hint) {
			t.Errorf("%v: got hint %q, want it to name %q", tt.err, got, tt.hint)
		}
	}
}

func TestExplainWithAHintOfItsOwn(t *testing.T) {
	n := &Node{cfg: config.Default(), log: logging.Discard()}
	if err := n.explainReload(unix.EPERM); !errors.Is(err, ErrPrivilege) || !strings.HasPrefix(Hint(err), "restart it") {
		t.Errorf("reload: got %v with hint %q, want one to restart", err, Hint(err))
	}
	if got, want := Hint(n.explainReload(unix.EADDRINUSE)), Hint(n.explain(unix.EADDRINUSE)); got != want {
		t.Errorf("reload: got hint %q for a busy port, want that of a start, %q", got, want)
	}
	n.cfg.VRF = "blue"
	if got := Hint(n.explainVRF(errors.New("vrf blue: there is no such device"))); !strings.Contains(got, "(vrf)") {
		t.Errorf("vrf: got hint %q, want one that names the option", got)
	}
	if got := Hint(n.explainVRF(unix.EMFILE)); !strings.Contains(got, "ulimit -n") {
		t.Errorf("vrf: got hint %q for too many files, want its own", got)
	}
}

func TestSummaryNamesMembersWithoutCopies(t *testing.T) {
	var out bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	c := config.Default()
	c.SvcnodeIP = netip.MustParseAddr("192.0.2.10")
	c.VTEPMembership = []config.Membership{
		{Addr: netip.MustParseAddr("192.0.2.1"), VNIs: []vxlan.VNI{5, 6}}, {Addr: c.SvcnodeIP, VNIs: []vxlan.VNI{5}},
	}
	n, err := New(c, log)
	if err != nil {
		t.Fatal(err)
	}
	n.Summary()
	for _, want := range []string{
		`msg="table: members" count=1 excluded=192.0.2.10 vni=5 vteps=192.0.2.1` + "\n",
		`msg="table: members" count=1 vni=6 vteps=192.0.2.1` + "\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got %s\nwant a line with %s", out.String(), want)
		}
	}
	if got, want := n.Status(), "3 members in 2 VNIs, floods nothing"; got != want {
		t.Errorf("got status %q, want %q", got, want)
	}
}

func TestDropsAreListedByReason(t *testing.T) {
	var c metrics.FloodCount
	c.Drops[metrics.DropTTL], c.Drops[metrics.DropOwn] = 3, 1
	if got, want := drops(&c), "own=1 ttl=3"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A node without a data plane needs no privilege, and leaves nothing behind.
func TestControlPlaneAlone(t *testing.T) {
	defer goleak.VerifyNone(t)
	c := config.Default()
	c.NoFlood = true
	c.SvcnodeIP = netip.MustParseAddr("127.0.0.1")
	c.SrcIP = c.SvcnodeIP
	c.VxfldPort = freePort(t)
	log, hook := logtest.NewNullLogger()
	log.SetLevel(logrus.DebugLevel)
	n, err := New(c, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	if err := n.Listen(ctx); err != nil {
		t.Fatal(err)
	}
	second, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Listen(ctx); !errors.Is(err, ErrBind) {
		t.Errorf("second node: got %v, want ErrBind", err)
	}
	if err := second.Close(); err != nil {
		t.Errorf("close second node: %v", err)
	}
	done := make(chan error)
	go func() { done <- n.Run(ctx) }()
	<-n.Ready()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v", err)
	}
	if err := n.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	var said []string
	for _, e := range hook.AllEntries() {
		said = append(said, e.Message)
	}
	if !slices.Contains(said, "ready") || said[len(said)-1] != "stopped" {
		t.Errorf("got log %q, want ready, and stopped at the end", said)
	}
}

// freePort returns a port that nobody had a moment ago, of UDP and of TCP.
func freePort(t *testing.T) uint16 {
	t.Helper()
	for {
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		port := c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{Port: int(port)})
		if errors.Is(err, unix.EADDRINUSE) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return port
	}
}
