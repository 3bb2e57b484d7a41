// SPDX-License-Identifier: Apache-2.0

package peer_test

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/peer"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// anyPort is a port of the kernel's choice on the loopback address.
var anyPort = netip.AddrPortFrom(loopback, 0)

// A node is a Group with its table and clock.
type node struct {
	*peer.Group
	table *fdb.Table
	now   func() fdb.Time
	mail  mailbox
	stop  func()
}

// start runs a node with these peers, which learns for this long, and waits
// until it has tried for a dump.
func start(tb testing.TB, holdtime time.Duration, peers ...netip.AddrPort) *node {
	tb.Helper()
	n := &node{table: table(holdtime), now: clock(), mail: make(mailbox, 1<<16)}
	o := options(n.table, n.now, peers...)
	o.Holdtime = holdtime
	o.Send = n.mail.send
	n.Group = peer.New(o)
	n.stop = run(tb, n.Group)
	<-n.Synced()
	return n
}

// learn has the node see data packets of VTEPs.
func (n *node) learn(ms ...member) {
	ls := make([]fdb.Learned, len(ms))
	for i, m := range ms {
		ls[i] = fdb.Learned{VNI: m.vni, Addr: m.addr}
	}
	n.table.Learn(n.now(), ls)
}

// apply has a source say something of VTEPs.
func (n *node) apply(src fdb.Source, holdtime time.Duration, ms ...member) {
	us := make([]fdb.Update, len(ms))
	for i, m := range ms {
		us[i] = fdb.Update{VNI: m.vni, Addr: m.addr, Source: src, Holdtime: holdtime}
	}
	n.table.Apply(n.now(), us)
}

func TestUpdateTellsOfLearnedMembers(t *testing.T) {
	d, other := listen(t, anyPort), listen(t, anyPort)
	n := start(t, 90*time.Second, d.addr, other.addr)
	a, b := member{92, vtep(1)}, member{93, vtep(2)}
	n.learn(a, b)
	for _, d := range []*deployed{d, other} {
		got := d.until(t, a, b)
		for _, m := range []member{a, b} {
			if got[m] < 80 || got[m] > 90 {
				t.Errorf("got %d s for %v, want what is left of 90", got[m], m)
			}
		}
		if len(got) != 2 {
			t.Errorf("got %v told, want two members", got)
		}
	}
	eventually(t, "it is counted", func() bool {
		s := state(n.Group)
		return s.Updates >= 2 && s.UpdateConnections >= 1 && s.Reachable && s.Err == nil && s.Waiting == 0
	})
}

// The bytes are those that a deployed node sends, and besides whose a configured
// member is.
func TestUpdateOfAStaticMember(t *testing.T) {
	remove := vector(t, "sync_data_static_del")
	for _, tt := range []struct {
		name   string
		source fdb.Source
		add    []byte
	}{
		{"operator", fdb.Operator, vector(t, "sync_data_static_add")},
		{"configuration", fdb.Configuration, sync3(t, vxfld.Sync{VNIs: []vxfld.VNIEntries{record(77, owned(netip.MustParseAddr("10.0.0.1"), mine))}})},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := listen(t, anyPort)
			n := start(t, 90*time.Second, d.addr)
			m := member{77, netip.MustParseAddr("10.0.0.1")}
			n.apply(tt.source, fdb.Static, m)
			if got := d.next(t); !bytes.Equal(got, tt.add) {
				t.Errorf("added: got %x, want %x", got, tt.add)
			}
			n.apply(tt.source, 0, m)
			got := d.next(t)
			for bytes.Equal(got, tt.add) {
				got = d.next(t) // it was added before the peer was told of everything
			}
			if !bytes.Equal(got, remove) {
				t.Errorf("removed: got %x, want %x", got, remove)
			}
			// Deployed nodes keep what SYNC withdraws until their next sweep.
			r, to := n.mail.refresh(t)
			if to.to != d.addr || r.Holdtime != 0 || r.Identifier != 0 || len(r.VNIs) != 1 ||
				r.VNIs[0].VNI != m.vni || len(r.VNIs[0].Addrs) != 1 || r.VNIs[0].Addrs[0] != m.addr {
				t.Errorf("got %+v to %s, want the withdrawal", r, to.to)
			}
		})
	}
}

// A node of ours lets go of what SYNC withdraws at once. A REFRESH besides could
// come after somebody else's word on the member, and undo that.
func TestUpdateWithdrawsOverTCPAloneFromOurs(t *testing.T) {
	other := serving(t, 1)
	run(t, other.Group)
	n := start(t, 90*time.Second, other.Local())
	eventually(t, "the peer is known as ours", func() bool { return state(n.Group).Ours })
	a, b := member{10, vtep(1)}, member{10, vtep(2)}
	n.apply(fdb.Operator, fdb.Static, a)
	eventually(t, "the peer knows it", func() bool { _, ok := other.holds(a); return ok })
	n.apply(fdb.Operator, 0, a)
	eventually(t, "it is withdrawn", func() bool { _, ok := other.holds(a); return !ok })
	n.apply(fdb.Operator, fdb.Static, b)
	eventually(t, "the next is known", func() bool { _, ok := other.holds(b); return ok })
	if s := state(n.Group); s.Relayed != 0 || s.Queue != 0 {
		t.Errorf("got %d UDP messages sent and %d waiting, want none", s.Relayed, s.Queue)
	}
}

