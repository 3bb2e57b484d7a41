// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	logtest "github.com/sirupsen/logrus/hooks/test"

	"vxsnd/internal/config"
	"vxsnd/internal/fdb"
	"vxsnd/internal/logging"
	"vxsnd/internal/peer"
)

// A resolver answers for some names, and is silent on the others.
type resolver struct {
	mu    sync.Mutex // guards what follows
	addrs map[string]string
	asked map[string]int
	now   int // how many are being looked up
	most  int
}

func (r *resolver) know(host, addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.addrs == nil {
		r.addrs = make(map[string]string)
	}
	r.addrs[host] = addr
}

func (r *resolver) lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	r.mu.Lock()
	if r.asked == nil {
		r.asked = make(map[string]int)
	}
	r.asked[host]++
	r.now++
	r.most = max(r.most, r.now)
	a, ok := r.addrs[host]
	r.mu.Unlock()
	if !ok {
		<-ctx.Done()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now--
	if !ok {
		return nil, ctx.Err()
	}
	return []netip.Addr{netip.MustParseAddr(a)}, nil
}

// named returns a configuration whose peers have these names, port 1.
func named(hosts ...string) config.Config {
	c := config.Default()
	for _, h := range hosts {
		c.SvcnodePeers = append(c.SvcnodePeers, config.Peer{Host: h, Port: 1})
	}
	return c
}

// A name that takes long holds up no other, and is not known until it resolves.
func TestNamesAreLookedUpAtOnce(t *testing.T) {
	var hosts []string
	for i := range 2 * maxLookups {
		hosts = append(hosts, fmt.Sprintf("dead%d", i))
	}
	tests := []struct {
		name           string
		hosts          []string
		addrs          []string // of the peers, after a moment
		unresolved     int
		most           int           // looks at a time, 0 for any
		after          time.Duration // until a name that is late resolves
		late, lateAddr string
	}{
		{"all answer", []string{"sn1", "sn2"}, []string{"10.0.0.1:1", "10.0.0.2:1"}, 0, 0, 0, "sn2", "10.0.0.2:1"},
		{"one is silent", []string{"dead", "sn2"}, []string{"10.0.0.2:1"}, 1, 0, resolveTimeout + resolveSoon, "dead", "10.0.0.9:1"},
		{"one name twice", []string{"dead", "dead"}, nil, 2, 1, resolveTimeout + resolveSoon, "dead", "10.0.0.9:1"},
		{"many are silent", append(hosts, "sn1"), nil, len(hosts) + 1, maxLookups, 2*resolveTimeout + resolveSoon, "sn1", "10.0.0.1:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := named(tt.hosts...)
			table := fdb.New(tableOptions(&c))
			synctest.Test(t, func(t *testing.T) {
				g := newGuard(&c, table, logging.OrDiscard(nil))
				r := &resolver{}
				r.know("sn1", "10.0.0.1")
				r.know("sn2", "10.0.0.2")
				g.lookup = r.lookup
				defer resolving(t, g)()
				synctest.Wait()
				addrs, unresolved := g.peerAddrs()
				if tt.most < maxLookups { // else it depends on the order
					if diff := cmp.Diff(tt.addrs, texts(addrs)); diff != "" {
						t.Errorf("peers (-want +got):\n%s", diff)
					}
					if unresolved != tt.unresolved {
						t.Errorf("got %d unresolved, want %d", unresolved, tt.unresolved)
					}
				}
				if _, failed := g.names(); len(tt.hosts) == 2 && unresolved > 0 && !errors.Is(failed["dead"], errUnknown) {
					t.Errorf("got %v for the name, want that it is being looked up", failed["dead"])
				}
				if tt.most > 0 && r.most != tt.most {
					t.Errorf("got %d looks at a time, want %d", r.most, tt.most)
				}
				r.know("dead", "10.0.0.9")
				pass(tt.after)
				if names, _ := g.names(); names[netip.MustParseAddrPort(tt.lateAddr)] != tt.late {
					t.Errorf("got names %v after %v, want %s", names, tt.after, tt.late)
				}
			})
		})
	}
}

// pass lets time pass: that of the bubble of synctest which it has to be called
// in, so that it takes none.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// resolving looks names up until the function that it returns is called.
func resolving(t *testing.T, g *guard) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- g.resolve(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("got %v", err)
		}
	}
}

// Each name is looked up once a minute, and once more for another configuration.
func TestReloadLooksNamesUp(t *testing.T) {
	c := named("sn1", "dead")
	table := fdb.New(tableOptions(&c))
	synctest.Test(t, func(t *testing.T) {
		log, hook := logtest.NewNullLogger()
		g := newGuard(&c, table, log)
		r := &resolver{}
		r.know("sn1", "10.0.0.1")
		r.know("sn3", "10.0.0.3")
		g.lookup = r.lookup
		defer resolving(t, g)()
		wants := func(what string, want map[string]int) {
			t.Helper()
			synctest.Wait()
			r.mu.Lock()
			defer r.mu.Unlock()
			if diff := cmp.Diff(want, r.asked); diff != "" {
				t.Errorf("%s: looks (-want +got):\n%s", what, diff)
			}
		}
		wants("start", map[string]int{"sn1": 1, "dead": 1})
		pass(resolveTimeout + resolveSoon)
		wants("again where it failed", map[string]int{"sn1": 1, "dead": 2})
		pass(resolveAgain - resolveTimeout - resolveSoon)
		wants("again", map[string]int{"sn1": 2, "dead": 2})

		other := named("sn1", "sn3") // the look at the one that is gone ends
		g.configure(&other)
		wants("reload", map[string]int{"sn1": 3, "sn3": 1, "dead": 2})
		if addrs, unresolved := g.peerAddrs(); len(addrs) != 2 || unresolved != 0 {
			t.Errorf("got peers %v and %d unresolved, want two", addrs, unresolved)
		}
		pass(resolveAgain)
		wants("a minute later", map[string]int{"sn1": 4, "sn3": 2, "dead": 2})
		if got := len(hook.AllEntries()); got != 1 {
			t.Errorf("got %d lines, want one on the name that failed", got)
		}
	})
}

// The group runs while names are looked up, and learns of each as it comes.
func TestGroupFollowsNames(t *testing.T) {
	c := named("sn1", "late")
	c.SvcnodePeers = append(c.SvcnodePeers, config.Peer{Addr: netip.MustParseAddr("127.0.0.1"), Port: 1})
	n, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r := &resolver{}
		r.know("sn1", "127.0.0.2")
		n.guard = newGuard(&c, n.table, n.log) // with channels of the bubble
		n.guard.lookup = r.lookup
		n.group = peer.New(peer.Options{
			Table: n.table, Now: clock, Source: netip.MustParseAddr("127.0.0.1"),
			Send:     func([]byte, netip.AddrPort) error { return nil },
			Settings: n.groupSettings(&c),
		})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- n.runGroup(ctx) }()
		stop := resolving(t, n.guard)
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("got %v", err)
			}
			stop()
		}()
		for i, want := range [][]string{{"127.0.0.2:1", "127.0.0.1:1"}, {"127.0.0.2:1", "127.0.0.3:1", "127.0.0.1:1"}} {
			synctest.Wait()
			var got []netip.AddrPort
			for _, s := range n.group.States() {
				got = append(got, s.Addr)
			}
			if diff := cmp.Diff(want, texts(got)); diff != "" {
				t.Errorf("step %d: peers (-want +got):\n%s", i, diff)
			}
			r.know("late", "127.0.0.3")
			pass(resolveTimeout + resolveSoon)
		}
	})
}
