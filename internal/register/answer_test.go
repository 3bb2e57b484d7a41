// SPDX-License-Identifier: Apache-2.0

package register_test

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"vxsnd/internal/fdb"
	"vxsnd/internal/register"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// askAll is a question for the whole table.
func askAll(tb testing.TB) []byte {
	return refresh(tb, vxfld.V3, vxfld.Refresh{Response: vxfld.ResponseAll})
}

// askFor is a question for the n VNIs from first on.
func askFor(tb testing.TB, v vxfld.Version, first vxlan.VNI, n int) []byte {
	r := vxfld.Refresh{Response: vxfld.ResponseRequested}
	for i := range n {
		r.VNIs = append(r.VNIs, vxfld.VNIMembers{VNI: first + vxlan.VNI(i)})
	}
	return refresh(tb, v, r)
}

// answered returns all records of answers, and checks what is the same in all.
func answered(tb testing.TB, version vxfld.Version, to netip.AddrPort, ds []datagram) []vxfld.VNIMembers {
	tb.Helper()
	var all []vxfld.VNIMembers
	for _, d := range ds {
		v, r := parse(tb, d.b)
		if v != version || d.peer != to || d.self != service.Addr() {
			tb.Errorf("got version %d to %s from %s, want %d to %s from %s", v, d.peer, d.self, version, to, service.Addr())
		}
		all = append(all, r.VNIs...)
		r.VNIs = nil
		if diff := cmp.Diff(&vxfld.Refresh{Holdtime: 90}, r); diff != "" {
			tb.Errorf("head of the answer (-want +got):\n%s", diff)
		}
	}
	return all
}

func TestAnswerContent(t *testing.T) {
	one, six := addr("10.0.0.1"), addr("2001:db8::1")
	table := map[vxlan.VNI][]netip.Addr{
		5: {one, addr("10.0.0.2")}, 6: {six, addr("10.0.0.3")}, 7: {six}, 8: nil, 9: {addr("10.0.0.9")},
	}
	all := []vxfld.VNIMembers{{VNI: 5, Addrs: table[5]}, {VNI: 6, Addrs: table[6][1:]}, {VNI: 9, Addrs: table[9]}}
	tests := []struct {
		name     string
		version  vxfld.Version
		question vxfld.Refresh
		want     []vxfld.VNIMembers
	}{
		{"v1 registration", 1, vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: names(5, one)}, all[:1]},
		{"v2 requested", 2, vxfld.Refresh{Originator: true, Holdtime: 90, Response: 1, VNIs: names(5, one)}, all[:1]},
		{"v3 requested", 3, vxfld.Refresh{Originator: true, Holdtime: 90, Response: 1, VNIs: names(5, one)}, all[:1]},
		{"what was just registered is among it", 3,
			vxfld.Refresh{Originator: true, Holdtime: 90, Response: 1, VNIs: names(70, one)}, names(70, one)},
		{"what was just withdrawn is not", 3,
			vxfld.Refresh{Originator: true, Response: 1, VNIs: names(9, addr("10.0.0.9"))}, nil},
		{"in the order asked, each once, none without members", 3,
			vxfld.Refresh{Response: 1, VNIs: slices.Concat(names(9), names(5), names(9), names(8), names(77), names(7))},
			[]vxfld.VNIMembers{all[2], all[0]}},
		{"v2 all", 2, vxfld.Refresh{Response: 2}, all},
		{"v3 all", 3, vxfld.Refresh{Response: 2, VNIs: names(77)}, all},
		{"nothing named", 3, vxfld.Refresh{Response: 1}, nil},
		{"IPv6 members alone", 3, vxfld.Refresh{Response: 1, VNIs: names(7)}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onBench(t, nil, func(b *bench) {
				for vni, as := range table {
					b.table.members[vni] = slices.Clone(as)
				}
				b.send(vtep2, refresh(t, tt.version, tt.question))
				got := b.conn.sent()
				if len(got) != 1 {
					t.Fatalf("got %d messages, want one", len(got))
				}
				if diff := cmp.Diff(tt.want, answered(t, tt.version, vtep2, got), equateAddrs); diff != "" {
					t.Errorf("answer (-want +got):\n%s", diff)
				}
				empty := uint64(0)
				if tt.want == nil {
					empty = 1
				}
				c := b.server.Counters()
				if q, a, e := c.Questions.Load(), c.Answers.Load(), c.Empty.Load(); q != 1 || a != 1 || e != empty {
					t.Errorf("got %d questions, %d answers, %d empty, want 1, 1, %d", q, a, e, empty)
				}
			})
		})
	}
}

