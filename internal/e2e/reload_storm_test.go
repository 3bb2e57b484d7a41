// SPDX-License-Identifier: Apache-2.0

package e2e

// Signals in a storm, and all at once: no packet is lost, nothing hangs.
//
//	node 192.0.2.254
//	      │
//	── switch ──────────
//	  │       │       │
//	  1       2       3      192.0.2.N

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxlan"
)

// Thousands of SIGHUP while packets are flooded, with another configuration
// each time: each packet is copied once, in order, and none is lost.
func TestReloadStorm(t *testing.T) {
	t.Parallel()
	const reloads, signals, burst = 12, 2000, 50
	n, vs, base := newLab(t, 0).reloading(3, []int{1, 2, 3}, "learning = off")
	// Each is a change to members and to settings of the workers.
	changes := [][]string{
		{"udp_checksum = compute", absent(reloadVNI+1, "10.9.0.1", "10.9.0.2")},
		{"oversize = drop", absent(reloadVNI+2, "10.9.0.1"), "svcnode_peers = 192.0.2.77"},
	}
	n.start(base...)

	ctx, cancel := context.WithCancel(t.Context())
	sent, done := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { cancel(); <-done })
	go func() {
		defer close(done)
		pace := time.NewTicker(500 * time.Microsecond) // more would leave no CPU to the rest
		defer pace.Stop()
		for i := 1; ctx.Err() == nil; i++ {
			if err := n.proc.Signal(syscall.SIGHUP); err != nil {
				t.Error(err)
				return
			}
			if i == signals {
				close(sent)
			}
			select {
			case <-pace.C:
			case <-ctx.Done():
			}
		}
	}()
	packets := 0
	enough := func() bool {
		select {
		case <-sent:
			return len(with(lines(n.proc.Output()), msgReloaded)) >= reloads
		case <-done:
			return true
		default:
			return false
		}
	}
	for round := 0; !enough(); round++ {
		n.configure(append(slices.Clone(base), changes[round%len(changes)]...)...)
		var fs [][]byte
		for range burst {
			fs = append(fs, frame(netlab.Broadcast, packets, 64))
			packets++
		}
		vs[0].flood(n, reloadVNI, fs...)
		// Not more under way than buffers hold: loss for want of room is not what
		// this is about.
		vs[0].flush(n, vs...)
	}
	cancel()
	<-done
	for _, v := range vs[1:] {
		got := v.got()
		if len(got) != packets {
			t.Errorf("%s: got %d packets, want %d", v.Name, len(got), packets)
		}
		for i, g := range got {
			if number(g.inner) != i {
				t.Fatalf("%s: got packet %d at position %d", v.Name, number(g.inner), i)
			}
		}
	}
	if got := with(lines(n.proc.Output()), msgChanged); len(got) < 2 {
		t.Errorf("got %d options changed by %d packets' time of reloads, want more", len(got), packets)
	}
	if got := n.status().LogLinesLost; got != 0 {
		t.Errorf("got %d log lines lost, want none", got)
	}
}

// A summary names the largest VNIs and some of their members, however many
// there are.
func TestSummaryIsBounded(t *testing.T) {
	t.Parallel()
	const vnis, largest, shown = 100, 32, 16
	l := newLab(t, 0)
	var config []string
	for i := range vnis {
		for j := range i/2 + 1 {
			config = append(config, fmt.Sprintf("vtep_membership = 10.9.0.%d %d", j+1, 1000+i))
		}
	}
	n := l.node(config...)
	ls := n.after(func() { n.signal(syscall.SIGUSR1) }, "counters")
	if total := with(ls, "table"); len(total) != 1 || total[0]["vnis"] != strconv.Itoa(vnis) || total[0]["members"] != total[0]["configuration"] {
		t.Errorf("got %q, want one line that counts %d vnis", total, vnis)
	}
	if more := with(ls, "table: more vnis"); len(more) != 1 || more[0]["count"] != strconv.Itoa(vnis-largest) {
		t.Errorf("got %q, want one line that counts the other vnis", more)
	}
	top := with(ls, "table: members")
	if len(top) != largest || len(ls) != largest+3 {
		t.Fatalf("got %d vnis in %d lines, want %d in %d; output:\n%s", len(top), len(ls), largest, largest+3, tail(n.proc.Output()))
	}
	before := vnis
	for _, l := range top {
		count := must(strconv.Atoi(l["count"]))(t)
		if count > before || count < (vnis-largest)/2 {
			t.Errorf("got a vni with %d members behind one with %d, want the largest in order", count, before)
		}
		before = count
		if got := strings.Fields(l["vteps"]); len(got) != shown+1 || got[shown] != "…" {
			t.Errorf("got members %q, want %d and the sign that there are more", got, shown)
		}
	}
}

// A stop that comes with a reload and a summary, in any order, ends the node
// with status 0, also while the reload ends or begins flooding.
func TestStopWithReloadAndSummary(t *testing.T) {
	t.Parallel()
	orders := [][]syscall.Signal{
		{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGTERM},
		{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1},
		{syscall.SIGUSR1, syscall.SIGTERM, syscall.SIGHUP},
	}
	for _, floods := range []bool{true, false} {
		t.Run(fmt.Sprintf("floods at first %t", floods), func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 0)
			vs := l.vteps(2)
			n := l.idle()
			base := []string{"workers = 2", markerConfig(vs...), memberConfig([]vxlan.VNI{reloadVNI}, vs...)}
			quiet := append(slices.Clone(base), "no_flood = true")
			for i := range 3 * len(orders) {
				n.start(base...)
				if !floods {
					n.reload(quiet...)
					n.configure(base...)
				} else {
					n.configure(quiet...)
				}
				vs[0].flood(n, reloadVNI, frame(netlab.Broadcast, i, 64))
				order := orders[i%len(orders)]
				n.ended = append(n.ended, n.proc)
				for _, s := range order {
					_ = n.proc.Signal(s) // it may have ended by now
				}
				if status := must(n.proc.Wait(within(t)))(t); status != 0 {
					t.Fatalf("%v: got status %d, want 0; output:\n%s", order, status, tail(n.proc.Output()))
				}
				if got := with(lines(n.proc.Output()), "stopped"); len(got) != 1 {
					t.Errorf("%v: got %q, want one line that says what was done", order, got)
				}
			}
		})
	}
}
