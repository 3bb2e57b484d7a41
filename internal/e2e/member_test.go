// SPDX-License-Identifier: Apache-2.0

package e2e

// Members: who is one, by what, and for how long.
//
//	node 192.0.2.254
//	      │
//	── switch ────────
//	  │       │       │
//	  1       2       3      192.0.2.N; 3 registers, also for others

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/netlab"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// memberVNI is where the members of these tests are.
const memberVNI vxlan.VNI = 77

// wantMember floods one packet and fails the test unless m gets exactly one
// copy, or none where it is not a member.
func wantMember(t *testing.T, n *node, from, m *machine, vni vxlan.VNI, member bool) {
	t.Helper()
	n.settled()
	m.forget()
	in := frame(netlab.Broadcast, int(markers.Load()), 64)
	from.flood(n, vni, in)
	from.flush(n, m)
	if !member {
		wantNone(t, m)
		return
	}
	wantCopies(t, m, sent{src: from.packet(n, vni, in).Src, ttl: 64, vni: vni, inner: in})
}

func TestRegisteredMembers(t *testing.T) { overEngines(t, testRegisteredMembers) }

func testRegisteredMembers(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", markerConfig(vs...))
	a := vs[2].agent(n)
	for i, version := range []vxfld.Version{vxfld.V1, vxfld.V2, vxfld.V3} {
		t.Run(fmt.Sprintf("version %d", version), func(t *testing.T) {
			vni := memberVNI + vxlan.VNI(i)
			r := &vxfld.Refresh{
				Originator: true, Holdtime: 90,
				VNIs: []vxfld.VNIMembers{{VNI: vni, Addrs: []netip.Addr{vs[1].addr, vs[2].addr}}},
			}
			if version == vxfld.V3 {
				r.VNIs = append(r.VNIs, vxfld.VNIMembers{VNI: vni + 100, Addrs: []netip.Addr{vs[1].addr}})
			}
			a.send(version, r)
			if version == vxfld.V1 {
				a.receive() // version 1 is answered unasked
			}
			a.ask()
			wantMember(t, n, vs[0], vs[1], vni, true)
			wantMember(t, n, vs[0], vs[2], vni, true)
			wantMember(t, n, vs[0], vs[1], vni+100, version == vxfld.V3)

			r.Holdtime = 0
			a.send(version, r)
			if version == vxfld.V1 {
				if _, r := a.receive(); len(r.VNIs) != 0 {
					t.Errorf("got %v, want no members after the withdrawal", r.VNIs)
				}
			}
			a.ask()
			wantMember(t, n, vs[0], vs[1], vni, false)
			wantMember(t, n, vs[0], vs[2], vni, false)
		})
	}
}

// One VTEP with several entries gets one copy, and each entry is withdrawn on
// its own.
func TestSeveralEntriesOneCopy(t *testing.T) { overEngines(t, testSeveralEntriesOneCopy) }

func testSeveralEntriesOneCopy(t *testing.T, e engine) {
	tests := []struct {
		name string
		// steps are what is done; after each the member gets one copy or none.
		steps  []func(n *node, v *machine, a *agent)
		member []bool
	}{
		{
			name: "learned and registered",
			steps: []func(*node, *machine, *agent){
				func(n *node, v *machine, a *agent) {
					v.flood(n, memberVNI, frame(netlab.Broadcast, 0, 64))
					v.flush(n, a.machine)
				},
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 90, 5, v.addr) },
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 90, 0, v.addr) },
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 0, 5, v.addr) },
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 0, 0, v.addr) },
			},
			member: []bool{true, true, true, true, true}, // the learned entry stays
		},
		{
			name: "two identifiers",
			steps: []func(*node, *machine, *agent){
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 90, 5, v.addr) },
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 90, 6, v.addr) },
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 0, 5, v.addr) },
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 0, 7, v.addr) }, // nobody's
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 0, 6, v.addr) },
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 65535, 6, v.addr) },
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 0, 6, v.addr) },
			},
			member: []bool{true, true, true, true, false, true, false},
		},
		{
			name: "same address twice in a message",
			steps: []func(*node, *machine, *agent){
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 90, 0, v.addr, v.addr) },
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 0, 0, v.addr) },
			},
			member: []bool{true, false},
		},
		{
			name: "an identifier moves to another address",
			steps: []func(*node, *machine, *agent){
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 90, 9, v.addr) },
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 90, 9, a.addr) },
				func(n *node, v *machine, a *agent) { a.register(memberVNI, 90, 9, a.addr, v.addr) }, // the last counts
			},
			member: []bool{true, false, true},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			l := e.lab(t, 0)
			vs := l.vteps(3)
			n := l.node(markerConfig(vs...))
			a := vs[2].agent(n)
			for i, step := range tt.steps {
				step(n, vs[1], a)
				wantMember(t, n, vs[0], vs[1], memberVNI, tt.member[i])
				if t.Failed() {
					t.Fatalf("at step %d", i)
				}
			}
		})
	}
}