// What is told is what is true at that moment, of all that this node knows of
// identifier 0 by itself.
func TestUpdateTellsWhatTheTableHolds(t *testing.T) {
	const week = 7 * 24 * time.Hour
	x, last := member{10, vtep(1)}, member{10, vtep(2)}
	for _, tt := range []struct {
		name string
		do   func(n *node)
		want uint32 // seconds, and a few less where it ages
		told bool
	}{
		{"learned", func(n *node) { n.learn(x) }, 90, true},
		{"static and learned", func(n *node) { n.learn(x); n.apply(fdb.Operator, fdb.Static, x) }, 65535, true},
		{"removed, and learned", func(n *node) {
			n.learn(x)
			n.apply(fdb.Operator, fdb.Static, x)
			n.apply(fdb.Operator, 0, x)
		}, 90, true},
		{"removed by hand, and configured", func(n *node) {
			n.apply(fdb.Configuration, fdb.Static, x)
			n.apply(fdb.Operator, fdb.Static, x)
			n.apply(fdb.Operator, 0, x)
		}, 65535, true},
		{"removed, and registered", func(n *node) {
			n.apply(fdb.Registration, 60*time.Second, x)
			n.apply(fdb.Operator, fdb.Static, x)
			n.apply(fdb.Operator, 0, x)
		}, 60, true},
		{"removed and back", func(n *node) {
			n.apply(fdb.Operator, fdb.Static, x)
			n.apply(fdb.Operator, 0, x)
			n.apply(fdb.Operator, fdb.Static, x)
		}, 65535, true},
		{"gone", func(n *node) {
			n.apply(fdb.Operator, fdb.Static, x)
			n.apply(fdb.Operator, 0, x)
		}, 0, true},
		{"for a week", func(n *node) { n.apply(fdb.Operator, week, x) }, 65534, true},
		{"registered", func(n *node) { n.apply(fdb.Registration, 60*time.Second, x) }, 0, false},
		{"from a peer", func(n *node) { n.apply(fdb.Peer, 60*time.Second, x) }, 0, false},
		{"withdrawn by a peer", func(n *node) {
			n.apply(fdb.Peer, 60*time.Second, x)
			n.apply(fdb.Peer, 0, x)
		}, 0, false},
		{"learned, and static by a peer", func(n *node) { n.apply(fdb.Peer, fdb.Static, x); n.learn(x) }, 0, false},
		{"static here and by a peer", func(n *node) {
			n.apply(fdb.Peer, fdb.Static, x)
			n.apply(fdb.Operator, fdb.Static, x)
		}, 65535, true},
		{"denied", func(n *node) {
			n.table.Exclude(map[netip.Addr]fdb.Exclusion{x.addr: fdb.ExcludedDenied})
			n.apply(fdb.Operator, fdb.Static, x)
		}, 0, false},
		{"IPv6", func(n *node) {
			n.apply(fdb.Operator, fdb.Static, member{10, netip.MustParseAddr("fd00::1")})
		}, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := listen(t, anyPort)
			n := start(t, 90*time.Second, d.addr)
			tt.do(n)
			n.apply(fdb.Operator, fdb.Static, last)
			if tt.told {
				// On the way there it may be told what was true for a while.
				d.when(t, x, func(s uint32) bool { return s == tt.want || tt.want < 65534 && s < tt.want && s+10 > tt.want })
				return
			}
			if all := d.until(t, last); len(all) != 1 {
				t.Errorf("got %v told, want the other member alone", all)
			}
		})
	}
}

func TestUpdateCoalesces(t *testing.T) {
	const members = 1000
	d := listen(t, anyPort)
	n := start(t, 90*time.Second, d.addr)
	var ms []member
	begin := time.Now()
	for i := range members {
		m := member{vxlan.VNI(i % 100), vtep(i)}
		n.learn(m)
		ms = append(ms, m)
	}
	if got := d.until(t, ms...); len(got) != members {
		t.Errorf("got %d members told, want %d", len(got), members)
	}
	eventually(t, "it is counted", func() bool { return state(n.Group).Updates >= members })
	// One more for each time that the machine was too slow to learn all at once.
	if got, most := state(n.Group).UpdateConnections, uint64(5+time.Since(begin)/(20*time.Millisecond)); got > most {
		t.Errorf("got %d connections, want %d at most", got, most)
	}
}

