// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"net/netip"
	"testing"
	"time"

	"vxsnd/internal/fdb"
	"vxsnd/internal/vxfld"
	"vxsnd/internal/vxlan"
)

// many returns a set of members with numbers from first on.
func many(first, n int) map[member]struct{} {
	ms := make(map[member]struct{}, n)
	for i := first; i < first+n; i++ {
		ms[member{vxlan.VNI(i), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}] = struct{}{}
	}
	return ms
}

func TestBacklogIsBounded(t *testing.T) {
	type want struct {
		changed, withdrawn, lost int
		all                      bool
	}
	for _, tt := range []struct {
		name string
		adds []batch
		want want
	}{
		{"few", []batch{{changed: many(0, 10)}, {changed: many(5, 10)}}, want{changed: 15}},
		{"as many as there is room for", []batch{{changed: many(0, maxBacklog)}, {changed: many(0, 10)}}, want{changed: maxBacklog}},
		{"one too many", []batch{{changed: many(0, maxBacklog)}, {changed: many(maxBacklog, 1)}}, want{all: true}},
		{"more after all", []batch{{all: true}, {changed: many(0, 10)}}, want{all: true}},
		{"all after some", []batch{{changed: many(0, 10)}, {all: true}}, want{all: true}},
		{"withdrawals stay", []batch{{changed: many(0, 10), withdrawn: many(0, 10)}, {all: true}}, want{withdrawn: 10, all: true}},
		{"too many withdrawals", []batch{{withdrawn: many(0, maxBacklog)}, {withdrawn: many(maxBacklog-5, 12)}},
			want{withdrawn: maxBacklog, lost: 7}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBacklog()
			lost := 0
			for i := range tt.adds {
				lost += b.add(&tt.adds[i])
			}
			if n, all := b.size(); n != tt.want.changed+tt.want.withdrawn || all != tt.want.all {
				t.Errorf("got size %d, all %v, want %+v", n, all, tt.want)
			}
			o := b.take()
			got := want{changed: len(o.changed), withdrawn: len(o.withdrawn), lost: lost, all: o.all}
			if got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
			if n, all := b.size(); n != 0 || all {
				t.Errorf("got size %d, all %v after take, want nothing", n, all)
			}
			if len(b.wake) != 1 {
				t.Errorf("got %d wake-ups, want one", len(b.wake))
			}
		})
	}
}

func TestBacklogOfNothingWakesNobody(t *testing.T) {
	b := newBacklog()
	o := newBatch()
	b.add(&o)
	if len(b.wake) != 0 {
		t.Error("got a wake-up, want none")
	}
}

func TestSeconds(t *testing.T) {
	const now = fdb.Time(1000 * time.Second)
	at := func(d time.Duration) fdb.Time { return now.Add(d) }
	for _, tt := range []struct {
		name      string
		st        standing
		withdrawn bool
		want      uint32
		told      bool
	}{
		{"gone", standing{}, true, 0, true},
		{"expired", standing{}, false, 0, false},
		{"rounded down", standing{local: true, own: true, until: at(2900 * time.Millisecond)}, false, 2, true},
		{"not to nothing", standing{local: true, own: true, until: at(time.Millisecond)}, false, 1, true},
		{"capped", standing{local: true, own: true, until: at(100000 * time.Second)}, false, vxfld.HoldtimeMax, true},
		{"65535 s are not static", standing{local: true, own: true, until: at(65535 * time.Second)}, false, vxfld.HoldtimeMax, true},
		{"static", standing{local: true, own: true, until: fdb.Never}, false, vxfld.HoldtimeStatic, true},
		{"registered alone", standing{local: true, until: at(time.Minute)}, false, 0, false},
		{"registered, static withdrawn", standing{local: true, until: at(time.Minute)}, true, 60, true},
		{"static elsewhere", standing{local: true, own: true, until: at(time.Minute), foreign: true}, false, 60, false},
		{"static here and elsewhere", standing{local: true, own: true, until: fdb.Never, foreign: true}, false, vxfld.HoldtimeStatic, true},
		{"withdrawn here, static elsewhere", standing{foreign: true}, true, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, told := tt.st.seconds(now, tt.withdrawn)
			if told != tt.told || told && got != tt.want {
				t.Errorf("got %d, told %v, want %d, told %v", got, told, tt.want, tt.told)
			}
		})
	}
}

func TestViaForgetsWhatLeftTheTable(t *testing.T) {
	var v via
	from := netip.MustParseAddr("10.9.9.9")
	a, b, c := member{1, netip.MustParseAddr("10.0.0.1")}, member{1, netip.MustParseAddr("10.0.0.2")}, member{1, netip.MustParseAddr("10.0.0.3")}
	if v.begin() {
		t.Error("got something to keep, want nothing")
	}
	v.end()
	v.told(a, from, netip.Addr{}, 0)
	v.told(b, from, netip.Addr{}, 0)
	if !v.begin() {
		t.Error("got nothing to keep, want something")
	}
	v.keep(a)
	v.keep(member{2, a.addr})
	v.told(c, from, netip.Addr{}, 0) // after the survey has passed its VNI
	v.end()
	g := &Group{}
	g.via.words = v.words
	for _, tt := range []struct {
		m    member
		want bool
	}{{a, true}, {b, false}, {c, true}, {member{2, a.addr}, false}} {
		if got, ok := g.Via(tt.m.vni, tt.m.addr); ok != tt.want || ok && got != from {
			t.Errorf("%v: got %v, %v, want known: %v", tt.m, got, ok, tt.want)
		}
	}
}