// A node that may lack members says so where there is a place for it.
func TestPartialAnswers(t *testing.T) {
	partial := true
	onBench(t, func(o *register.Options) { o.Partial = func() bool { return partial } }, func(b *bench) {
		b.table.members[5] = []netip.Addr{addr("10.0.0.1")}
		for _, step := range []struct {
			version        vxfld.Version
			partial, lacks bool
		}{{vxfld.V1, true, false}, {vxfld.V2, true, false}, {vxfld.V3, true, true}, {vxfld.V3, false, false}} {
			partial = step.partial
			q := vxfld.Refresh{Originator: true, Holdtime: 90, VNIs: names(5, addr("10.0.0.1"))}
			if step.version != vxfld.V1 {
				q.Response = vxfld.ResponseRequested
			}
			b.send(vtep1, refresh(t, step.version, q))
			b.pass(time.Second)
			got := b.conn.sent()
			if len(got) != 1 {
				t.Fatalf("version %d: got %d messages, want one", step.version, len(got))
			}
			if _, r := parse(t, got[0].b); r.Partial != step.lacks || len(r.VNIs) != 1 {
				t.Errorf("version %d: got %+v, want partial %v", step.version, r, step.lacks)
			}
		}
	})
}

// An answer comes from the address that was asked, unless no packet can carry
// that as its source.
func TestAnswerFromTheAddressAsked(t *testing.T) {
	tests := []struct{ name, asked, want string }{
		{"service address", "10.0.0.100", "10.0.0.100"},
		{"own address", "10.0.0.99", "10.0.0.99"},
		{"mapped", "::ffff:10.0.0.99", "10.0.0.99"},
		{"broadcast", "255.255.255.255", ""},
		{"multicast", "224.0.0.1", ""},
		{"unknown", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			onBench(t, nil, func(b *bench) {
				var asked, want netip.Addr
				if tt.asked != "" {
					asked = addr(tt.asked)
				}
				if tt.want != "" {
					want = addr(tt.want)
				}
				b.conn.in <- datagram{b: askAll(t), peer: vtep1, self: asked}
				synctest.Wait()
				if got := b.conn.sent(); len(got) != 1 || got[0].self != want || got[0].peer != vtep1 {
					t.Errorf("got %+v, want one from %s to %s", got, want, vtep1)
				}
			})
		})
	}
}

// Answers keep within max_packet_size and name no VNI twice; a VNI that is
// larger goes alone; one that no datagram holds is left out and reported.
func TestAnswerSizes(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(0, 300, 10)
		b.table.fill(500, 1, 400)
		b.table.fill(501, 1, 6000)
		b.table.fill(502, 1, 7000)
		b.table.fill(503, 2, 1)
		b.send(vtep1, askAll(t))
		b.pass(time.Second) // a large one uses up a window
		got := b.conn.sent()
		seen := map[vxlan.VNI]int{}
		for _, d := range got {
			_, r := parse(t, d.b)
			if len(d.b)+vxfld.Overhead > 1500 && len(r.VNIs) != 1 || len(d.b) > vxfld.MaxDatagram {
				t.Errorf("got a message of %d bytes with %d VNIs", len(d.b), len(r.VNIs))
			}
			for _, rec := range r.VNIs {
				seen[rec.VNI]++
			}
		}
		for vni := range b.table.members {
			want := 1
			if vni == 502 {
				want = 0
			}
			if seen[vni] != want {
				t.Errorf("got vni %d in %d messages, want %d", vni, seen[vni], want)
			}
		}
		if c := b.server.Counters(); c.TooLarge.Load() != 1 || c.Messages.Load() != uint64(len(got)) {
			t.Errorf("got %d too large, %d messages counted, want 1, %d", c.TooLarge.Load(), c.Messages.Load(), len(got))
		}
		if lines := b.lines(logrus.WarnLevel); len(lines) != 1 || lines[0].Data["vni"] != vxlan.VNI(502) {
			t.Errorf("got warnings %v, want one about vni 502", lines)
		}
	})
}

// The answer to a VNI that is too large for version 3 fits version 1.
func TestAnswerLargeVNIByVersion(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(7, 1, 16000)
		b.send(vtep1, askFor(t, vxfld.V3, 7, 1))
		if got := b.conn.sent(); len(got) != 1 || len(answered(t, 3, vtep1, got)) != 0 {
			t.Errorf("got %d messages, want an empty one", len(got))
		}
		b.send(vtep1, askFor(t, vxfld.V2, 7, 1))
		got := answered(t, 2, vtep1, b.conn.sent())
		if len(got) != 1 || len(got[0].Addrs) != 16000 {
			t.Errorf("got %d records, want one of 16000", len(got))
		}
	})
}