// A static member stays whatever registrations and data say of it.
func TestStaticMemberStays(t *testing.T) { overEngines(t, testStaticMemberStays) }

func testStaticMemberStays(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("holdtime = 1", markerConfig(vs...), memberConfig([]vxlan.VNI{memberVNI}, vs[1]))
	a := vs[2].agent(n)
	wantMember(t, n, vs[0], vs[1], memberVNI, true)

	vs[1].flood(n, memberVNI, frame(netlab.Broadcast, 0, 64)) // would be learned for 1 s
	vs[1].flush(n, vs[0])
	a.register(memberVNI, 1, 0, vs[1].addr)
	_, after := a.register(memberVNI, 1, 5, vs[1].addr)
	wantMember(t, n, vs[0], vs[1], memberVNI, true)

	// Once another member with the same holdtime is gone, time is up for it too.
	registered, last := a.register(memberVNI, 1, 6, a.addr)
	wantExpiry(t, n, vs[0], vs[2], memberVNI, registered.Add(time.Second), last.Add(time.Second))
	if !time.Now().After(after.Add(time.Second)) {
		t.Fatal("the holdtime has not passed")
	}
	wantMember(t, n, vs[0], vs[1], memberVNI, true)

	a.register(memberVNI, 0, 5, vs[1].addr)
	a.register(memberVNI, 0, 0, vs[1].addr)
	wantMember(t, n, vs[0], vs[1], memberVNI, true)
}

// A member ends when its holdtime does: not when somebody sweeps.
func TestExpiryIsExact(t *testing.T) { overEngines(t, testExpiryIsExact) }

func testExpiryIsExact(t *testing.T, e engine) {
	t.Run("registered", func(t *testing.T) {
		t.Parallel()
		l := e.lab(t, 0)
		vs := l.vteps(2)
		n := l.node("learning = off", markerConfig(vs...))
		a := vs[1].agent(n)
		first, last := a.register(memberVNI, 1, 5)
		wantExpiry(t, n, vs[0], vs[1], memberVNI, first.Add(time.Second), last.Add(time.Second))
	})
	t.Run("registered again", func(t *testing.T) {
		t.Parallel()
		l := e.lab(t, 0)
		vs := l.vteps(2)
		n := l.node("learning = off", markerConfig(vs...))
		a := vs[1].agent(n)
		a.register(memberVNI, 1, 5)
		first, last := a.register(memberVNI, 2, 5)
		wantExpiry(t, n, vs[0], vs[1], memberVNI, first.Add(2*time.Second), last.Add(2*time.Second))
	})
	t.Run("static, then shorter", func(t *testing.T) {
		t.Parallel()
		l := e.lab(t, 0)
		vs := l.vteps(2)
		n := l.node("learning = off", markerConfig(vs...))
		a := vs[1].agent(n)
		a.register(memberVNI, 65535, 5)
		first, last := a.register(memberVNI, 1, 5)
		wantExpiry(t, n, vs[0], vs[1], memberVNI, first.Add(time.Second), last.Add(time.Second))
	})
	t.Run("capped", func(t *testing.T) {
		t.Parallel()
		l := e.lab(t, 0)
		vs := l.vteps(2)
		n := l.node("learning = off", "max_holdtime = 1", markerConfig(vs...))
		a := vs[1].agent(n)
		first, last := a.register(memberVNI, 100000, 5)
		wantExpiry(t, n, vs[0], vs[1], memberVNI, first.Add(time.Second), last.Add(time.Second))
	})
	t.Run("learned", func(t *testing.T) {
		t.Parallel()
		l := e.lab(t, 0)
		vs := l.vteps(2)
		n := l.node("holdtime = 1", markerConfig(vs...), memberConfig([]vxlan.VNI{memberVNI}, vs[0]))
		vs[1].flood(n, memberVNI, frame(netlab.Broadcast, 0, 64))
		vs[1].flush(n, vs[0])
		// Data refreshes it: it lives on for longer than one holdtime.
		started := time.Now()
		var first time.Time
		last, stalled := started, false
		check(t, netlab.Wait(within(t), "refreshes", func() bool {
			before := last
			first = time.Now()
			vs[1].flood(n, memberVNI, frame(netlab.Broadcast, 0, 64))
			vs[1].flush(n, vs[0])
			last = time.Now()
			stalled = stalled || last.Sub(before) >= time.Second
			return last.Sub(started) > 1500*time.Millisecond
		}))
		wantExpiry(t, n, vs[0], vs[1], memberVNI, first.Add(time.Second), last.Add(time.Second))
		// It lived on and was not learned anew, unless the machine kept the VTEP
		// silent for as long as it lives.
		if got := n.stop().get("learned"); got != 1 && !stalled {
			t.Errorf("got %d members learned, want 1", got)
		}
	})
	t.Run("learned for ever", func(t *testing.T) {
		t.Parallel()
		l := e.lab(t, 0)
		vs := l.vteps(3)
		n := l.node("holdtime = 65535", markerConfig(vs...))
		vs[1].flood(n, memberVNI, frame(netlab.Broadcast, 0, 64))
		vs[1].flush(n, vs[0])
		first, last := vs[2].agent(n).register(memberVNI, 1, 5)
		wantExpiry(t, n, vs[0], vs[2], memberVNI, first.Add(time.Second), last.Add(time.Second))
		wantMember(t, n, vs[0], vs[1], memberVNI, true)
	})
}