// At the start a node tells its peers of what the configuration holds, and a
// new peer later is told all there is, in messages of bounded size.
func TestUpdateTellsANewPeerEverything(t *testing.T) {
	const members = 25_000
	tab, now := table(90*time.Second), clock()
	var us []fdb.Update
	var ms []member
	for i := range members {
		m := member{vxlan.VNI(i % 2), vtep(i)}
		ms = append(ms, m)
		us = append(us, fdb.Update{VNI: m.vni, Addr: m.addr, Source: fdb.Configuration, Holdtime: fdb.Static})
		us = append(us, fdb.Update{VNI: 3, Addr: m.addr, Identifier: uint64(i + 1), Source: fdb.Registration, Holdtime: time.Minute})
	}
	tab.Apply(now(), us)
	d := listen(t, anyPort)
	g := peer.New(options(tab, now, d.addr))
	run(t, g)
	if got := d.until(t, ms...); len(got) != members {
		t.Errorf("got %d members told, want %d", len(got), members)
	}
	other := listen(t, anyPort)
	g.Configure(options(nil, nil, other.addr, d.addr).Settings)
	all := make(map[member]uint32)
	for len(all) < members {
		got := other.told(t)
		if len(got) > 10_000 {
			t.Errorf("got %d members in a message, want at most 10000", len(got))
		}
		for m, s := range got {
			all[m] = s
		}
	}
	eventually(t, "it is counted", func() bool { return state(g).Updates >= members })
}

// Deployed nodes let a learned member expire, though it lives on here.
func TestUpdateRepeatsWhatLivesOn(t *testing.T) {
	const rounds = 6
	d := listen(t, anyPort)
	n := start(t, 1500*time.Millisecond, d.addr)
	alive, silent := member{10, vtep(1)}, member{10, vtep(2)}
	n.learn(alive, silent)
	times := make(map[member]int)
	for times[alive] < rounds {
		for m, s := range d.told(t) {
			times[m]++
			if s != 1 {
				t.Errorf("got %d s for %v, want what is left of 1.5 s", s, m)
			}
		}
		// The VTEP sends a packet between any two updates.
		n.learn(alive)
	}
	if times[silent] == 0 || times[silent] >= rounds {
		t.Errorf("got the silent member told %d times, want it left to expire", times[silent])
	}
}

// Identifier 0 has one entry at the peers for all that is said of it, so a
// registration without identifier makes a static member age there.
func TestUpdateRepeatsStaticMembers(t *testing.T) {
	d := listen(t, anyPort)
	n := start(t, 1500*time.Millisecond, d.addr)
	x := member{10, vtep(1)}
	n.apply(fdb.Operator, fdb.Static, x)
	for range 4 {
		if got := d.told(t); got[x] != vxfld.HoldtimeStatic || len(got) != 1 {
			t.Errorf("got %v, want x told again", got)
		}
	}
}

// The peers have removed their one entry of identifier 0, though this node
// still vouches for the member.
func TestUpdateRepeatsWhatAPeerWithdrew(t *testing.T) {
	d := listen(t, anyPort)
	n := start(t, 90*time.Second, d.addr)
	x := member{10, vtep(1)}
	n.apply(fdb.Peer, fdb.Static, x)
	n.apply(fdb.Operator, fdb.Static, x)
	d.until(t, x)
	n.apply(fdb.Peer, 0, x)
	d.when(t, x, static)
}

// The feed has lost the change, since the set of excluded addresses changed at
// the same time.
func TestUpdateWithdrawsWhatTheFeedLost(t *testing.T) {
	d := listen(t, anyPort)
	n := start(t, 90*time.Second, d.addr)
	x, y := member{10, vtep(1)}, member{11, vtep(2)}
	n.apply(fdb.Operator, fdb.Static, x, y)
	d.until(t, x, y)
	for i := range 20 {
		n.table.Exclude(map[netip.Addr]fdb.Exclusion{vtep(100 + i): fdb.ExcludedDenied})
		n.apply(fdb.Operator, 0, x)
		d.when(t, x, withdrawn)
		n.apply(fdb.Operator, fdb.Static, x)
		d.when(t, x, static)
	}
}

func TestUpdateWaitsForAPeerThatIsAway(t *testing.T) {
	d, gone := listen(t, anyPort), listen(t, anyPort)
	gone.stop()
	n := start(t, 90*time.Second, gone.addr, d.addr)
	a, b, c := member{10, vtep(1)}, member{11, vtep(2)}, member{12, vtep(3)}
	n.apply(fdb.Operator, fdb.Static, a, b)
	d.until(t, a, b)
	eventually(t, "an attempt fails", func() bool {
		s := state(n.Group)
		return s.UpdateErrors > 0 && !s.Reachable && s.Err != nil && (s.Waiting > 0 || s.All)
	})
	n.apply(fdb.Operator, 0, b)
	n.learn(c)
	d.when(t, b, withdrawn)
	eventually(t, "a later attempt fails", func() bool { return state(n.Group).UpdateErrors > 1 })
	back := listen(t, gone.addr)
	if got := back.until(t, a, b, c); got[a] != vxfld.HoldtimeStatic || got[b] != 0 || got[c] == 0 {
		t.Errorf("got %v, want all three as they are now", got)
	}
	eventually(t, "nothing waits", func() bool { s := state(n.Group); return s.Reachable && s.Waiting == 0 })
}