// Questions that come while an answer is in progress join it: each VNI that
// was asked for is answered for, and the whole table only once.
func TestQuestionsMerge(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(0, 300, 90)
		b.send(vtep1, askFor(t, vxfld.V3, 0, 100))
		b.send(vtep1, askFor(t, vxfld.V3, 100, 100))
		b.send(vtep1, askFor(t, vxfld.V3, 100, 100))
		b.send(vtep1, askAll(t))
		b.send(vtep1, askAll(t))
		b.send(vtep1, askFor(t, vxfld.V3, 0, 1)) // answered for already
		c := b.server.Counters()
		if q, m := c.Questions.Load(), c.Merged.Load(); q != 6 || m != 5 {
			t.Errorf("got %d questions, %d merged, want 6, 5", q, m)
		}
		b.pass(5 * time.Second)
		seen := map[vxlan.VNI]int{}
		for _, rec := range answered(t, 3, vtep1, b.conn.sent()) {
			seen[rec.VNI]++
		}
		for vni := range vxlan.VNI(300) {
			want := 1
			if vni < 200 {
				want = 2
			}
			if vni == 0 {
				want = 3
			}
			if seen[vni] != want {
				t.Errorf("got vni %d %d times, want %d", vni, seen[vni], want)
			}
		}
	})
}

// An asker that asks in two versions is answered in both.
func TestQuestionsOfTwoVersions(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(0, 100, 90)
		b.send(vtep1, askFor(t, vxfld.V3, 0, 100))
		b.send(vtep1, askFor(t, vxfld.V2, 0, 100))
		b.pass(5 * time.Second)
		seen := map[vxfld.Version]int{}
		for _, d := range b.conn.sent() {
			v, r := parse(t, d.b)
			seen[v] += len(r.VNIs)
		}
		if seen[2] != 100 || seen[3] != 100 || len(seen) != 2 {
			t.Errorf("got VNIs by version %v, want 100 in 2 and in 3", seen)
		}
	})
}

// An asker that cannot be reached any more is given up, and the others are
// answered.
func TestAskerVanishes(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(0, 300, 90)
		b.conn.fail = func(to netip.AddrPort) error {
			if to == vtep1 {
				return errGone
			}
			return nil
		}
		b.send(vtep1, askAll(t))
		b.send(vtep2, askFor(t, vxfld.V3, 0, 1))
		if got := b.conn.sent(); len(got) != 1 || got[0].peer != vtep2 {
			t.Errorf("got %d messages, want one to the asker that is there", len(got))
		}
		b.pass(5 * time.Second)
		c := b.server.Counters()
		if w, a, n := c.WriteErrors.Load(), c.Abandoned.Load(), c.Answers.Load(); w == 0 || w > 32 || a != 1 || n != 1 {
			t.Errorf("got %d write errors, %d abandoned, %d answers, want one burst, 1, 1", w, a, n)
		}
		if n := len(b.lines(logrus.WarnLevel)); n != 1 {
			t.Errorf("got %d warnings, want 1", n)
		}
		// It is back.
		b.conn.fail = nil
		b.send(vtep1, askFor(t, vxfld.V3, 0, 1))
		if got := b.conn.sent(); len(got) != 1 {
			t.Errorf("got %d messages when it was back, want 1", len(got))
		}
	})
}

// New settings hold from the next burst on.
func TestConfigure(t *testing.T) {
	onBench(t, nil, func(b *bench) {
		b.table.fill(0, 300, 90)
		b.send(vtep1, askAll(t))
		b.conn.sent()
		b.server.Configure(register.Settings{Holdtime: fdb.Static, MaxPacketSize: 9000, Pause: time.Minute})
		b.pass(100 * time.Millisecond)
		got := b.conn.sent()
		if len(got) == 0 || len(got[0].b) < 4000 {
			t.Fatalf("got %d messages, want large ones", len(got))
		}
		if _, r := parse(t, got[0].b); r.Holdtime != vxfld.HoldtimeStatic {
			t.Errorf("got holdtime %d, want %d", r.Holdtime, vxfld.HoldtimeStatic)
		}
		// Who was a peer is none now.
		b.send(peer, refresh(t, 3, vxfld.Refresh{Holdtime: 90, VNIs: names(7, addr("10.0.0.1"))}))
		if got := b.verdicts()[register.VerdictNotPeer]; got != 1 {
			t.Errorf("got %d refused, want 1", got)
		}
	})
}