// Withdrawing and ageing of one member leaves the others.
func TestOthersStayWhenOneExpires(t *testing.T) { overEngines(t, testOthersStayWhenOneExpires) }

func testOthersStayWhenOneExpires(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", markerConfig(vs...))
	a := vs[2].agent(n)
	a.register(memberVNI, 90, 5)
	first, last := a.register(memberVNI, 1, 6, vs[1].addr)
	wantExpiry(t, n, vs[0], vs[1], memberVNI, first.Add(time.Second), last.Add(time.Second))
	wantMember(t, n, vs[0], vs[2], memberVNI, true)
}

func TestLearningModes(t *testing.T) { overEngines(t, testLearningModes) }

func testLearningModes(t *testing.T, e engine) {
	const known, unknown vxlan.VNI = 20, 21
	tests := []struct {
		mode              string
		inKnown, inUnkown bool
	}{
		{mode: "off"},
		{mode: "known", inKnown: true},
		{mode: "any", inKnown: true, inUnkown: true},
	}
	for _, tt := range tests {
		t.Run(tt.mode, func(t *testing.T) {
			t.Parallel()
			l := e.lab(t, 0)
			vs := l.vteps(3)
			n := l.node("learning = "+tt.mode, markerConfig(vs...), memberConfig([]vxlan.VNI{known}, vs[2]))
			for _, vni := range []vxlan.VNI{known, unknown} {
				vs[1].flood(n, vni, frame(netlab.Broadcast, 0, 64))
			}
			vs[1].flush(n, vs[0])
			wantMember(t, n, vs[0], vs[1], known, tt.inKnown)
			wantMember(t, n, vs[0], vs[1], unknown, tt.inUnkown)
			wantMember(t, n, vs[0], vs[2], known, true)
		})
	}
}

// A VNI that is known by a registration alone is known while that lives.
func TestLearningKnownFollowsRegistrations(t *testing.T) {
	overEngines(t, testLearningKnownFollowsRegistrations)
}

func testLearningKnownFollowsRegistrations(t *testing.T, e engine) {
	l := e.lab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = known", markerConfig(vs...))
	a := vs[2].agent(n)
	sends := func() {
		vs[1].flood(n, memberVNI, frame(netlab.Broadcast, 0, 64))
		vs[1].flush(n, vs[0])
	}
	sends()
	wantMember(t, n, vs[0], vs[1], memberVNI, false)
	a.register(memberVNI, 90, 5)
	sends()
	wantMember(t, n, vs[0], vs[1], memberVNI, true)
}

// Two hosts with one identifier take turns: members overwrite each other, which
// the operator is told of with both addresses.
func TestCollisionOfIdentifiersIsReported(t *testing.T) {
	t.Parallel()
	l := newLab(t, 0)
	vs := l.vteps(3)
	n := l.node("learning = off", markerConfig(vs...))
	a, b := vs[1].agent(n), vs[2].agent(n)
	for range 3 {
		a.register(memberVNI, 90, 5)
		b.register(memberVNI, 90, 5)
	}
	line := must(n.proc.WaitLine(within(t), func(line string) bool {
		f := fields(line)
		return f["level"] == "warning" && f["vni"] == memberVNI.String()
	}))(t)
	for _, m := range vs[1:] {
		if !containsWord(line, m.addr.String()) {
			t.Errorf("got %q, want it to name %s", line, m.addr)
		}
	}
}
